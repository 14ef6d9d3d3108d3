"""The optimizers to come, each in a tiny stand-in, through the one interface of GradientStep."""

from dataclasses import dataclass

import torch
from torch import nn

from core.gradients import GlobalNorm, GradientStep


class Point(nn.Module):
    """Parameters of a function of two numbers."""

    def __init__(self, x: float, y: float) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([x, y], dtype=torch.float64))


def rosenbrock(p: torch.Tensor) -> torch.Tensor:
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def test_lbfgs_calls_the_closure_as_often_as_it_likes():
    point, calls = Point(-1.2, 1.0), []
    step = GradientStep(
        point, torch.optim.LBFGS(point.parameters(), tolerance_change=1e-14, line_search_fn="strong_wolfe")
    )

    def closure():
        calls.append(1)
        return rosenbrock(point.p), {}

    for _ in range(8):
        step(closure)
    torch.testing.assert_close(point.p.detach(), torch.ones(2, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    assert len(calls) > 25


class Sam(torch.optim.Optimizer):
    """Stand-in for sharpness-aware minimisation: the gradient at the worst point within rho, from here."""

    def __init__(self, params, lr: float, rho: float) -> None:
        super().__init__(params, {"lr": lr, "rho": rho})

    def step(self, closure):
        (group,) = self.param_groups
        with torch.no_grad():
            moves = [p.grad * (group["rho"] / p.grad.norm()) for p in group["params"]]
            for p, move in zip(group["params"], moves, strict=True):
                p += move
        closure()
        with torch.no_grad():
            for p, move in zip(group["params"], moves, strict=True):
                p -= move
                p -= group["lr"] * p.grad


def test_sam_steps_with_the_gradient_at_the_perturbed_point():
    point = Point(3.0, -1.0)
    start = point.p.detach().clone()
    curvature = torch.tensor([2.0, 10.0], dtype=torch.float64)
    step = GradientStep(point, Sam(point.parameters(), lr=0.01, rho=0.1))
    step(lambda: (0.5 * (curvature * point.p.square()).sum(), {}))
    gradient = curvature * start
    perturbed = start + 0.1 * gradient / gradient.norm()
    torch.testing.assert_close(point.p.detach(), start - 0.01 * curvature * perturbed)


def test_a_closure_optimizer_skips_a_non_finite_gradient_too():
    point = Point(3.0, -1.0)
    step = GradientStep(point, torch.optim.LBFGS(point.parameters()))
    step(lambda: (point.p.sum() * float("nan"), {}))
    assert point.p.tolist() == [3.0, -1.0]
    assert step.monitor.drain()["gradient/skipped"] == 1.0


@dataclass(frozen=True)
class ProjectConflicts:
    """Stand-in for gradient surgery of two losses: each loses what points against the other."""

    def combine(self, gradients, state):
        (first, second) = gradients.values()
        combined = []
        for a, b in zip(first, second, strict=True):
            dot = (a * b).sum().clamp(max=0)
            combined.append(a - dot / b.square().sum() * b + b - dot / a.square().sum() * a)
        return combined


def test_gradient_surgery_sees_every_named_loss():
    point = Point(0.0, 0.0)
    step = GradientStep(
        point,
        torch.optim.SGD(point.parameters(), lr=1.0),
        [ProjectConflicts(), GlobalNorm(max_norm=100.0)],
    )
    a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    b = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    step(lambda: ({"a": a @ point.p, "b": b @ point.p}, {}))
    # a.b = -1: a' = a + b/2 = (.5, .5), b' = b + a = (0, 1).
    torch.testing.assert_close(point.p.detach(), torch.tensor([-0.5, -1.5], dtype=torch.float64))
