"""`gradgan.penalties`: against closed forms, by finite differences, at zero gradient, and lazily."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from gradgan.batch import ScoredBatch
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.penalties import Penalty
from gradgan.penalties.one_centred import DRAGAN, WGANGP
from gradgan.penalties.zero_centred import R1, R1R2, R2, squared_gradient_norms

Discriminate = Callable[[Tensor], Tensor]

ZERO = {"gamma": 0.7, "final": 1.0, "interval": 1}
ONE_CENTRED = [WGANGP(weight=10.0, interval=1), DRAGAN(weight=10.0, interval=1, spread=0.5)]
ALL = [R1(**ZERO), R2(**ZERO), R1R2(**ZERO), *ONE_CENTRED]
every_penalty = pytest.mark.parametrize("penalty", ALL, ids=lambda p: type(p).__name__)
one_centred = pytest.mark.parametrize("penalty", ONE_CENTRED, ids=lambda p: type(p).__name__)


def batch(seed: int = 0, count: int = 6) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, generator=random, dtype=torch.float64).requires_grad_()


def seen(
    discriminate: Discriminate,
    real: Tensor | None = None,
    fake: Tensor | None = None,
    *,
    fake_discriminate: Discriminate | None = None,
    progress: float = 0.0,
) -> ScoredBatch:
    """A round of these samples; a discriminator may see the fake ones otherwise, to tell both apart."""
    real = batch(1) if real is None else real
    fake = batch(2) if fake is None else fake
    return ScoredBatch(
        discriminate=discriminate,
        real=real,
        real_logits=discriminate(real),
        fake=fake,
        fake_logits=(fake_discriminate or discriminate)(fake),
        progress=progress,
        random=torch.Generator().manual_seed(3),
    )


def linear(weight: Tensor) -> Discriminate:
    return lambda x: x @ weight


def smooth(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """A small discriminator with fixed weights and a gradient that differs from place to place."""
    network = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0)).to(dtype)
    random = torch.Generator().manual_seed(0)
    for p in network.parameters():
        p.data = (0.5 * torch.randn(p.shape, generator=random, dtype=torch.float64)).to(dtype)
    return network


def test_a_linear_discriminator_has_the_squared_norm_of_its_weights() -> None:
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    x = batch()
    norm = squared_gradient_norms(x @ weight, x).mean()
    (gradient,) = torch.autograd.grad(norm, weight)
    assert norm.item() == pytest.approx(5.25)
    assert gradient.tolist() == pytest.approx((2 * weight).tolist())


def test_a_quadratic_discriminator_has_the_mean_squared_norm_of_its_inputs() -> None:
    curvature = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    x = batch()
    logits = 0.5 * curvature * x.square().sum(dim=1)
    norms = squared_gradient_norms(logits, x)
    squares = x.detach().square().sum(dim=1)
    assert norms.tolist() == pytest.approx((1.5**2 * squares).tolist())
    (gradient,) = torch.autograd.grad(norms.mean(), curvature)
    assert gradient.item() == pytest.approx(2 * 1.5 * squares.mean().item())


def test_images_are_one_vector_each() -> None:
    x = torch.ones(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert squared_gradient_norms(2 * x.sum(dim=(1, 2, 3)), x).tolist() == pytest.approx([4 * 48] * 2)


def test_r1_looks_at_real_samples_r2_at_fake_ones_and_both_add_up() -> None:
    shown = seen(lambda x: x.square().sum(1), fake_discriminate=lambda x: (2 * x).sum(1))
    r1 = 0.35 * 4 * shown.real.detach().square().sum(1).mean().item()
    r2 = 0.35 * 12
    assert R1(**ZERO)(shown)[0].item() == pytest.approx(r1)
    assert R2(**ZERO)(shown)[0].item() == pytest.approx(r2)
    assert R1R2(**ZERO)(shown)[0].item() == pytest.approx(r1 + r2)


@pytest.mark.parametrize(("cls", "real", "fake"), [(R1, True, False), (R2, False, True), (R1R2, True, True)])
def test_a_zero_centred_penalty_needs_a_gradient_only_where_it_says(
    cls: type[R1], real: bool, fake: bool
) -> None:
    assert (cls.on_real, cls.on_fake) == (real, fake)
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    shown = seen(
        linear(weight), batch(1).detach().requires_grad_(real), batch(2).detach().requires_grad_(fake)
    )
    assert cls(**ZERO)(shown)[0].item() == pytest.approx(0.35 * 3 * (real + fake))


@one_centred
def test_a_one_centred_penalty_wants_the_norm_of_a_linear_discriminators_weights_to_be_one(
    penalty: Penalty,
) -> None:
    assert not penalty.on_real
    assert not penalty.on_fake
    weight = torch.tensor([2.0, -2.0, 1.0], dtype=torch.float64, requires_grad=True)  # of norm 3
    term, metrics = penalty(seen(linear(weight), batch(1).detach(), batch(2).detach()))
    (gradient,) = torch.autograd.grad(term, weight)
    assert term.item() == pytest.approx(10 * (3 - 1) ** 2, rel=1e-10)
    assert gradient.tolist() == pytest.approx((10 * 2 * (3 - 1) * weight.detach() / 3).tolist(), rel=1e-10)
    assert metrics["penalty/slope"].item() == pytest.approx(3.0, rel=1e-10)


@one_centred
def test_a_slope_of_one_costs_nothing_and_is_a_minimum(penalty: Penalty) -> None:
    weight = torch.tensor([0.6, 0.0, -0.8], dtype=torch.float64, requires_grad=True)
    term, _ = penalty(seen(linear(weight)))
    (gradient,) = torch.autograd.grad(term, weight)
    assert term.item() == pytest.approx(0.0, abs=1e-20)
    assert gradient.tolist() == pytest.approx([0.0] * 3, abs=1e-10)


def test_of_a_quadratic_discriminator_it_is_the_mean_over_single_samples() -> None:
    """D = c |x|^2 / 2 has the norm c |x| at the points that the penalty chooses."""
    shown = seen(lambda x: 0.75 * x.square().sum(1))
    points = WGANGP(weight=10.0, interval=1).points(shown).tolist()
    expected = sum((1.5 * sum(v * v for v in x) ** 0.5 - 1) ** 2 for x in points) / len(points)
    term, _ = WGANGP(weight=10.0, interval=1)(seen(lambda x: 0.75 * x.square().sum(1)))
    assert term.item() == pytest.approx(10 * expected, rel=1e-10)


def test_wgan_gp_looks_between_each_real_sample_and_its_fake() -> None:
    real, fake = batch(1, 2000).detach(), batch(2, 2000).detach()
    points = WGANGP(weight=1.0, interval=1).points(seen(linear(torch.ones(3).double()), real, fake))
    shares = (points - real) / (fake - real)
    assert torch.allclose(shares, shares[:, :1].expand(-1, 3), atol=1e-9)  # one share for all elements
    share = shares[:, 0]
    assert share.min() >= 0
    assert share.max() <= 1
    assert share.mean().item() == pytest.approx(0.5, abs=0.02)  # 3 deviations of the mean of 2,000
    assert share.var().item() == pytest.approx(1 / 12, abs=0.006)


def test_dragan_looks_around_the_real_samples_only() -> None:
    real = 3 * batch(1, 2000).detach()
    penalty = DRAGAN(weight=1.0, interval=1, spread=0.5)
    points = penalty.points(seen(linear(torch.ones(3).double()), real, 100 + batch(2, 2000).detach()))
    values = real.flatten().tolist()
    middle = sum(values) / len(values)
    deviation = (sum((v - middle) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    shares = (points - real) / (0.5 * deviation)
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert shares.mean().item() == pytest.approx(0.5, abs=0.012)  # 3 deviations of the mean of 6,000
    assert torch.corrcoef(shares.T)[0, 1].abs().item() < 0.07  # each element moves by itself


@every_penalty
def test_its_gradient_agrees_with_finite_differences_of_the_weights(penalty: Penalty) -> None:
    network = smooth()
    weights = tuple(p.detach().clone().requires_grad_() for p in network.parameters())
    real, fake = batch(1), batch(2)

    def term(*values: Tensor) -> Tensor:
        parameters = dict(zip(dict(network.named_parameters()), values, strict=True))
        return penalty(seen(lambda x: torch.func.functional_call(network, parameters, (x,)), real, fake))[0]

    assert torch.autograd.gradcheck(term, weights)


@every_penalty
def test_its_second_derivatives_agree_with_finite_differences(penalty: Penalty) -> None:
    """Schemes that see the game as a whole, and curvature, take the gradient's gradient."""
    weight = torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64, requires_grad=True)
    real, fake = batch(1), batch(2)

    def term(value: Tensor) -> Tensor:
        return penalty(seen(lambda x: torch.tanh(x @ value) + 0.1 * x.square().sum(1), real, fake))[0]

    assert torch.autograd.gradgradcheck(term, (weight,))


@pytest.mark.parametrize(
    "penalty", [R2(**ZERO), R1R2(**ZERO), ONE_CENTRED[0]], ids=lambda p: type(p).__name__
)
def test_samples_with_a_graph_carry_it_on_to_the_generator(penalty: Penalty) -> None:
    theta = torch.tensor([0.3, -0.1, 0.2], dtype=torch.float64, requires_grad=True)
    network = smooth()
    noise = batch(2).detach()

    def term(value: Tensor) -> Tensor:
        return penalty(seen(network, batch(1), noise * value))[0]

    assert torch.autograd.gradcheck(term, (theta,))
    (gradient,) = torch.autograd.grad(term(theta), theta)
    assert gradient.abs().min() > 1e-4


@every_penalty
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_zero_gradient_gives_finite_first_and_second_derivatives(
    penalty: Penalty, dtype: torch.dtype
) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0)).to(dtype)
    nn.init.zeros_(network[2].weight)
    parameters = tuple(network.parameters())
    shown = seen(
        network, batch(1).detach().to(dtype).requires_grad_(), batch(2).detach().to(dtype).requires_grad_()
    )
    term, metrics = penalty(shown)
    gradients = torch.autograd.grad(term, parameters, create_graph=True, materialize_grads=True)
    # Only gradients that still have a graph can be differentiated again; the others are constant.
    sizes = [g.square().sum() + g.sum() for g in gradients if g.requires_grad]
    seconds = torch.autograd.grad(torch.stack(sizes).sum(), parameters, materialize_grads=True)
    assert term.dtype == dtype
    assert term.item() == pytest.approx(10.0 if penalty in ONE_CENTRED else 0.0, rel=1e-5)
    assert [g.abs().max().item() for g in gradients] == [0.0] * 4
    assert all(g.isfinite().all() for g in seconds)
    assert all(value.isfinite() for value in metrics.values())


@every_penalty
def test_float32_agrees_with_float64(penalty: Penalty) -> None:
    def term(dtype: torch.dtype) -> float:
        random = torch.Generator().manual_seed(0)
        real, fake = (torch.randn(8, 3, generator=random).to(dtype).requires_grad_() for _ in range(2))
        return penalty(seen(smooth(dtype), real, fake))[0].item()

    assert term(torch.float32) == pytest.approx(term(torch.float64), rel=1e-5)


@every_penalty
def test_generated_samples_may_be_of_lower_precision(penalty: Penalty) -> None:
    """Under autocast a generator makes bfloat16, and real samples are float32."""
    network = smooth(torch.float32)
    real = batch(1).detach().float().requires_grad_()
    fake = batch(2).detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        term, _ = penalty(seen(network, real, fake))
        gradients = torch.autograd.grad(term, tuple(network.parameters()), materialize_grads=True)
    exact, _ = penalty(seen(smooth(), batch(1), batch(2)))
    assert term.item() == pytest.approx(exact.item(), rel=0.05)
    assert all(g.isfinite().all() for g in gradients)


@every_penalty
@pytest.mark.parametrize("interval", [1, 2, 16])
def test_a_lazy_penalty_has_the_same_mean_over_updates(penalty: Penalty, interval: int) -> None:
    lazy = replace(penalty, interval=interval)
    due = [update for update in range(64) if lazy.due(update)]
    assert due == list(range(0, 64, interval))
    total = sum(lazy(seen(smooth()))[0].item() for _ in due)
    every = penalty(seen(smooth()))[0].item()
    assert total / 64 == pytest.approx(every)


def test_the_strength_of_a_zero_centred_penalty_falls_along_half_a_cosine() -> None:
    penalty = R1(gamma=2.0, final=0.1, interval=1)
    assert [penalty.strength(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([2.0, 1.1, 0.2])
    ones = linear(torch.ones(3, dtype=torch.float64))
    terms = [penalty(seen(ones, progress=p))[0].item() for p in (0.0, 0.5, 1.0)]
    assert terms == pytest.approx([3.0, 1.65, 0.3])


def test_zero_centred_penalties_report_root_mean_square_norms_without_gamma() -> None:
    _, metrics = R1R2(**ZERO)(seen(lambda x: (3 * x).sum(1), fake_discriminate=lambda x: x.sum(1)))
    assert metrics["penalty/real_gradient"].item() == pytest.approx(27**0.5)
    assert metrics["penalty/fake_gradient"].item() == pytest.approx(3**0.5)


def test_one_centred_penalties_report_the_mean_norm_without_weight_or_interval() -> None:
    lazy = WGANGP(weight=3.0, interval=4)
    shown = seen(lambda x: 0.5 * x.square().sum(1))
    points = lazy.points(shown)
    _, metrics = lazy(seen(lambda x: 0.5 * x.square().sum(1)))
    assert metrics["penalty/slope"].item() == pytest.approx(points.norm(dim=1).mean().item())
    assert not metrics["penalty/slope"].requires_grad


@pytest.mark.parametrize(("gamma", "real", "imaginary"), [(0.5, -0.25, 0.433), (1.0, -0.5, 0.0)])
def test_r1_turns_the_dirac_gans_circles_into_a_way_home(gamma: float, real: float, imaginary: float) -> None:
    """Eigenvalues -gamma / 2 +- sqrt(gamma^2 / 4 - 1 / 4) at its equilibrium, with the logistic loss."""
    loss, penalty = NonSaturating(), R1(gamma=gamma, final=1.0, interval=1)

    def field(point: Tensor) -> Tensor:
        psi, theta = point
        x = torch.zeros(4, 1, dtype=torch.float64, requires_grad=True)
        shown = seen(lambda x: psi * x[:, 0], x, theta.expand(4, 1))
        of_discriminator = loss.discriminator(shown.real_logits, shown.fake_logits) + penalty(shown)[0]
        (of_psi,) = torch.autograd.grad(of_discriminator, psi, create_graph=True)
        (of_theta,) = torch.autograd.grad(loss.generator(shown.fake_logits), theta, create_graph=True)
        return -torch.stack([of_psi, of_theta])

    origin = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    eigenvalues = torch.linalg.eigvals(torch.autograd.functional.jacobian(field, origin))
    assert eigenvalues.real.tolist() == pytest.approx([real, real], abs=1e-6)
    assert sorted(eigenvalues.imag.tolist()) == pytest.approx([-imaginary, imaginary], abs=1e-3)


@pytest.mark.parametrize("psi", [0.2, -0.2])
def test_wgan_gp_pushes_the_dirac_gans_flat_discriminator_away_from_the_equilibrium(psi: float) -> None:
    """It wants |psi| = 1, not 0: the reason why it does not converge (Mescheder et al. 2018)."""
    slope = torch.tensor([psi], dtype=torch.float64, requires_grad=True)
    real = torch.zeros(4, 1, dtype=torch.float64)
    shown = seen(lambda x: x @ slope, real, real + 0.5)
    (gradient,) = torch.autograd.grad(WGANGP(weight=10.0, interval=1)(shown)[0], slope)
    assert gradient.item() == pytest.approx(20 * (abs(psi) - 1) * (1 if psi > 0 else -1), rel=1e-8)


@pytest.mark.parametrize(
    ("name", "value"), [("gamma", -1.0), ("gamma", float("nan")), ("final", 1.5), ("interval", 0)]
)
def test_zero_centred_options_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        R1(**{**ZERO, name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("weight", -1.0), ("weight", float("nan")), ("interval", 0), ("spread", 0.0)]
)
def test_one_centred_options_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        DRAGAN(**{"weight": 10.0, "interval": 1, "spread": 0.5, name: value})
