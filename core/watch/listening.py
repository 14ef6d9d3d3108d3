"""What a loop's loss and models are called with: the loss itself, predictions, inputs, modes and units.

The loss is heard at every call. The rest is measured by hooks that are there only for the steps that need
them, and is kept as tensors until a point is logged.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from core.form import Each, Number
from core.gradients.unit_health import Units, watched
from core.state import StateDict
from core.watch.calls import Calls, Heard, Passing
from core.watch.described import SAMPLES, Constant, at_start, described
from core.watch.guard import Guard, Hook
from core.watch.models import Models, differs_in_evaluation, first_weights, is_compiled, unwrapped

LOSS, EVALUATED = "loss/train", "loss/no_grad"
BOUNDED = (
    nn.Sigmoid,
    nn.Hardsigmoid,
    nn.LogSigmoid,
)  # not centred, and slopes of at most 1/4
HALF = (torch.float16, torch.bfloat16)
FEW = 512  # losses kept before they are added up


class LossEar:
    """Hears what a loss module is called with and what it returns.

    Args:
        models: their modes are noted.
        loss: what will be heard.
        alone: whether there is one optimizer: of several players, one maximises what another one minimises,
            and none has a best constant.
        guarded: makes a hook that never ends the training.

    Attributes:
        samples: seen by losses with a gradient; whoever listens to the optimizer sets it to 0 after a step.
        looking: whether predictions are measured, too.
        half: whether it has met predictions of 16 bits, or autocast.
    """

    def __init__(self, models: Models, loss: Callable[..., Any] | None, alone: bool, guarded: Guard) -> None:
        self.samples = 0
        self.looking = True
        self.half = False
        self._means = _Means()
        self._modal = [model for model in models.values() if differs_in_evaluation(model)]
        self._constant = Constant(loss)
        self._alone, self._guarded, self._first = alone, guarded, True

    def hear(
        self, _: object, inputs: tuple[object, ...], named: Mapping[str, object], output: object
    ) -> None:
        """One call of the loss; what returns no tensor is not understood and passed over."""
        if not isinstance(output, Tensor):
            return
        if not output.requires_grad:
            self._means.add(EVALUATED, output)
            if self._modal:
                self._means.add_number("mode/training_without_gradient", any(m.training for m in self._modal))
            return
        self._means.add(LOSS, output)
        predictions = inputs[0] if inputs else next(iter(named.values()), None)
        if not isinstance(predictions, Tensor) or not predictions.dim():
            return
        self.samples += predictions.shape[0]
        if self.looking:
            self._look(predictions, inputs, named, output)

    def _look(
        self, predictions: Tensor, inputs: tuple[object, ...], named: Mapping[str, object], output: Tensor
    ) -> None:
        """Measure what the loss was called with, and how its gradient begins."""
        self.half = self.half or predictions.dtype in HALF or torch.is_autocast_enabled(output.device.type)
        others = (x for x in (*inputs, *named.values()) if isinstance(x, Tensor) and x is not predictions)
        targets = next(others, None)
        for tag, value in described(self._constant.kind, predictions, targets).items():
            self._means.add(tag, value)
        if not self._alone:
            return
        if output.dim() == 0:
            output.register_hook(self._guarded(self._begins))
        further = {key: x for key, x in named.items() if x is not predictions and x is not targets}
        if len(inputs) <= 2 and (constant := self._constant.loss(predictions, targets, further)) is not None:
            self._means.add("loss/constant", constant)
        if self._first and (size := at_start(self._constant.kind, predictions, targets)) is not None:
            self._means.add_number("output/at_start", size)
        self._first = False

    def _begins(self, gradient: Tensor) -> None:
        """The gradient by the loss itself: negative where the loss is maximised."""
        self._means.add("loss/maximised", (gradient < 0).float())

    def drain(self) -> dict[str, float]:
        """Means since the last call, by tag."""
        return self._means.drain()

    def state_dict(self) -> StateDict:
        """The half-filled window."""
        return {"means": self._means.state_dict(), "constant": self._constant.state_dict()}

    def state_form(self) -> StateDict:
        """What `state_dict` must look like."""
        return {"means": self._means.state_form(), "constant": self._constant.state_form()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self._first = False
        self._means.load_state_dict(state["means"])
        self._constant.load_state_dict(state["constant"])


def listened(loss: Callable[..., Any] | None, hear: Hook) -> tuple[Callable[..., Any] | None, list[Any]]:
    """The loss, heard at every call, and the handles of its hooks; a function can only be wrapped."""
    if loss is None:
        return None, []
    if isinstance(loss, nn.Module):
        return loss, [loss.register_forward_hook(Passing(hear), with_kwargs=True)]
    return Heard(loss, hear), []


class ModelEar:
    """Looks at the inputs, the modes and the units of models, from `open` to `close`.

    Args:
        models: by name.
        prefixes: what the tags of each begin with.
        guarded: makes a hook that never ends the training.
    """

    def __init__(
        self,
        models: Models,
        prefixes: Mapping[str, str],
        guarded: Guard,
    ) -> None:
        self.models, self.prefixes, self.guarded = models, prefixes, guarded
        self._means = _Means()
        self._stack: ExitStack | None = None
        self._units: dict[str, list[Units]] = {}

    def open(self) -> None:
        """From here on the models' next calls are seen."""
        if self._stack is not None:
            return
        self._stack, calls = ExitStack(), Calls()
        self._stack.callback(calls.close)
        for key, model in self.models.items():
            first, inside = first_weights(model), not is_compiled(model)
            met = model if first is None or not inside else unwrapped(model).get_submodule(first)
            hook = self._learning(
                lambda _, inputs, key=key, measured=first is not None: self._called(key, inputs, measured)
            )
            calls.before(met, hook)
            if inside:
                self._units[key] = self._stack.enter_context(
                    watched(unwrapped(model), lambda part, hook: calls.after(part, self._learning(hook)))
                )

    def close(self) -> None:
        """Take every hook away; the units' shares wait to be drained."""
        if self._stack is None:
            return
        self._stack.close()
        self._stack = None
        for key, units in self._units.items():
            for unit in units:
                for tag, share in unit.tags().items():
                    self._means.add(f"{self.prefixes[key]}{tag}", share)
        self._units = {}

    def drain(self) -> dict[str, float]:
        """Means since the last call, by tag."""
        return self._means.drain()

    def _learning(self, hook: Hook) -> Hook:
        """A hook that never ends the training, and sees no call without gradients."""
        guarded = self.guarded(hook)
        return lambda *args: guarded(*args) if torch.is_grad_enabled() else None

    def _called(self, key: str, inputs: tuple[object, ...], measured: bool) -> None:
        """The first layer was called, whoever called it: a framework may never call the whole model."""
        prefix, model = self.prefixes[key], self.models[key]
        if differs_in_evaluation(model):
            self._means.add_number(f"{prefix}mode/evaluation", not model.training)
        if any(isinstance(part, BOUNDED) for part in list(model.modules())[:-1]):
            self._means.add_number(f"{prefix}units/bounded", 1.0)
        given = next((x for x in inputs if isinstance(x, Tensor) and x.is_floating_point()), None)
        if measured and given is not None and given.dim() >= 2 and given.numel():
            for tag, value in scale_of(given.detach()).items():
                self._means.add(f"{prefix}{tag}", value)


def scale_of(inputs: Tensor) -> dict[str, Tensor]:
    """How large inputs are, 0-d each: root mean square, largest magnitude, and how they vary over samples.

    Args:
        inputs: [B, ...], floating point.

    Returns:
        input/rms, input/largest; input/variation: the largest standard deviation of a component over the
        samples, over the root mean square; left out for one sample.
    """
    x = inputs[:SAMPLES].float().flatten(1)
    rms = x.square().mean().sqrt()
    found = {"input/rms": rms, "input/largest": x.abs().amax()}
    if len(x) > 1:
        found["input/variation"] = x.std(0, correction=0).amax() / rms.clamp(min=1e-30)
    return found


class _Means:
    """Sums and counts by tag, on the device until they are read; faster than `Window` for single numbers."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}
        self._folded: dict[str, tuple[float, int]] = {}

    def add(self, tag: str, value: Tensor) -> None:
        """Add a number; the mean of several."""
        if value.is_cpu and value.dim() == 0:  # reading it costs less than keeping it
            self.add_number(tag, value.item())
            return
        values = self._values.setdefault(tag, [])
        values.append(value.detach() if value.dim() == 0 else value.detach().double().mean())
        if len(values) == FEW:
            self._fold(tag)

    def add_number(self, tag: str, value: float) -> None:
        """Add a number that is on the host."""
        total, count = self._folded.get(tag, (0.0, 0))
        self._folded[tag] = total + value, count + 1

    def drain(self) -> dict[str, float]:
        """Means since the last call."""
        for tag in list(self._values):
            self._fold(tag)
        means = {tag: total / count for tag, (total, count) in self._folded.items()}
        self._folded = {}
        return means

    def state_dict(self) -> StateDict:
        """The sums so far."""
        for tag in list(self._values):
            self._fold(tag)
        return {"folded": {tag: list(pair) for tag, pair in self._folded.items()}}

    def state_form(self) -> StateDict:
        """Sums and counts of any tags."""
        return {"folded": Each((Number(finite=False), Number(1, whole=True)))}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self._folded = {tag: (total, count) for tag, (total, count) in state["folded"].items()}

    def _fold(self, tag: str) -> None:
        values = self._values.pop(tag, [])
        if values:
            total, count = self._folded.get(tag, (0.0, 0))
            self._folded[tag] = total + torch.stack(values).double().sum().item(), count + len(values)
