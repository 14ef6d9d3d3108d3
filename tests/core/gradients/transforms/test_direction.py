"""Centralisation, noise and surgery against their definitions."""

import itertools
import math
import random

import pytest
import torch

from core.gradients import Centralize, GradientNoise, GradientView, PCGrad


def view(*gradients: torch.Tensor) -> GradientView:
    return GradientView([f"layer{i}" for i in range(len(gradients))], list(gradients), list(gradients))


def test_centralising_takes_away_every_rows_mean_and_leaves_vectors():
    generator = torch.Generator().manual_seed(0)
    matrix, kernel, bias = (torch.randn(s, generator=generator) for s in [(4, 3), (5, 2, 3, 3), (6,)])
    before = [x.double() for x in (matrix, kernel, bias)]
    seen = view(matrix, kernel, bias)
    norm = seen.norm.item()
    Centralize()(seen, {})
    for row, old in zip(matrix.double(), before[0], strict=True):
        torch.testing.assert_close(row, old - old.mean(), rtol=0, atol=1e-6)
    for row, old in zip(kernel.double(), before[1], strict=True):
        torch.testing.assert_close(row, old - old.mean(), rtol=0, atol=1e-6)
    assert torch.equal(bias.double(), before[2])
    exact = math.sqrt(sum(g.double().square().sum().item() for g in (matrix, kernel, bias)))
    assert seen.norm.item() == pytest.approx(exact, rel=1e-6)
    assert exact < norm


def test_centralising_float16_rows_does_not_overflow():
    gradient = torch.full((2, 4000), 100.0, dtype=torch.float16)
    gradient[:, 0] = 200.0
    Centralize()(view(gradient), {})
    assert gradient[:, 0].tolist() == pytest.approx([100, 100], rel=1e-2)
    assert gradient[:, 1:].abs().max() < 0.1


def test_centralising_a_sparse_embedding_gradient_equals_centralising_it_dense():
    sparse = torch.sparse_coo_tensor([[0, 3]], [[1.0, 2.0, 6.0], [0.0, 3.0, 0.0]], (5, 3)).coalesce()
    dense = sparse.to_dense()
    Centralize()(view(dense), {})
    Centralize()(view(sparse), {})
    torch.testing.assert_close(sparse.to_dense(), dense)


def test_a_gradient_that_is_sparse_within_its_rows_is_refused_by_name():
    sparse = torch.sparse_coo_tensor([[0], [1]], [1.0], (2, 2)).coalesce()
    with pytest.raises(ValueError, match="gradient of layer0 is sparse in 2 dimensions"):
        Centralize()(view(sparse), {})


def test_the_noise_has_the_variance_of_the_paper_at_every_step():
    state, drawn = {}, []
    for step in range(4):
        gradients = view(torch.full((100, 200), 3.0), torch.zeros(20_000, dtype=torch.float64))
        GradientNoise(eta=0.3, gamma=0.55, seed=1)(gradients, state)
        variance = 0.3 / (1 + step) ** 0.55
        noise = torch.cat([gradients.values[0].flatten().double() - 3, gradients.values[1]])
        # 40,000 draws: the variance's own standard deviation is 0.7 %, the mean's 0.5 % of sigma.
        assert noise.var().item() == pytest.approx(variance, rel=0.035)
        assert abs(noise.mean().item()) < 0.025 * math.sqrt(variance)
        assert noise.div(math.sqrt(variance)).pow(4).mean().item() == pytest.approx(3.0, rel=0.1)
        drawn.append(noise)
    correlations = torch.corrcoef(torch.stack(drawn)) - torch.eye(4)
    assert correlations.abs().max() < 0.025


def test_the_noise_depends_on_seed_step_and_parameters_alone():
    def noise(seed=1, steps=1, names=("a",)):
        torch.manual_seed(random.randrange(2**31))
        torch.randn(3)
        state = {}
        for _ in range(steps):
            gradients = GradientView(names, [torch.zeros(8)], [torch.zeros(8)])
            GradientNoise(seed=seed)(gradients, state)
        return gradients.values[0].tolist()

    assert noise() == noise()
    assert len({tuple(noise(**other)) for other in ({}, {"seed": 2}, {"steps": 2}, {"names": ("b",)})}) == 4
    state = torch.get_rng_state()
    GradientNoise()(view(torch.zeros(5)), {})
    PCGrad().combine({"a": [torch.ones(2)], "b": [-torch.ones(2)]}, {})
    assert torch.equal(torch.get_rng_state(), state)


def flat(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([t.flatten().double() for t in tensors])


def pcgrad_reference(vectors: list[torch.Tensor], order: list[list[int]]) -> torch.Tensor:
    """Algorithm 1 of the paper on whole vectors."""
    total = torch.zeros_like(vectors[0])
    for i, own in enumerate(vectors):
        g = own.clone()
        for j in order[i]:
            if j != i and g.dot(vectors[j]) < 0:
                g -= g.dot(vectors[j]) / vectors[j].dot(vectors[j]) * vectors[j]
        total += g
    return total


def test_two_conflicting_losses_are_projected_onto_each_others_normal_plane():
    a, b = [torch.tensor([1.0, 0.0])], [torch.tensor([-1.0, 1.0])]
    (combined,) = PCGrad().combine({"a": a, "b": b}, {})
    assert combined.tolist() == pytest.approx([0.5, 1.5])  # (0.5, 0.5) + (0, 1)


@pytest.mark.parametrize("number", [2, 3])
def test_surgery_follows_the_paper_for_some_order_of_the_losses(number):
    """The order is drawn inside: every outcome must be that of one order, and in time there are several."""
    generator = torch.Generator().manual_seed(number)
    parts = torch.randn(number, 13, generator=generator)
    parts -= parts.mean(0) + 0.1  # every one now conflicts with the sum of the others
    losses = {f"loss{i}": [part[:6].view(2, 3) * 4**i, part[6:] * 4**i] for i, part in enumerate(parts)}
    vectors = [flat(tensors) for tensors in losses.values()]
    orders = itertools.product(itertools.permutations(range(number)), repeat=number)
    expected = torch.stack([pcgrad_reference(vectors, list(map(list, order))) for order in orders])
    assert (expected - sum(vectors)).norm(dim=1).min() > 0.1 * sum(vectors).norm()
    state, found = {}, set()
    for _ in range(60):
        combined = PCGrad(seed=3).combine(losses, state)
        assert [c.shape for c in combined] == [(2, 3), (7,)]
        distance = (expected - flat(combined)).norm(dim=1)
        assert distance.min() < 1e-5 * flat(combined).norm()
        found.add(round(flat(combined).norm().item(), 3))
    assert len(found) == (1 if number == 2 else len({round(e.norm().item(), 3) for e in expected}))


def test_losses_that_agree_and_one_loss_alone_keep_their_plain_sum():
    a, b = [torch.tensor([1.0, 2.0]), torch.zeros(0)], [torch.tensor([2.0, 0.5]), torch.zeros(0)]
    combined = PCGrad().combine({"a": a, "b": b}, {})
    assert torch.equal(combined[0], a[0] + b[0])
    assert torch.equal(PCGrad().combine({"a": a}, {})[0], a[0])


def test_conflict_is_judged_over_all_parameters_together():
    """One layer disagrees, the other outweighs it: nothing is projected."""
    a, b = [torch.tensor([1.0]), torch.tensor([3.0])], [torch.tensor([-1.0]), torch.tensor([3.0])]
    assert [g.item() for g in PCGrad().combine({"a": a, "b": b}, {})] == [0.0, 6.0]


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_non_finite_gradient_stays_in_its_own_parameter(poison):
    a = [torch.tensor([1.0]), torch.tensor([poison])]
    b = [torch.tensor([-1.0]), torch.tensor([-2.0])]
    combined = PCGrad().combine({"a": a, "b": b}, {})
    assert combined[0].item() == 0.0
    assert not combined[1].isfinite()


def test_a_loss_without_gradient_changes_nothing():
    a, zero = [torch.tensor([1.0, -2.0])], [torch.zeros(2)]
    (combined,) = PCGrad().combine({"a": a, "zero": zero}, {})
    assert combined.tolist() == [1.0, -2.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradientNoise(eta=-0.1), "eta must be a finite number >= 0"),
        (lambda: GradientNoise(eta=math.nan), "eta must be"),
        (lambda: GradientNoise(gamma=-1.0), "gamma must be"),
        (lambda: GradientNoise(seed=-1), "seed must be"),
        (lambda: PCGrad(seed=-1), "seed must be"),
    ],
)
def test_an_option_out_of_range_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
