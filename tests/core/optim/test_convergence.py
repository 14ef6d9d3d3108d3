"""Optimizers through `GradientStep` against the rates that theory gives."""

import pytest
import torch
from torch import nn

from core.config import Component
from core.gradients import GradientStep, MonitorConfig
from core.optim.factory import build_optimizer

MONITOR = MonitorConfig(sample_interval=1000)


def of(target: type, **options: object) -> Component:
    return Component(target, options, "optimizer")


def test_a_line_search_that_leaves_the_domain_is_undone_and_goes_on_with_a_shorter_step():
    x = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    chosen = of(torch.optim.LBFGS, lr=2.0, line_search_fn="strong_wolfe")
    step = GradientStep([("x", x)], build_optimizer(chosen, [("x", x)]), monitor=MONITOR)

    def closure():
        return ((x - 0.5).square() - 1e-3 * torch.log(1 - x)).sum(), {}  # NaN beyond 1, with a gradient

    step(closure)
    assert x.item() == 0.0
    assert step.monitor.drain()["gradient/skipped"] == 1.0
    step.set_lr_scale(0.1)
    for _ in range(3):
        step(closure)
    minimum = (1.5 - (0.25 + 2e-3) ** 0.5) / 2  # of 2 (x - 1/2) (1 - x) + 1e-3 = 0
    assert x.item() == pytest.approx(minimum, abs=1e-4)


def contraction(chosen: Component, eigenvalues: torch.Tensor, steps: int, measured_from: int) -> float:
    """Mean factor by which the distance to the minimum shrinks per step."""
    x = nn.Parameter(torch.ones_like(eigenvalues))
    step = GradientStep([("x", x)], build_optimizer(chosen, [("x", x)]), monitor=MONITOR)
    distances = []
    for _ in range(steps):
        step(lambda: (0.5 * (eigenvalues * x.square()).sum(), {}))
        distances.append(x.detach().norm().item())
    return (distances[-1] / distances[measured_from]) ** (1 / (steps - 1 - measured_from))


@pytest.mark.parametrize("condition", [10.0, 100.0, 1000.0])
def test_gradient_descent_contracts_by_k_minus_1_over_k_plus_1(condition):
    eigenvalues = torch.tensor([1.0, condition], dtype=torch.float64)
    rate = contraction(of(torch.optim.SGD, lr=2 / (1 + condition)), eigenvalues, 50, 0)
    assert rate == pytest.approx((condition - 1) / (condition + 1), abs=1e-6)


@pytest.mark.parametrize(("condition", "steps"), [(10.0, 200), (100.0, 200), (1000.0, 400)])
def test_heavy_ball_contracts_by_sqrt_k_minus_1_over_sqrt_k_plus_1(condition, steps):
    root = condition**0.5
    rate = (root - 1) / (root + 1)
    chosen = of(torch.optim.SGD, lr=4 / (root + 1) ** 2, momentum=rate**2)
    eigenvalues = torch.tensor([1.0, condition], dtype=torch.float64)
    # A double root: distances are t rate^t, and over the second half the factor t is worth 2^(2 / steps).
    assert contraction(chosen, eigenvalues, steps, steps // 2) == pytest.approx(rate, rel=0.01)
