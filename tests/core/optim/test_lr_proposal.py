"""Learning rates proposed from range test, sharpness and noise."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from core.gradients import GradientStep, Objective, SkipNonFinite
from core.optim.lr_proposal import STEPS, propose_lr, range_test, read_range_test

pytestmark = pytest.mark.usefixtures("blank_figures")


class Point(nn.Module):
    def __init__(self, *x: float) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor(x, dtype=torch.float64))

    def forward(self) -> torch.Tensor:
        return self.x


def quadratic() -> Objective:
    """f = (x^2 + 20 y^2) / 2: curvatures 1 and 20; the two samples differ by a constant slope."""
    scale = torch.tensor([1.0, 20.0], dtype=torch.float64)
    slopes = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    point = Point(3.0, -2.0)
    return Objective(
        point, lambda forward, s: 0.5 * scale @ forward() ** 2 + (s @ forward()).mean(), (slopes,)
    )


def sgd(momentum: float = 0.0):
    return lambda m, lr: GradientStep(m, torch.optim.SGD(m.parameters(), lr=lr, momentum=momentum))


def adam(m: nn.Module, lr: float) -> GradientStep:
    return GradientStep(m, torch.optim.Adam(m.parameters(), lr=lr))


@pytest.mark.parametrize(("momentum", "stable"), [(0.0, 2 / 20), (0.9, 3.8 / 20)])
def test_on_a_quadratic_the_bound_is_that_of_the_largest_curvature(momentum, stable):
    proposal = propose_lr(quadratic(), sgd(momentum), 2, torch.Generator().manual_seed(0))
    assert proposal.sharpness == pytest.approx(20.0, rel=1e-6)
    assert proposal.stable == pytest.approx(stable, rel=1e-6)
    assert proposal.lr < stable
    assert proposal.steepest is not None
    assert proposal.stable is not None
    assert proposal.lr == min(proposal.steepest, proposal.stable * proposal.noise_factor)
    assert proposal.steepest != proposal.stable * proposal.noise_factor


def test_noise_shortens_the_step_by_the_formula_of_mccandlish():
    # |G|^2 = 3^2 + 40^2 and tr Sigma = 2 (two samples, slopes +-1: sum of squares 2 over B - 1 = 1).
    proposal = propose_lr(quadratic(), sgd(), 1, torch.Generator().manual_seed(0))
    scale = 2 / (9 + 1600 - 2 / 2)
    assert proposal.noise_scale == pytest.approx(scale, rel=1e-6)
    assert proposal.noise_factor == pytest.approx(1 / (1 + scale), rel=1e-6)
    assert propose_lr(quadratic(), adam, 1, torch.Generator()).noise_factor == pytest.approx(
        (1 + scale) ** -0.5
    )


class Pair(nn.Module):
    """f = (x^2 + 20 y^2) / 2 in two parameters, so that they can be in two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.y = (nn.Parameter(torch.tensor([v], dtype=torch.float64)) for v in (3.0, -2.0))

    def forward(self) -> torch.Tensor:
        return torch.cat([self.x, self.y])


def in_two_groups(kind, own: float):
    """An optimizer in which y has a rate of its own."""

    def make_step(m: Pair, lr: float) -> GradientStep:
        return GradientStep(m, kind([{"params": [m.x]}, {"params": [m.y], "lr": own}], lr=lr))

    return make_step


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_group_with_a_rate_of_its_own_keeps_it_while_the_others_is_looked_for(kind):
    batch = (torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64),)

    def loss(forward, s):
        point = forward()
        return 0.5 * torch.tensor([1.0, 20.0], dtype=torch.float64) @ point**2 + (s @ point).mean()

    alone = Objective(Pair(), loss, batch)
    alone.module.y.requires_grad_(False)
    alone = Objective(alone.module, loss, batch)
    expected = propose_lr(
        alone, lambda m, lr: GradientStep(m, kind([m.x], lr=lr)), 2, torch.Generator().manual_seed(0)
    )
    found = propose_lr(
        Objective(Pair(), loss, batch), in_two_groups(kind, 1e-3), 2, torch.Generator().manual_seed(0)
    )
    if kind is torch.optim.SGD:
        assert found.stable == pytest.approx(expected.stable, rel=1e-6)
        assert found.sharpness == pytest.approx(1.0, rel=1e-6)
    else:  # the eigenvalues of what Adam preconditions are not known from its first update
        assert found.stable is expected.stable is None
    assert found.steepest == pytest.approx(expected.steepest, rel=1e-6)
    assert found.exploding == expected.exploding
    with pytest.raises(ValueError, match="every parameter group has its own lr"):
        propose_lr(
            Objective(Pair(), loss, batch),
            lambda m, lr: GradientStep(m, kind(m.parameters(), lr=0.1)),
            2,
            torch.Generator(),
        )


def test_a_transform_that_stops_the_training_ends_the_range_test():
    overflow = Objective(
        Point(1.0), lambda forward, s: (forward() * 1e200).square().sum() + s.mean(), (torch.zeros(2),)
    )

    def stopping(m: nn.Module, lr: float) -> GradientStep:
        return GradientStep(m, torch.optim.SGD(m.parameters(), lr=lr), [SkipNonFinite(max_consecutive=3)])

    rates, losses = range_test(overflow, stopping, 2, torch.Generator())
    assert (len(rates), losses[-1]) == (4, math.inf)
    with pytest.raises(ValueError, match="finds no rate"):
        propose_lr(overflow, stopping, 2, torch.Generator())


def test_the_range_test_is_read_where_the_loss_falls_fastest():
    rates = [10.0**-i for i in range(12, 0, -1)]
    losses = [5.0, 5.0, 5.0, 5.0, 5.0, 4.9, 4.0, 2.0, 1.8, 1.7, 1.7, 9.0]
    # Five steps lose most from losses[4] to losses[9]: their middle is index 7.
    assert read_range_test(rates, losses) == (rates[7], rates[-1])
    flat = [1.0] * STEPS
    assert read_range_test([10.0**-i for i in range(STEPS, 0, -1)], flat) == (None, None)
    assert read_range_test(rates[:2], [1.0, math.inf]) == (None, rates[1])


@pytest.mark.parametrize("last", [30.0, 1e7, 1e30])
def test_a_finite_explosion_at_the_end_hides_no_fall(last):
    rates = [10.0**i for i in range(20)]
    losses = [8.0] * 6 + [7.0, 5.0, 3.0, 2.0, 1.5, 1.4] + [1.35] * 7 + [last]
    assert read_range_test(rates, losses) == (rates[8], rates[-1])  # 8 to 1.5: from step 5 to step 10
    level = [1.0 + 1e-9 * (i % 2) for i in range(19)]  # rounding is still no fall
    assert read_range_test(rates, [*level, last]) == (None, rates[-1])


def regression() -> tuple[Objective, nn.Module]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 8, generator=generator)
    y = torch.sin(x @ torch.randn(8, 1, generator=generator))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
    return Objective(net, lambda forward, x, y: mse_loss(forward(x), y), (x, y)), net


def trained(make_step, lr: float) -> float:
    """The loss after 200 steps on minibatches of 32."""
    objective, net = regression()
    step = make_step(net, lr)
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        rows = torch.randint(256, (32,), generator=generator)
        step(lambda rows=rows: (objective.on([part[rows] for part in objective.batch]), {}))
    loss = objective().item()
    return loss if math.isfinite(loss) else math.inf


@pytest.mark.slow
@pytest.mark.parametrize("make_step", [sgd(), sgd(0.9), adam], ids=["sgd", "momentum", "adam"])
def test_the_proposal_trains_nearly_as_well_as_the_best_rate_of_a_grid(make_step):
    objective, _ = regression()
    proposal = propose_lr(objective, make_step, 32, torch.Generator().manual_seed(0))
    best = min(trained(make_step, 10.0**e) for e in (-4, -3, -2, -1, 0))
    assert trained(make_step, proposal.lr) <= 1.25 * best


def test_looking_for_a_rate_changes_nothing():
    objective, net = regression()
    before, state = [p.clone() for p in net.parameters()], torch.get_rng_state()
    first, second = (propose_lr(objective, adam, 32, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first == second
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_without_any_evidence_it_says_so():
    flat = Objective(Point(1.0, 1.0), lambda forward, s: 0.0 * forward().sum(), (torch.zeros(2),))
    with pytest.raises(ValueError, match="finds no rate"):
        propose_lr(flat, sgd(), 1, torch.Generator())
    with pytest.raises(ValueError, match="batch_size"):
        propose_lr(quadratic(), sgd(), 0, torch.Generator())


def test_the_range_test_ends_with_the_explosion():
    rates, losses = range_test(quadratic(), sgd(), 2, torch.Generator().manual_seed(0))
    assert len(rates) < STEPS
    assert 0.1 < rates[-1] < 1.0  # 2 / 20 is where it begins; ten steps are a decade
    assert losses[-1] > losses[0]
