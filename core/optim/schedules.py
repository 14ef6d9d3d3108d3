"""Schedules: multipliers of the initial learning rate, from the progress of a run or from what was measured.

Each is a frozen dataclass. It is called once per iteration with the progress in [0, 1], the last iteration's
metrics, and a state of its own; `ScheduledRate` keeps and saves that state, and sets the rate. Schedules of
progress alone ignore the other two: a resumed run continues the same curve. Only those that follow a metric
read it, which makes the host wait for the device once per iteration.
"""

import math
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from core.checks import Finite, checked
from core.form import Anything, Begun, Scalar, require_form
from core.gradients import GradientStep
from core.own_module import attempt
from core.state import StateDict

Measured = Mapping[str, Tensor]  # 0-d; NaN = not known yet
NOTHING: Measured = {}
OF_THE_STEP = ("gradient/noise_scale", "gradient/samples")  # what every GradientStep knows of itself


class Schedule(Protocol):
    """A multiplier of the initial learning rate."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the metrics it follows; a trainer that does not measure them refuses it."""
        ...

    def __call__(self, progress: float, metrics: Measured = NOTHING, state: StateDict | None = None) -> float:
        """The multiplier.

        Args:
            progress: share of the run that is done; beyond [0, 1] it is clamped.
            metrics: those named in `needs`, from the last iteration; empty before the first has ended.
            state: empty at first, changed in place, saved with the run.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Always 1."""

    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, progress: float, metrics: Measured = NOTHING, state: StateDict | None = None) -> float:
        """1 at any progress."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
@checked
class Linear:
    """A straight line from 1 to `final`.

    Attributes:
        final: multiplier at the end.
    """

    final: Annotated[float, Interval(ge=0, le=1)]

    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, progress: float, metrics: Measured = NOTHING, state: StateDict | None = None) -> float:
        """1 + progress (final - 1)."""
        return 1.0 + _clamp(progress) * (self.final - 1.0)


@dataclass(frozen=True, kw_only=True)
@checked
class Cosine:
    """Half a cosine from 1 to `final`: flat at both ends.

    Attributes:
        final: multiplier at the end.

    Source: Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5, without restarts.
    """

    final: Annotated[float, Interval(ge=0, le=1)]

    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, progress: float, metrics: Measured = NOTHING, state: StateDict | None = None) -> float:
        """The multiplier final + (1 - final) (1 + cos(pi progress)) / 2."""
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * _clamp(progress)))


@dataclass(frozen=True, kw_only=True)
@checked
class Warmup:
    """A straight line from `initial` to 1, then another schedule over what is left of the run.

    Attributes:
        share: of the run that the line takes.
        initial: multiplier at the beginning; with 0 the first iteration learns nothing.
        after: the schedule that follows; it sees its own progress, from 0 to 1.

    Source: Goyal et al. 2017, arXiv:1706.02677, section 2.2 (gradual warm-up).
    """

    share: Annotated[float, Interval(gt=0, lt=1)]
    initial: Annotated[float, Interval(ge=0, le=1)]
    after: Schedule

    @property
    def needs(self) -> tuple[str, ...]:
        """What the schedule that follows needs."""
        return self.after.needs

    def __call__(self, progress: float, metrics: Measured = NOTHING, state: StateDict | None = None) -> float:
        """The line initial + (1 - initial) progress / share, then `after`."""
        progress = _clamp(progress)
        if progress < self.share:
            return self.initial + (1 - self.initial) * progress / self.share
        return self.after((progress - self.share) / (1 - self.share), metrics, state)


@dataclass(frozen=True, kw_only=True)
@checked
class KLAdaptive:
    """Faster while the policy moves too little, slower once it moves too much.

    After each iteration the multiplier is divided by `factor` where the measured KL divergence exceeds
    2 target, and multiplied by it where it is below target / 2.

    Attributes:
        metric: name of the measured divergence.
        target: KL divergence of one iteration, nats.
        factor: of one change.
        smallest, largest: bounds of the multiplier.

    Source: the rule for the penalty's coefficient in Schulman et al. 2017, arXiv:1707.06347, section 4,
    applied to the learning rate, as is common with PPO on robots (Rudin et al. 2022, arXiv:2109.11978).
    """

    metric: str
    target: Annotated[float, Gt(0), Finite]
    factor: Annotated[float, Gt(1), Finite]
    smallest: Annotated[float, Interval(gt=0, le=1)]
    largest: Annotated[float, Ge(1), Finite]

    @property
    def needs(self) -> tuple[str, ...]:
        """The divergence."""
        return (self.metric,)

    def __call__(self, progress: float, metrics: Measured = NOTHING, state: StateDict | None = None) -> float:
        """The last multiplier, changed by what the last iteration measured; a NaN changes nothing."""
        state = {} if state is None else state
        scale = state.get("scale", 1.0)
        kl = float(metrics[self.metric]) if metrics else math.nan
        if kl > 2 * self.target:
            scale = max(scale / self.factor, self.smallest)
        elif kl < self.target / 2:
            scale = min(scale * self.factor, self.largest)
        state["scale"] = scale
        return scale


@dataclass(frozen=True, kw_only=True)
@checked
class NoiseAdaptive:
    """As fast as the gradient's noise allows: the optimizer's rate is then that of a gradient without noise.

        multiplier = (1 + B_noise / B)^-exponent

    B is the number of samples behind a gradient and B_noise the noise scale, which rises as the loss falls.

    Attributes:
        initial: multiplier until the noise scale is first known. An unknown one later keeps
            the last.
        exponent: 1 for SGD; the source's own fits for Adam and RMSprop lie between 0.5 and 1.

    Source: McCandlish et al. 2018, arXiv:1812.06162, eq. 2.6.
    """

    initial: Annotated[float, Interval(gt=0, le=1)]
    exponent: Annotated[float, Interval(gt=0, le=1)]

    needs: ClassVar[tuple[str, ...]] = OF_THE_STEP

    def __call__(self, progress: float, metrics: Measured = NOTHING, state: StateDict | None = None) -> float:
        """The multiplier at the last known noise scale."""
        state = {} if state is None else state
        scale = state.get("scale", self.initial)
        if metrics:
            ratio = float(metrics["gradient/noise_scale"]) / float(metrics["gradient/samples"])
            if ratio >= 0:  # false for NaN
                scale = (1 + ratio) ** -self.exponent
        state["scale"] = scale
        return scale


class ScheduledRate:
    """A schedule at work: sets the learning rates of one `GradientStep` and keeps the state of the schedule.

    It warns where the optimizer ignores the rates: Rprop uses its rate only in its first step.

    Args:
        schedule: the schedule.
        step: the step whose rates it sets.
    """

    def __init__(self, schedule: Schedule, step: GradientStep) -> None:
        self.schedule = schedule
        self.step = step
        self.measured: dict[str, Tensor] = {}
        self.state: StateDict = {}
        own_steps = any("step_sizes" in group for group in step.optimizer.param_groups)  # Rprop's alone
        if own_steps and not isinstance(schedule, Constant):
            first = schedule(0.0, NOTHING, {})
            effect = "has no effect" if first == 1 else f"scales the first step alone, by {first:g}"
            warnings.warn(
                f"schedule: {type(schedule).__name__} {effect}, because Rprop sets the length of its steps "
                "itself; use schedule=constant",
                stacklevel=2,
            )

    def set(self, progress: float) -> float:
        """Set the rates for the iteration that begins at `progress`; returns the multiplier."""
        scale = self.schedule(progress, self.measured, self.state)
        self.step.set_lr_scale(scale)
        return scale

    def observe(self, metrics: Measured = NOTHING) -> None:
        """Keep what the schedule needs until the next `set`, on the device.

        Args:
            metrics: of the iteration that has ended; the step adds what it has measured of the gradient.
        """
        needs = self.schedule.needs
        if not needs:
            return
        of_the_step = {
            "gradient/noise_scale": self.step.monitor.noise_scale.noise.scale,
            "gradient/samples": torch.tensor(self.step.samples),
        }
        known = {**metrics, **of_the_step}
        self.measured = {name: known[name].detach() for name in needs}

    def state_dict(self) -> StateDict:
        """The state of the schedule, and the metrics that it has not seen yet."""
        return {"state": dict(self.state), "measured": dict(self.measured)}

    def state_form(self) -> StateDict:
        """What `state_dict` must look like, learnt from a copy's first call."""
        state: StateDict = {}
        measured = dict.fromkeys(self.schedule.needs, torch.tensor(1.0))
        try:
            self.schedule(0.5, measured, state)
        except Exception:  # somebody else's
            return {"state": Anything(), "measured": {}}
        return {"state": Begun(state), "measured": Begun(dict.fromkeys(measured, Scalar()))}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        require_form(state, self.state_form())
        self.state, self.measured = dict(state["state"]), dict(state["measured"])


def check_schedule(schedule: Schedule, measured: Collection[str]) -> None:
    """Refuse a schedule that follows what this trainer does not measure.

    Args:
        schedule: as configured.
        measured: names of the metrics that the trainer hands to `ScheduledRate.observe`.

    Raises:
        ValueError: one is missing, or a schedule of the user's own fails or gives no multiplier.
    """
    there = (*measured, *OF_THE_STEP)
    missing = [name for name in schedule.needs if name not in there]
    if missing:
        raise ValueError(
            f"schedule: {type(schedule).__name__} follows {' and '.join(missing)}, which this trainer does "
            f"not measure; there are {', '.join(there)}"
        )
    if type(schedule).__module__.startswith("core."):
        return
    what, state = f"schedule={type(schedule).__module__}.{type(schedule).__qualname__}", StateDict()
    known = dict.fromkeys(schedule.needs, torch.tensor(1.0))
    for progress, metrics in ((0.0, {}), (0.5, known), (1.0, known)):
        scale = attempt(what, schedule, progress, metrics, state)
        if not isinstance(scale, int | float) or not 0 <= scale < math.inf:
            raise ValueError(f"{what} must return a multiplier >= 0, got {scale!r} at progress {progress}")


def _clamp(progress: float) -> float:
    return min(max(progress, 0.0), 1.0)
