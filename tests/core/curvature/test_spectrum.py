"""Lanczos, spectral density and traces against matrices whose spectrum is known."""

import math

import pytest
import torch
from torch import Tensor

from core.curvature import Hessian, classify_point, eigenvalues, hutch_pp, lanczos, spectral_density
from core.curvature.spectrum import UNLIKELY, Ritz


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def matrix(spectrum: Tensor, seed: int = 0) -> Tensor:
    """A symmetric matrix in a random basis."""
    n = len(spectrum)
    basis, _ = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=rng(seed)))
    product = basis @ spectrum.double().diag() @ basis.T
    return (product + product.T) / 2


def outliers(n: int = 200) -> Tensor:
    """A bulk in [0, 1] and three large eigenvalues, as a classifier's Hessian has them."""
    return torch.cat([torch.linspace(0, 1, n - 3), torch.tensor([5.0, 10.0, 20.0])]).double()


def test_the_three_largest_of_200_eigenvalues_are_found_in_12_steps():
    a = matrix(outliers())
    found = eigenvalues(lambda v: a @ v, 200, rng(), steps=12, top=3, bottom=0)
    assert found.top.tolist() == pytest.approx([20, 10, 5], rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_80_steps_find_no_eigenvalue_twice(dtype):
    a = matrix(outliers()).to(dtype)
    found = lanczos(lambda v: a @ v.to(dtype), 200, 80, rng())
    assert int((found.ritz().values > 1.01).sum()) == 3
    gram = found.basis @ found.basis.T
    torch.testing.assert_close(gram, torch.eye(80, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_basis_turns_the_matrix_into_the_tridiagonal_one():
    a = matrix(outliers(40))
    found = lanczos(lambda v: a @ v, 40, 15, rng())
    t = found.alphas.diag() + found.betas[:-1].diag(1) + found.betas[:-1].diag(-1)
    torch.testing.assert_close(found.basis @ a @ found.basis.T, t, rtol=0, atol=1e-12)


def test_as_many_steps_as_the_size_give_the_whole_spectrum():
    spectrum = torch.tensor([-3.0, -0.5, 0.25, 1.0, 7.0], dtype=torch.float64)
    a = matrix(spectrum)
    found = lanczos(lambda v: a @ v, 5, 50, rng())
    torch.testing.assert_close(found.ritz().values, spectrum)
    assert len(found.alphas) == 5


def test_every_value_is_within_its_bound_of_an_eigenvalue_and_converged_says_so():
    spectrum = torch.linspace(-2, 5, 100).double() ** 3
    a = matrix(spectrum)
    for steps in (3, 6, 12, 25):
        ritz = lanczos(lambda v: a @ v, 100, steps, rng(steps)).ritz()
        distance = (ritz.values[:, None] - spectrum).abs().amin(1)
        assert bool((distance <= ritz.bounds + 1e-10).all())
    early = eigenvalues(lambda v: a @ v, 100, rng(), steps=100, tolerance=1e-3)
    assert early.converged
    assert early.products < 60
    assert abs(float(early.top[0]) - 125) <= 0.125
    assert abs(float(early.bottom[0]) + 8) <= 0.125
    assert not eigenvalues(lambda v: a @ v, 100, rng(), steps=4, tolerance=1e-3).converged


@pytest.mark.parametrize("steps", [2, 5, 8])
@pytest.mark.parametrize(("top", "bottom"), [(1, 0), (0, 1), (3, 1), (6, 1), (1, 6), (9, 9)])
def test_converged_speaks_of_the_very_values_that_are_returned_however_few_there_are(steps, top, bottom):
    a = matrix(torch.tensor([-9.0, -1.0, -0.9, 0.0, 0.3, 0.4, 4.0, 30.0]))
    found = eigenvalues(lambda v: a @ v, 8, rng(), steps=steps, top=top, bottom=bottom)
    ritz = lanczos(lambda v: a @ v, 8, steps, rng()).ritz()
    order = ritz.values.argsort(descending=True)
    torch.testing.assert_close(found.top, ritz.values[order[:top]], rtol=0, atol=0)
    torch.testing.assert_close(found.top_bounds, ritz.bounds[order[:top]], rtol=0, atol=0)
    torch.testing.assert_close(found.bottom_bounds, ritz.bounds[order.flip(0)[:bottom]], rtol=0, atol=0)
    bounds = torch.cat([found.top_bounds, found.bottom_bounds]) / ritz.values.abs().max()
    for tolerance in (*(bounds * 1.01).tolist(), *(bounds * 0.99).tolist()):
        options = {"top": top, "bottom": bottom, "tolerance": tolerance}
        again = eigenvalues(lambda v: a @ v, 8, rng(), steps=steps, **options)
        if again.products == found.products:
            assert again.converged == bool((bounds <= tolerance).all())


def test_eigenvectors_are_returned_when_asked_for():
    a = matrix(torch.linspace(-1, 1, 30).double() ** 3)
    found = eigenvalues(lambda v: a @ v, 30, rng(), steps=30, top=2, bottom=2, vectors=True)
    assert found.top_vectors is not None
    assert found.bottom_vectors is not None
    for values, vectors in ((found.top, found.top_vectors), (found.bottom, found.bottom_vectors)):
        torch.testing.assert_close(vectors @ a, values[:, None] * vectors, rtol=0, atol=1e-10)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2, dtype=torch.float64))
    assert found.top[0] > found.top[1] > found.bottom[1] > found.bottom[0]


def test_an_invariant_subspace_ends_the_search():
    spectrum = torch.cat([torch.full((20,), 2.0), torch.full((30,), -1.0)]).double()
    a = matrix(spectrum)
    found = lanczos(lambda v: a @ v, 50, 10, rng())
    torch.testing.assert_close(found.ritz().values, torch.tensor([-1.0, 2.0], dtype=torch.float64))
    assert found.betas[-1] == 0
    identity = eigenvalues(lambda v: v, 6, rng(), steps=4, top=2, bottom=2)
    assert (identity.top.tolist(), identity.bottom.tolist()) == ([1.0], [1.0])
    zero = eigenvalues(torch.zeros_like, 6, rng(), steps=4)
    assert (zero.top.tolist(), zero.top_bounds.tolist(), zero.products) == ([0.0], [0.0], 1)


def test_a_start_of_ones_own_decides_what_is_seen():
    a = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    start = torch.tensor([1.0, 1.0, 0.0])
    found = lanczos(lambda v: a @ v, 3, 3, rng(), start=start)
    torch.testing.assert_close(found.ritz().values, torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert start.tolist() == [1.0, 1.0, 0.0]
    with pytest.raises(ValueError, match="a start that is not zero"):
        lanczos(lambda v: a @ v, 3, 3, rng(), start=torch.zeros(3))


def test_only_the_generator_decides_and_the_global_one_is_not_touched():
    a = matrix(outliers(50))
    before = torch.random.get_rng_state()
    first, second, other = (lanczos(lambda v: a @ v, 50, 5, rng(s)).ritz().values for s in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    hutch_pp(lambda v: a @ v, 50, rng(), products=6)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_product_that_is_not_finite_stops_it():
    with pytest.raises(FloatingPointError, match="non-finite"):
        lanczos(lambda v: v * math.nan, 4, 3, rng())
    with pytest.raises(ValueError, match="steps and size >= 1"):
        lanczos(lambda v: v, 4, 0, rng())


@pytest.mark.parametrize(
    ("values", "share"),
    [
        ([-2.0, -0.101, -0.099, 0.05, 1.0, 10.0], 0.1 + 0.2),  # the border is at -0.1
        ([-100.0, -0.5, 0.5, 1.0, 2.0, 3.0], 0.1),  # and here at -1: the largest magnitude is negative
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 0.0),
    ],
)
def test_the_negative_share_counts_what_lies_below_a_hundredth_of_the_largest_magnitude(values, share):
    weights = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.15, 0.1])
    assert Ritz(torch.tensor(values), torch.zeros(6), weights).negative_share == pytest.approx(share)


def test_the_density_integrates_to_one_and_lies_where_the_eigenvalues_are():
    a = matrix(outliers())
    density = spectral_density(lambda v: a @ v, 200, rng(), steps=60, probes=20)
    assert float(torch.trapezoid(density.density, density.grid)) == pytest.approx(1, abs=1e-12)
    assert float(density.weights.sum()) == pytest.approx(1, abs=1e-12)
    upper = density.grid > 3
    mass = float(torch.trapezoid(density.density[upper], density.grid[upper]))
    assert mass == pytest.approx(3 / 200, rel=0.5)
    assert float(density.weights[density.nodes < 0.5].sum()) == pytest.approx(98.5 / 200, abs=0.05)


def test_the_densitys_moments_are_those_of_the_spectrum():
    spectrum = torch.linspace(-1, 2, 300).double()
    a = matrix(spectrum)
    density = spectral_density(lambda v: a @ v, 300, rng(), steps=10, probes=200)
    for power in range(1, 6):
        estimate = float(density.weights @ density.nodes**power)
        spread = float((spectrum**power).std()) * (2 / 300 / 200) ** 0.5
        assert abs(estimate - float((spectrum**power).mean())) < 4 * spread
    mean = torch.trapezoid(density.grid * density.density, density.grid)
    assert float(mean) == pytest.approx(float(density.weights @ density.nodes), abs=1e-9)


def test_a_multiple_of_the_identity_has_a_density_too():
    density = spectral_density(lambda v: 4 * v, 10, rng(), steps=5)
    assert float(torch.trapezoid(density.density, density.grid)) == pytest.approx(1)
    assert float(density.grid[density.density.argmax()]) == pytest.approx(4, abs=0.01)


def test_a_peak_has_the_width_that_was_asked_for():
    """Eigenvalues 0 and 10 with a width of 0.02: two Gaussians of deviation 0.2, each of half the mass."""
    diagonal = torch.tensor([0.0] * 5 + [10.0] * 5, dtype=torch.float64)
    found = spectral_density(lambda v: diagonal * v, 10, rng(), steps=5, points=20_000, width=0.02)
    for centre in (0.0, 10.0):
        near = (found.grid - centre).abs() < 1.5
        mass = torch.trapezoid(found.density[near], found.grid[near])
        square = torch.trapezoid(found.density[near] * (found.grid[near] - centre).square(), found.grid[near])
        assert float((square / mass).sqrt()) == pytest.approx(0.2, rel=1e-3)


def test_the_error_of_a_trace_from_two_samples_is_right_on_average():
    """The mean of its square is the variance of the value; without Bessel's correction it would be half."""
    a = matrix(torch.linspace(0.1, 3, 40))
    runs = [hutch_pp(lambda v: a @ v, 40, rng(s), products=6) for s in range(1500)]
    values = torch.tensor([run.value for run in runs], dtype=torch.float64)
    claimed = torch.tensor([run.error**2 for run in runs], dtype=torch.float64).mean()
    assert float(claimed / values.var()) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("signs", ["positive", "indefinite"])
def test_traces_are_unbiased_and_the_standard_error_is_right(signs):
    spectrum = torch.linspace(0.1, 3, 60).double() ** 3
    if signs == "indefinite":
        spectrum = spectrum * torch.where(torch.arange(60) % 3 == 0, -1.0, 1.0)
    a = matrix(spectrum)
    runs = [hutch_pp(lambda v: a @ v, 60, rng(s), products=24) for s in range(200)]
    values = torch.tensor([run.value for run in runs], dtype=torch.float64)
    assert abs(float(values.mean() - spectrum.sum())) < 3 * float(values.std()) / 200**0.5
    claimed = torch.tensor([run.error**2 for run in runs]).mean().sqrt()
    assert float(claimed) == pytest.approx(float(values.std()), rel=0.2)


def test_hutch_pp_is_exact_for_a_low_rank_and_beats_random_signs_alone_on_a_decaying_spectrum():
    low = torch.zeros(80, dtype=torch.float64)
    low[:4] = torch.tensor([9.0, -4.0, 2.0, 1.0])
    a = matrix(low)
    found = hutch_pp(lambda v: a @ v, 80, rng(), products=15)
    assert found.value == pytest.approx(8.0, abs=1e-9)
    assert found.error < 1e-9
    decaying = torch.arange(1, 81).double() ** -2.0
    b = matrix(decaying)
    trace = float(decaying.sum())
    square = sum((hutch_pp(lambda v: b @ v, 80, rng(s), products=30).value - trace) ** 2 for s in range(40))
    # Hutchinson's mean of z^T B z over 30 vectors of signs has variance 2 (|B|_F^2 - sum_i B_ii^2) / 30.
    variance = float(2 * (b - b.diag().diag()).square().sum() / 30)
    assert square / 40 < variance / 10
    small = hutch_pp(lambda v: 3 * v, 2, rng(), products=9)
    assert small.value == pytest.approx(6.0)


def test_too_few_products_are_refused():
    with pytest.raises(ValueError, match="at least 6 products"):
        hutch_pp(lambda v: v, 5, rng(), products=5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lowest", [-2e-4, -1e-3, -1e-2])
def test_a_small_negative_eigenvalue_beside_many_zeros_is_found_from_every_start(lowest, dtype):
    curvatures = torch.cat([torch.zeros(300), torch.logspace(-2, 0, 5), torch.tensor([lowest])]).to(dtype)
    x = torch.zeros(306, dtype=dtype, requires_grad=True)
    hessian = Hessian(0.5 * (curvatures * x.square()).sum(), [x])
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        found = classify_point(hessian, generator, eps=1e-4)
        assert (found.kind, found.converged) == ("saddle", True)
        assert found.lowest == pytest.approx(lowest, rel=1e-2)
        ends = eigenvalues(hessian, 306, generator, steps=100, tolerance=1e-4)
        assert ends.bottom[0] == pytest.approx(lowest, abs=1e-4)
        assert ends.products < 50


def test_a_krylov_space_excludes_only_eigenvalues_that_are_at_a_right_angle_to_its_start():
    spectrum = torch.cat([torch.linspace(0, 1, 60), torch.tensor([-0.05, 1.2])]).double()
    excluded = right = 0
    for seed in range(100):
        for steps in (2, 5, 10, 20):
            found = lanczos(lambda v: spectrum * v, 62, steps, torch.Generator().manual_seed(seed))
            for place, end in ((60, 0), (61, -1)):
                value = float(spectrum[place])
                if abs(float(found.ritz().values[end]) - value) > 1e-6:  # not found yet
                    excluded += found.excludes(value)
                    right += found.excludes(value) and abs(found.basis[0, place]) <= UNLIKELY / 62**0.5
    assert excluded == right
    assert excluded <= 0.02 * 800
    assert found.excludes(-0.1)
    assert found.excludes(1.25)
