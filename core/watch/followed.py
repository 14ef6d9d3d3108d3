"""What one optimizer of somebody else's loop moves, measured like the parameters of a `GradientStep`."""

from collections.abc import Mapping

import torch
from torch import Tensor

from core.form import Either, Many, Maybe, Number
from core.gradients.equal_units import equal_units
from core.gradients.measure.monitor import Monitor, MonitorConfig
from core.gradients.norms import GradientView
from core.state import StateDict
from core.watch.guard import Guard
from core.watch.models import Named, is_lazy

# Gradients measured for a logged point: all of them would take a third of the time of 5 k parameters.
NORMS = 5
# Spacing of logged points, by step: a short run has enough of them for a finding, a long one pays for few.
SPACING = ((20, 2), (50, 5), (100, 10), (200, 20), (500, 50), (2000, 100))
EARLY = 100  # steps after which equal units are looked for only where there were some
UNKNOWN = ("norm_clipped", "clipped")  # what clips in a foreign loop has done its work before one can look


def spacing(step: int, interval: int) -> int:
    """Steps between two logged points about a step, counted from 1."""
    for until, steps in SPACING:
        if step <= until:
            return min(steps, interval)
    return interval


def due(step: int, interval: int) -> bool:
    """Whether a step ends a logged point; everything is measured there."""
    return step % spacing(step, interval) == 0


def measured(step: int, interval: int) -> bool:
    """Whether a step's gradient is measured: `NORMS` for every logged point, and the one after it."""
    stride = max(1, spacing(step, interval) // NORMS)
    return step % stride == 0 or due(step, interval) or due(step - 1, interval)


def next_busy(step: int, interval: int) -> int:
    """The first step after this one that is measured, or that comes before one that ends a point."""
    if due(step, interval):
        return step + 1
    apart = spacing(step + 1, interval)
    stride = max(1, apart // NORMS)
    before_point = -(-(step + 2) // apart) * apart - 1
    return min((step // stride + 1) * stride, before_point)


class Followed:
    """The parameters that one optimizer holds and a model has.

    Args:
        name: empty where there is only one optimizer.
        optimizer: any.
        interval: steps between two sampled ones, once the run is long.

    Attributes:
        steps: calls of the optimizer's step, and those that a loss scaler has skipped.
        busy: the next step at which there is something to do.
        seen: steps measured since the last point.
        empty: of these, those at which no parameter had a gradient.
        lost: since the last point, backward passes whose gradient was gone when the optimizer stepped.
        carried: since the last point, the least of what was left in `.grad` at the beginnings of backward
            passes between two steps, over what the optimizer had used; 0 where it was cleared.
        fused: whether a loss scaler leaves it to the optimizer to skip a step, as it does with fused ones.
        stale: parameters that no model has, and that had no gradient at the last sampled step.
    """

    precision = "float32"  # the losses of an objective are computed as its owner says

    def __init__(self, name: str, optimizer: torch.optim.Optimizer, interval: int) -> None:
        self.name = name
        self.optimizer = optimizer
        self.interval = interval
        rates = [group.get("initial_lr", group.get("lr")) for group in optimizer.param_groups]
        self.base_lrs = [float(rate or 0.0) for rate in rates]
        self.names: list[str] = []
        self.parameters: list[Tensor] = []
        self.frozen: list[str] = []
        self.monitor: Monitor
        self.steps = 0
        self.busy = 1
        self.seen = self.empty = 0
        self.lost: list[Tensor] = []
        self.carried: list[Tensor] = []
        self.batch: int | None = None
        self.stale = 0
        self.fused = False
        self._elsewhere: list[Tensor] = []
        self._observed = False
        self._equal: dict[str, float] = {}
        self._cfg = MonitorConfig(sample_interval=interval)
        self._look: _Look | None = None
        self._awake: set[int] = set()
        self.wake()

    @property
    def held(self) -> list[Tensor]:
        """All parameters of the optimizer, as they now are."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def wake(self) -> None:
        """Take in which parameters require a gradient; at its own steps, as a loop may freeze others."""
        self._awake = {id(p) for p in self.held if p.requires_grad}

    def take(self, known: Mapping[int, Named]) -> bool:
        """Look up the parameters; whether they are others than before, so that a new monitor has begun.

        Those of lazy layers are taken in once they have a shape.

        Raises:
            ValueError: they are on several devices.
        """
        entries = [known[id(p)] for p in self.held if id(p) in known and not is_lazy(p)]
        self._elsewhere = [p for p in self.held if id(p) not in known]
        several = len({entry.model for entry in entries}) > 1
        names = [f"{e.model}.{e.name}" if several and e.model else e.name for e in entries]
        trained = [e.parameter.requires_grad or id(e.parameter) in self._awake for e in entries]
        parameters = [e.parameter for e, on in zip(entries, trained, strict=True) if on]
        self.frozen = [name for name, on in zip(names, trained, strict=True) if not on]
        same = len(parameters) == len(self.parameters) and all(map(_is, parameters, self.parameters))
        if same and (not parameters or self.monitor.exponents.counts.device == parameters[0].device):
            return False
        devices = sorted({str(p.device) for p in parameters})
        if len(devices) > 1:
            raise ValueError(f"the parameters of one optimizer are on several devices, {', '.join(devices)}")
        self.parameters = parameters
        self.names = [name for name, on in zip(names, trained, strict=True) if on]
        prefix = f"{self.name}/" if self.name else ""
        if parameters:
            self.monitor = Monitor(self.names, parameters, self._cfg, prefix, self._sampled, False)
        return True

    def before(self, samples: int | None) -> None:
        """Measure the gradients that the optimizer is about to use, if this step is measured."""
        self._close_look()
        if not measured(self.steps + 1, self.interval):
            return
        self.seen += 1
        self.monitor.steps = self.steps
        if self._sampled(self.steps + 1):
            self.stale = sum(p.grad is None for p in self._elsewhere)
        gradients = self._gradients()
        self._observed = any(g is not None for g in gradients)
        if not self._observed:
            self.empty += 1
            self.monitor.observe_nothing(0)
            return
        view = GradientView.among(self.names, self.parameters, gradients)
        self.batch = samples
        self.monitor.observe_gradient(view, samples)
        self.monitor.observe_transformed(view)
        self.monitor.before_update()

    def after(self) -> None:
        """Measure what the optimizer did in the step that has just been counted."""
        if self._observed:
            self.monitor.after_update(self.optimizer)
        self._observed = False
        self.busy = next_busy(self.steps, self.interval)

    def skip(self, steps: int) -> None:
        """Count steps at which a loss scaler did not call the optimizer."""
        last = self.steps + steps
        self.monitor.observe_nothing(sum(measured(s, self.interval) for s in range(self.steps + 1, last + 1)))
        self.steps = last
        self.busy = next_busy(last, self.interval)

    def look(self, guarded: Guard) -> None:
        """From here until the next step, see whether the gradient is cleared before the next one is added."""
        self._close_look()
        if self.parameters:
            given = [p for p in self.parameters if p.grad is not None and p.requires_grad]
            if given or self.parameters[-1].requires_grad:
                self._look = _Look((given or self.parameters)[-1], guarded)

    def stop(self) -> None:
        """Take every hook away."""
        if self._look is not None:
            self._look.handle.remove()
            self._look = None

    def drain(self) -> dict[str, float]:
        """Means since the last call, by tag."""
        prefix = f"{self.name}/" if self.name else ""
        tags = self.monitor.drain() if self.parameters else {}
        # Before, a last layer of zeros is on its way; later on, units that differed do not become equal.
        if self.steps > 1 and (self.steps <= EARLY or self._equal):
            self._equal = equal_units(self.names, self.parameters)
            tags |= {prefix + tag: value for tag, value in self._equal.items()}
        tags = {tag: v for tag, v in tags.items() if not tag.endswith(UNKNOWN)}
        own = {"gradient/absent": self.empty / self.seen} if self.seen else {}
        for name, seen in (("carried", self.carried), ("lost", self.lost)):
            if seen:
                own[f"gradient/{name}"] = torch.stack(seen).double().mean().item()
                seen.clear()
        self.seen = self.empty = 0
        return tags | {prefix + tag: value for tag, value in own.items()}

    def state_dict(self) -> StateDict:
        """The monitor's half-filled window."""
        monitor = self.monitor.state_dict() if self.parameters else None
        return {
            "monitor": monitor,
            "steps": self.steps,
            "seen": self.seen,
            "empty": self.empty,
            "base_lrs": list(self.base_lrs),
        }

    def state_form(self) -> StateDict:
        """What `state_dict` must look like, once the parameters have been looked up."""
        monitor = self.monitor.state_form() if self.parameters else Either(())
        counts = dict.fromkeys(("steps", "seen", "empty"), 0)
        return {"monitor": Maybe(monitor), "base_lrs": Many(Number(), at_least=1), **counts}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`, once the parameters have been looked up."""
        self.steps, self.seen, self.empty = state["steps"], state["seen"], state["empty"]
        self.busy = next_busy(self.steps, self.interval)
        self.base_lrs = list(state["base_lrs"])
        if state["monitor"] is not None:
            self.monitor.load_state_dict(state["monitor"])

    def _sampled(self, step: int) -> bool:
        return due(step, self.interval)

    def _gradients(self) -> list[Tensor | None]:
        """Gradients in the loss's own unit, none of them written to."""
        gradients = [p.grad for p in self.parameters]
        if any(g is not None and g.is_sparse for g in gradients):
            gradients = [g.coalesce() if g is not None and g.is_sparse else g for g in gradients]
        scale = getattr(self.optimizer, "grad_scale", None)  # what a fused optimizer will divide by
        if scale is not None:
            gradients = [g if g is None else g / scale for g in gradients]
        return gradients

    def _close_look(self) -> None:
        """Take in what the look at one parameter has shown."""
        if self._look is None:
            return
        look, self._look = self._look, None
        look.handle.remove()
        if look.carried is not None:
            self.carried.append(look.carried)
        if look.arrived is not None:
            gradient = look.parameter.grad
            left = torch.zeros_like(look.arrived) if gradient is None else _norm(gradient)
            self.lost.append(((left == 0) & (look.arrived > 0)).double())


class _Look:
    """Looks at one parameter at the next backward pass: is the old gradient still there, does a new one come?

    Attributes:
        carried: the least norm that was there before a new gradient over what the optimizer had, 0-d; None
            while nothing came. The least: another loss may reach the parameter before it is cleared.
        arrived: norm of the last new gradient, 0-d.
    """

    def __init__(self, parameter: Tensor, guarded: Guard) -> None:
        self.parameter = parameter
        self.carried: Tensor | None = None
        self.arrived: Tensor | None = None
        self._used = None if parameter.grad is None else _norm(parameter.grad)
        self.handle = parameter.register_hook(guarded(self._hook))

    @torch.no_grad()
    def _hook(self, gradient: Tensor) -> None:
        self.arrived = _norm(gradient)
        if self._used is not None:
            there = self.parameter.grad
            left = torch.zeros_like(self._used) if there is None else _norm(there)
            share = torch.where(self._used > 0, left / self._used, 0.0)
            self.carried = share if self.carried is None else torch.minimum(self.carried, share)


def _norm(gradient: Tensor) -> Tensor:
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return torch.linalg.vector_norm(values.detach(), dtype=torch.promote_types(values.dtype, torch.float32))


def _is(one: Tensor, other: Tensor) -> bool:
    return one is other
