"""Gradient descent on a function or an objective, with one optimizer, or with several in comparison.

Everything is in float64 and uses the same `GradientStep` that trains networks: transforms, schedules, probes
and the monitor apply. On a function the Hessian and the critical points are exact. On an objective the
gradient is that of a batch, and its noise is measured against the gradient of all samples.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from core.checks import checked, require
from core.config import Component
from core.descend.basins import basins, why_not
from core.descend.batches import Batch, Full
from core.descend.comparison import compare
from core.descend.diagnosis import REMEDIES
from core.descend.drawing import PICTURES, draw, undrawn
from core.descend.function_descent import FunctionDescent
from core.descend.functions import Function, require_form
from core.descend.objective_descent import ObjectiveDescent
from core.descend.objectives import Supervised
from core.descend.report import DESCENT
from core.draw.media import Media
from core.gradients import Clipper, GradientStep, MonitorConfig, Objective, as_transforms
from core.gradients.arguments import check_clipper, clipper_without_effect, require_true_line_search
from core.gradients.probe import Probe
from core.optim.effects import optimizer_without_effect
from core.optim.evaluation import evaluation_parameters
from core.optim.factory import build_optimizer, check_optimizer
from core.optim.schedules import NoiseAdaptive, Schedule, ScheduledRate, check_schedule
from core.report.dashboard import dashboard_of
from core.run import checkpoint
from core.run.auto_lr import auto_lr
from core.run.callbacks import Callback
from core.run.config import RunConfig
from core.run.device import resolve_device, set_num_threads
from core.run.diagnosis import DiagnosisConfig, OnFinding
from core.run.finite import advice
from core.run.loggers.loggers import Chosen
from core.run.probes import Probes, check_probes
from core.run.run import Run


@dataclass(frozen=True, kw_only=True)
class LoggingConfig(RunConfig):
    """How often a descent logs, draws and saves; it has no evaluation."""

    eval_interval: int = field(init=False, default=1)
    snapshots: int = field(init=False, default=0)  # a descent keeps its own path


@dataclass(frozen=True, kw_only=True)
@checked
class DescentConfig:
    """All options of a descent; conf/descend.yaml explains each."""

    LENGTH: ClassVar[str] = "steps"
    BEGINNING: ClassVar[tuple[str, ...]] = ()

    function: Function | None
    objective: Supervised | None
    batch: Batch | None
    batches: dict[str, Batch] | None
    optimizer: Component | None
    optimizers: dict[str, Component] | None
    clipper: Clipper | None
    schedule: Schedule
    monitor: MonitorConfig
    probe: dict[str, Probe] | None
    logging: LoggingConfig
    logger: Chosen = field(default_factory=dict)  # besides the event file
    callbacks: tuple[Component | Callback, ...] = ()
    name: str | None = None
    tags: tuple[str, ...] = ()
    diagnosis: DiagnosisConfig | None = None  # a run from before there was one has none
    on_finding: OnFinding = "report"
    max_rollbacks: Annotated[int, Ge(1)] = 3
    start: tuple[float, ...] | None
    steps: Annotated[int, Ge(0)]
    pictures: tuple[str, ...]
    seed: Annotated[int, Ge(0)]
    device: str
    num_threads: Annotated[int | None, Ge(1)]

    def __post_init__(self) -> None:
        known = len(set(self.pictures)) == len(self.pictures) and set(self.pictures) <= set(PICTURES)
        require(known, "pictures", list(self.pictures), f"a list of {', '.join(PICTURES)}, each at most once")
        if self.function is not None and self.objective is not None:
            raise ValueError(
                "objective: an objective replaces the function; leave out function= or objective="
            )
        if self.function is None and self.objective is None:
            raise ValueError("function or objective must be given, got neither")
        self._check_choices()

    def _check_choices(self) -> None:
        """Check which options belong to a function and which to an objective."""
        several = sum(group is not None for group in (self.optimizers, self.batches))
        require(several < 2, "batches", "several", "left out with optimizers=: one comparison at a time")
        one = (self.optimizer is None) == (self.optimizers is not None)
        require(one, "optimizer", "none", "the name of an optimizer")
        if self.objective is not None:
            one = (self.batch is None) == (self.batches is not None)
            require(one, "batch", "none", "full, minibatch or stochastic with an objective")
            return
        assert self.function is not None
        dim, start = self.function.dim, self.start if self.start is None else list(self.start)
        require(start is None or len(start) == dim, "start", start, f"null or a list of {dim} numbers")
        for name in ("batch", "batches", "probe"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name} must be none with a function, whose derivatives are exact: choose an objective"
                )


Descent = FunctionDescent | ObjectiveDescent


def make_descent(cfg: DescentConfig, device: torch.device) -> Descent:
    """The point that a single descent moves.

    Raises:
        ValueError: the start or the batch does not fit the objective.
    """
    if cfg.objective is None:
        assert cfg.function is not None
        return FunctionDescent(cfg.function, cfg.start, device)
    assert cfg.batch is not None
    return ObjectiveDescent(cfg.objective, cfg.batch, cfg.start, cfg.seed, device)


def singles(cfg: DescentConfig) -> dict[str, DescentConfig]:
    """The descents that these options stand for, by name; a single one has no name."""
    if cfg.optimizers is not None:
        return {name: replace(cfg, optimizer=o, optimizers=None) for name, o in cfg.optimizers.items()}
    if cfg.batches is not None:
        return {name: replace(cfg, batch=batch, batches=None) for name, batch in cfg.batches.items()}
    return {"": cfg}


def check(cfg: DescentConfig) -> None:
    """Check the options before a directory is made.

    Raises:
        ValueError: the device is not there or has no float64, an optimizer refuses its options, these
            parameters or the clipper, the schedule follows something that is not measured here, a probe
            cannot measure this network, the function is of another form, or start and batch do not fit the
            objective.
    """
    device = resolve_device(cfg.device)
    require(device.type != "mps", "device", cfg.device, "one that has float64: cpu or cuda")
    check_schedule(cfg.schedule, ())
    if cfg.function is not None:
        require_form(cfg.function)
    for single in singles(cfg).values():
        descent, optimizer = make_descent(single, torch.device("cpu")), single.optimizer
        assert optimizer is not None
        auto = optimizer.auto_lr and cfg.objective is None
        require(not auto, f"{optimizer.path}.lr", "auto", "a number; auto needs samples, an objective's")
        module = descent.network
        check_optimizer(optimizer, lambda module=module: [module])
        require_true_line_search(build_optimizer(optimizer, descent.named), as_transforms(cfg.clipper))
        check_clipper(cfg.clipper, [name for name, _ in descent.named])
        check_probes(cfg.probe, lambda module=module: [module])


def without_effect(cfg: DescentConfig) -> dict[str, str]:
    """Options that change nothing in this configuration, by dotted name, and why."""
    parts = list(singles(cfg).values())
    vectors = "the variables of a function are one vector, which has no rows" if cfg.function else ""
    idle = clipper_without_effect(cfg.clipper, one_loss="every gradient step has one loss", vectors=vectors)
    used = [part.optimizer for part in parts if part.optimizer]
    each = [optimizer_without_effect(optimizer, cfg.probe, vectors=vectors) for optimizer in used]
    for option, reason in (pair for found in each for pair in found.items()):
        if option.startswith("optimizer") or all(option in found for found in each):
            idle[option] = reason
    mixing = [why_not(optimizer, cfg.clipper, cfg.schedule) for optimizer in used]
    if cfg.function:
        idle["diagnosis.unit_health"] = "a function has no layers"
    if isinstance(cfg.schedule, NoiseAdaptive) and all(isinstance(part.batch, Full | None) for part in parts):
        idle["schedule.exponent"] = "gradients of all samples have no noise scale, and the rate stays"
    pictures = {"basins": mixing[0]} if all(mixing) else {}
    pictures |= undrawn(make_descent(parts[0], torch.device("cpu")), cfg.steps)
    return idle | {f"pictures=[{name}]": why for name, why in pictures.items() if name in cfg.pictures}


def train(cfg: DescentConfig, run: Run) -> None:
    """Descend, once or several times from one start, by options that `check` has accepted.

    Raises:
        FloatingPointError: the function, the loss or a derivative is not finite at the end of a descent.
    """
    set_num_threads(cfg.num_threads)
    group = "optimizers" if cfg.optimizers else "batches" if cfg.batches else None
    if group is None:
        descend(cfg, run)
        return
    parts = singles(cfg)

    def together(ended: dict[str, Path]) -> dict[str, Media]:
        descents = {name: make_descent(parts[name], resolve_device(cfg.device)) for name in ended}
        for name, descent in descents.items():
            checkpoint.restore(descent, checkpoint.load(ended[name]), "descent", ended[name])
        return pictures(cfg, {name: parts[name] for name in ended}, descents)

    compare(run, cfg.steps, group, list(parts), together)


def descend(cfg: DescentConfig, run: Run) -> None:
    """One descent."""
    descent = make_descent(cfg, resolve_device(cfg.device))
    component = cfg.optimizer
    assert component is not None
    if component.auto_lr and isinstance(descent, ObjectiveDescent) and not run.resuming:
        lr = auto_lr(component, cfg.clipper, descent.frozen(), descent.samples, cfg.seed, run.say)
        component = component.with_lr(lr)
    optimizer = build_optimizer(component, descent.named)
    # A gradient of all samples has no noise that a larger batch would have less of.
    batch = None if descent.exact else descent.samples
    step = GradientStep(
        descent.named, optimizer, as_transforms(cfg.clipper), monitor=cfg.monitor, batch_size=batch
    )
    rate = ScheduledRate(cfg.schedule, step)

    def objectives() -> list[tuple[Objective, GradientStep]]:
        return [(descent.frozen(), step)] if isinstance(descent, ObjectiveDescent) else []

    def drawn() -> dict[str, Media]:
        title = f"{component.target.__name__}, learning rate {step.base_lrs[0]:g}"
        return pictures(cfg, {title: cfg}, {title: descent})

    def metrics():
        with evaluation_parameters(optimizer):
            return descent.metrics()

    run.start(
        total=cfg.steps,
        unit="steps",
        state={"descent": descent, "schedule": rate},
        gradient_steps=[step],
        modules={"network": descent.network},
        draw=drawn,
        probes=Probes(cfg.probe, cfg.seed, objectives),
        summarise=lambda: {"steps": run.step} | descent.fields(),
        headline=descent.headline,
        rules=descent.rules,
        remedies=REMEDIES,
        limits=descent.limits,
        dashboard=dashboard_of(DESCENT),
    )
    while run.goes_on:
        rate.set(run.step / cfg.steps)
        found = step(descent.next())
        descent.record()
        rate.observe(found)
        logs = (run.iteration + 1) % cfg.logging.interval == 0 or run.step + 1 == cfg.steps
        run.finish_step(run.step + 1, found | metrics() if logs else found)
    with evaluation_parameters(optimizer):
        for line in descent.lines(run.step, advice(optimizer)):
            run.say(line)
    run.finish(dict)


def pictures(
    cfg: DescentConfig, parts: dict[str, DescentConfig], descents: dict[str, Descent]
) -> dict[str, Media]:
    """The pictures that were asked for and can be drawn."""

    def starts() -> dict[str, Tensor | str]:
        assert cfg.function is not None
        found = {}
        for name, part in parts.items():
            assert part.optimizer is not None
            found[name] = basins(cfg.function, part.optimizer, cfg.clipper, cfg.schedule, cfg.steps)
        return found

    return draw(cfg.pictures, descents, starts if cfg.function is not None else None)
