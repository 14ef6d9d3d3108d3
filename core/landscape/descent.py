"""One optimizer on one function, step by step, and what kind of point it comes to.

All in float64, through the same `GradientStep` that trains networks: transforms, schedules and the monitor
apply. What a network's run cannot have is exact here: the Hessian, and the critical points to compare with.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from core.checks import require
from core.curvature.critical import SLOPE, Classification, classify, derivatives
from core.gradients import Clipper, GradientStep, Metrics, MonitorConfig, as_transforms
from core.gradients.closures import require_true_line_search
from core.landscape.draw import draw_path
from core.landscape.functions import Function
from core.optim.evaluation import evaluation_parameters
from core.optim.factory import build_optimizer, check_optimizer
from core.optim.schedules import Schedule, ScheduledRate, check_schedule
from core.run.config import Component
from core.run.console import number
from core.run.device import resolve_device, set_num_threads
from core.run.diagnosis import DiagnosisConfig, OnFinding
from core.run.media import Image
from core.run.run import Run, RunConfig
from core.state import StateDict

PATH = 2048  # points of the path that are kept; a longer one keeps every second, then every fourth, ...
SHOWN = 6  # numbers of a point or a spectrum that are printed, and coordinates that get a curve


@dataclass(frozen=True, kw_only=True)
class LoggingConfig(RunConfig):
    """How often a descent logs, draws and saves; there is nothing to evaluate beside the point itself."""

    eval_interval: int = field(init=False, default=1)


@dataclass(frozen=True, kw_only=True)
class DescentConfig:
    """All options of a descent; conf/descend.yaml explains each."""

    function: Function
    optimizer: Component
    clipper: Clipper | None
    schedule: Schedule
    monitor: MonitorConfig
    logging: LoggingConfig
    diagnosis: DiagnosisConfig | None = None  # a run from before there was one has none
    on_finding: OnFinding = "report"
    start: tuple[float, ...] | None
    steps: int
    seed: int
    device: str
    num_threads: int | None

    def __post_init__(self) -> None:
        known = isinstance(self.function, Function)
        require(known, "function", self.function, "a dataclass like those of core.landscape.functions")
        require(self.seed >= 0, "seed", self.seed, "an integer >= 0")
        require(self.steps >= 0, "steps", self.steps, "an integer >= 0")
        dim = self.function.dim
        start = self.start if self.start is None else list(self.start)
        require(start is None or len(start) == dim, "start", start, f"null or a list of {dim} numbers")
        threads = self.num_threads
        require(threads is None or threads >= 1, "num_threads", threads, "an integer >= 1 or null")


def check(cfg: DescentConfig) -> None:
    """What can be known before a directory is made.

    Raises:
        ValueError: the device is not there or has no float64, the optimizer refuses its options, a parameter
            of one dimension or the clipper, or the schedule follows something that is not measured here.
    """
    device = resolve_device(cfg.device)
    require(device.type != "mps", "device", cfg.device, "one that has float64: cpu or cuda")
    check_schedule(cfg.schedule, ())
    x = nn.Parameter(torch.zeros(cfg.function.dim, dtype=torch.float64))
    check_optimizer(cfg.optimizer, lambda: [nn.ParameterDict({"x": x})])
    require_true_line_search(build_optimizer(cfg.optimizer, [("x", x)]), as_transforms(cfg.clipper))


def train(cfg: DescentConfig, run: Run) -> None:
    """Descend.

    Args:
        cfg: options that `check` has accepted.
        run: logs, draws and saves.

    Raises:
        FloatingPointError: the function or a derivative is not finite where the descent has come to.
    """
    set_num_threads(cfg.num_threads)
    walker = Walker(cfg.function, cfg.start or cfg.function.start, resolve_device(cfg.device))
    optimizer = build_optimizer(cfg.optimizer, [("x", walker.x)])
    step = GradientStep([("x", walker.x)], optimizer, as_transforms(cfg.clipper), monitor=cfg.monitor)
    rate = ScheduledRate(cfg.schedule, step)
    title = f"{cfg.optimizer.target.__name__}, learning rate {step.base_lrs[0]:g}"

    def look() -> Place:
        with evaluation_parameters(optimizer):
            return walker.look()

    run.start(
        total=cfg.steps,
        unit="steps",
        state={"descent": walker, "schedule": rate},
        gradient_steps=[step],
        draw=lambda: walker.draw(title),
        summarise=lambda: {"steps": run.step} | look().fields(),
        headline=("descent/value", "gradient/norm"),
    )
    while run.step < cfg.steps:
        rate.set(run.step / cfg.steps)
        step(walker.evaluate)
        walker.remember()
        logs = (run.iteration + 1) % cfg.logging.interval == 0 or run.step + 1 == cfg.steps
        run.finish_step(run.step + 1, look().metrics() if logs else {})
    place = look()
    if place.classification is None:
        advice = "; try a lower optimizer.lr or clipper=global_norm" if run.step else ""
        raise FloatingPointError(
            f"f or a derivative of it is not finite at x = {point(place.x)}, after {run.step:,} steps{advice}"
        )
    effort = f"{run.step:,} steps, {place.evaluations:,} gradients" if run.step else "the start"
    run.say(f"{effort}: {where(place, place.classification)}")
    run.say(f"{what(place.classification)}{nearest(cfg.function, place.x, place.classification)}")
    run.finish(dict)


@dataclass(frozen=True)
class Place:
    """A point of a function as it is measured and reported.

    Attributes:
        x: the point, n numbers.
        value: of the function there.
        classification: what kind of point it is; None where a derivative is not finite.
        evaluations: gradients that were asked for on the way here.
    """

    x: tuple[float, ...]
    value: float
    classification: Classification | None
    evaluations: int

    def metrics(self) -> Metrics:
        """What is logged: of this very point, not averaged over the steps before it."""
        values = {"descent/value": self.value, "descent/evaluations": float(self.evaluations)}
        values |= {f"descent/x{i}": x for i, x in enumerate(self.x[:SHOWN])}
        if self.classification is not None:
            values["curvature/sharpness"] = self.classification.eigenvalues[-1]
            values["curvature/lowest"] = self.classification.eigenvalues[0]
        return {tag: torch.tensor(value, dtype=torch.float64) for tag, value in values.items()}

    def fields(self) -> dict[str, object]:
        """What the summary says; null for what is not finite."""
        found = self.classification
        return {
            "x": list(self.x),
            "value": self.value,
            "gradient_norm": found and found.gradient_norm,
            "hessian_eigenvalues": found and list(found.eigenvalues),
            "saddle_index": found and found.saddle_index,
            "evaluations": self.evaluations,
            "critical_point": found and found.kind,
        }


class Walker:
    """A point on a function: where it is, where it has been, how often it has asked for a gradient.

    Args:
        function: what it descends.
        start: the first point, n numbers.
        device: one with float64.
    """

    def __init__(self, function: Function, start: Sequence[float], device: torch.device) -> None:
        self.function = function
        self.x = nn.Parameter(torch.tensor(start, dtype=torch.float64, device=device))
        self.evaluations = 0
        self._path = [self.x.detach().clone()]
        self._stride = 1
        self._seen = 0

    def evaluate(self) -> tuple[Tensor, Metrics]:
        """The closure of a `GradientStep`: the value here, with its graph."""
        self.evaluations += 1
        return self.function(self.x), {}

    def remember(self) -> None:
        """Add the present point to the path."""
        self._seen += 1
        if self._seen % self._stride == 0:
            self._path.append(self.x.detach().clone())
            if len(self._path) > PATH:
                self._path = self._path[::2]
                self._stride *= 2

    def look(self) -> Place:
        """The exact first and second derivatives at the present point."""
        value, gradient, hessian = derivatives(self.function, self.x)
        finite = value.isfinite() & gradient.isfinite().all() & hessian.isfinite().all()
        classification = classify(gradient, hessian) if finite else None
        return Place(tuple(self.x.tolist()), value.item(), classification, self.evaluations)

    def draw(self, title: str) -> dict[str, Image]:
        """A picture of the path, on a function of two variables."""
        if self.function.dim != 2:
            return {}
        path = torch.stack([*self._path, self.x.detach()]).cpu()
        return {"descent/path": draw_path(self.function, path, title)}

    def state_dict(self) -> StateDict:
        """The point, the count and the path."""
        path = torch.stack(self._path)
        counts = {"evaluations": self.evaluations, "stride": self._stride, "seen": self._seen}
        return {"x": self.x.detach().clone(), "path": path} | counts

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        with torch.no_grad():
            self.x.copy_(state["x"])
        self._path = list(state["path"].to(self.x.device))
        self.evaluations, self._stride, self._seen = state["evaluations"], state["stride"], state["seen"]


def where(place: Place, found: Classification) -> str:
    """Point, value and steepness in one line."""
    return f"x = {point(place.x)}   f = {number(place.value)}   |g| = {number(found.gradient_norm)}"


def what(found: Classification) -> str:
    """What kind of point it is, and why."""
    lowest, sharpness = found.eigenvalues[0], found.eigenvalues[-1]
    kinds = {
        "slope": f"still on a slope (|g| > {number(SLOPE * max(1.0, abs(lowest), abs(sharpness)))})",
        "saddle": f"a saddle of index {found.saddle_index}",
        "degenerate": "a degenerate point (the Hessian is singular)",
    }
    kind = kinds.get(found.kind, f"a {found.kind}")
    return f"{kind}: Hessian eigenvalues {point(found.eigenvalues)[1:-1]}"


def nearest(function: Function, x: Sequence[float], found: Classification) -> str:
    """How far the nearest known critical point of this kind is; on a slope, of any kind."""
    known = [c for c in function.critical_points if found.kind in ("slope", c.kind)]
    if not known:
        return ""
    closest = min(known, key=lambda c: math.dist(c.point, x))
    name = "degenerate point" if closest.kind == "degenerate" else closest.kind
    return f"; {number(math.dist(closest.point, x))} from the known {name} at {point(closest.point)}"


def point(values: Sequence[float]) -> str:
    """A point or a spectrum, the middle left out when it is long."""
    words = [f"{value:.6g}" for value in values]
    if len(words) > SHOWN:
        words = [*words[: SHOWN // 2], f"... {len(words) - SHOWN} more ...", *words[-SHOWN // 2 :]]
    return f"({', '.join(words)})"
