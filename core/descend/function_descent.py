"""Descent on a function: the point, its path, and its exact derivatives."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from core.curvature.critical import SLOPE, Classification, classify, derivatives
from core.descend.diagnosis import RULES_OF_FUNCTION
from core.descend.functions import Function, PlaneFunction
from core.descend.trajectory import Trajectory, point
from core.gradients import Metrics
from core.history import History
from core.numbers import plain_number
from core.state import StateDict

SHOWN = 6  # coordinates that get a curve


class FunctionDescent:
    """A point on a function, its path, and the number of gradients evaluated so far.

    Args:
        function: what it descends.
        start: the first point, n numbers; None = the function's own.
        device: one with float64.
    """

    headline = ("descent/value", "gradient/norm")
    samples = None  # a function has no samples
    exact = True  # so that its gradient has no noise
    rules = RULES_OF_FUNCTION
    limits: ClassVar[dict[str, float]] = {}

    def __init__(self, function: Function, start: Sequence[float] | None, device: torch.device) -> None:
        self.function = function
        first = function.start if start is None else start
        self.x = nn.Parameter(torch.tensor(first, dtype=torch.float64, device=device))
        self.network = nn.ParameterDict({"x": self.x})  # what is checked where an objective has a network
        self.named = list(self.network.named_parameters())
        self.evaluations = 0
        self.path = History(self.x.detach().clone())

    def next(self) -> Callable[[], tuple[Tensor, Metrics]]:
        """The closure of the next step."""

        def evaluate() -> tuple[Tensor, Metrics]:
            self.evaluations += 1
            return self.function(self.x), {}

        return evaluate

    def record(self) -> None:
        """Append the current point to the path."""
        self.path.add(self.x.detach().clone())

    def metrics(self) -> Metrics:
        """What is logged: of this very point, not averaged over the steps before it."""
        value, found = self.measure()
        values = {"descent/value": value, "descent/evaluations": float(self.evaluations)}
        values |= {f"descent/x{i}": x for i, x in enumerate(self.x[:SHOWN].tolist())}
        if found is not None:
            values["curvature/sharpness"] = found.eigenvalues[-1]
            values["curvature/lowest"] = found.eigenvalues[0]
        return {tag: torch.tensor(value, dtype=torch.float64) for tag, value in values.items()}

    def fields(self) -> dict[str, object]:
        """What the summary says of the current point; null for what is not finite."""
        value, found = self.measure()
        return {
            "x": self.x.tolist(),
            "value": value,
            "gradient_norm": found and found.gradient_norm,
            "hessian_eigenvalues": found and list(found.eigenvalues),
            "saddle_index": found and found.saddle_index,
            "evaluations": self.evaluations,
            "critical_point": found and found.kind,
        }

    def measure(self) -> tuple[float, Classification | None]:
        """Value and kind of the current point; no kind where a derivative is not finite."""
        value, gradient, hessian = derivatives(self.function, self.x)
        finite = value.isfinite() & gradient.isfinite().all() & hessian.isfinite().all()
        return value.item(), classify(gradient, hessian) if finite else None

    def lines(self, steps: int, advice: str) -> list[str]:
        """The lines printed at the end: the point, and what kind of point it is.

        Args:
            steps: taken so far.
            advice: what to try where numbers are not finite.

        Raises:
            FloatingPointError: the function or a derivative is not finite here.
        """
        x, (value, found) = self.x.tolist(), self.measure()
        if found is None:
            advice = f"; {advice}" if steps else ""
            at = f"x = {point(x)}, after {steps:,} steps"
            raise FloatingPointError(f"f or a derivative of it is not finite at {at}{advice}")
        effort = f"{steps:,} steps, {self.evaluations:,} gradients" if steps else "the start"
        slope = plain_number(found.gradient_norm)
        return [
            f"{effort}: x = {point(x)}   f = {plain_number(value)}   |g| = {slope}",
            f"{what(found)}{nearest(self.function, x, found)}",
        ]

    @property
    def lowest(self) -> float | None:
        """The lowest value of all known minima; None where none is known."""
        known = [c.value for c in self.function.critical_points if c.kind == "minimum"]
        return min(known) if known else None

    def plane_function(self) -> PlaneFunction | None:
        """The function as maps show it; None unless it has two variables."""
        if self.function.dim != 2:
            return None
        known = self.function.critical_points
        return PlaneFunction(self.function, self.function.domain, known, type(self.function).__name__)

    def trajectory(self, name: str) -> Trajectory:
        """The path so far, for pictures."""
        steps, path = self.path.rows()
        with torch.enable_grad():
            points = path.clone().requires_grad_()
            values = self.function(points)
            (gradient,) = torch.autograd.grad(values.sum(), points)
        _, found = self.measure()
        return Trajectory(
            name=name,
            steps=steps,
            path=path if path.shape[1] == 2 else None,
            path_steps=steps,
            value=values.detach().tolist(),
            gradient_norm=torch.linalg.vector_norm(gradient, dim=1).tolist(),
            ended="diverged" if found is None else found.kind,
        )

    def state_dict(self) -> StateDict:
        """The point, the count and the path."""
        return {"x": self.x.detach().clone(), "evaluations": self.evaluations, "path": self.path.state_dict()}

    def state_form(self) -> StateDict:
        """What `state_dict` must look like."""
        return {**self.state_dict(), "path": self.path.state_form()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        with torch.no_grad():
            self.x.copy_(state["x"])
        self.evaluations = state["evaluations"]
        self.path.load_state_dict(state["path"])


def what(found: Classification) -> str:
    """What kind of point it is, and why."""
    lowest, sharpness = found.eigenvalues[0], found.eigenvalues[-1]
    kinds = {
        "slope": f"still on a slope (|g| > {plain_number(SLOPE * max(abs(lowest), abs(sharpness)))})",
        "saddle": f"a saddle of index {found.saddle_index}",
        "degenerate": "a degenerate point (the Hessian is singular)",
    }
    kind = kinds.get(found.kind, f"a {found.kind}")
    return f"{kind}; eigenvalues of the Hessian: {point(found.eigenvalues)[1:-1]}"


def nearest(function: Function, x: Sequence[float], found: Classification) -> str:
    """How far the nearest known critical point of this kind is; on a slope, of any kind."""
    known = [c for c in function.critical_points if found.kind in ("slope", c.kind)]
    if not known:
        return ""
    closest = min(known, key=lambda c: math.dist(c.point, x))
    name = "degenerate point" if closest.kind == "degenerate" else closest.kind
    distance = plain_number(math.dist(closest.point, x))
    return f"; distance to the known {name} at {point(closest.point)}: {distance}"
