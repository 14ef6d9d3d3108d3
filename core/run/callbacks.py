"""Callbacks: a user's own lines in the middle of a run. Nothing of ours is one."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn

from core.config import Component, ConfigError, nearest
from core.errors import ContractError, described
from core.form import Anything, Maybe
from core.gradients import Metrics
from core.state import StateDict
from core.text import as_text, shortened

HOOKS = ("on_start", "on_iteration", "on_evaluation", "on_end")
STATE = ("state_dict", "load_state_dict")


class CallbackError(ContractError):
    """A callback has failed; what it had begun in its own state is not saved."""


@dataclass(frozen=True)
class Event:
    """What a callback is told, and what it can do.

    Attributes:
        step: where the run is on its x-axis (environment steps, images, steps).
        total: where it will end.
        metrics: by tag. Of an iteration: the means of what its update returned, each brought from the device
            when it is read; of an evaluation: its numbers; at the end: those of the final evaluation.
        modules: the networks that are trained, by name: `policy`; `generator`, `discriminator`; `network`.
        parts: all that the checkpoint saves, by its name there, for what is not a network (the environments
            are `parts["collector"].envs`, an optimizer is `parts["gradient_step"].optimizer`).
    """

    step: int
    total: int
    metrics: Mapping[str, float]
    modules: Mapping[str, nn.Module]
    parts: Mapping[str, Any]
    _write: Callable[[Mapping[str, float]], None]
    _stop: Callable[[str], None]

    @property
    def progress(self) -> float:
        """The share of the run that is done, in [0, 1]."""
        return min(self.step / self.total, 1.0) if self.total else 1.0

    def log(self, values: Mapping[str, float]) -> None:
        """Write a point of each of these curves, by tag, at this step."""
        self._write({as_text(tag): float(value) for tag, value in values.items()})

    def stop(self, reason: str = "a callback has stopped it") -> None:
        """End the training after this step.

        The run is finished, as if this had been its length: it is measured, drawn and saved, and resuming it
        does nothing. Its summary has the reason as `stopped_early`.
        """
        self._stop(shortened(as_text(" ".join(reason.split())), 200))


class Callback(Protocol):
    """What `callbacks=[{_target_: mine.Callback}]` may name: any class with some of these functions.

    Each of them may be missing, and none has to be inherited; another public function whose name begins with
    `on_` is refused as a slip. Where there are `state_dict()` and `load_state_dict(state)`, the state is in
    every checkpoint and comes back before the run goes on. An exception ends the run as failed, with the
    checkpoint before.
    """

    __optional__ = HOOKS

    def on_start(self, event: Event) -> None:
        """Before the first iteration; of a resumed run too, whose state is back."""
        ...

    def on_iteration(self, event: Event) -> None:
        """After every iteration, and whatever was logged, evaluated and drawn at its end."""
        ...

    def on_evaluation(self, event: Event) -> None:
        """After every evaluation during the training, before `on_iteration`."""
        ...

    def on_end(self, event: Event) -> None:
        """When the training has ended and was measured; not where it was interrupted or has failed."""
        ...


class Means(Mapping[str, float]):
    """Means of one iteration's metrics; only what is read is brought from the device."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics: Mapping[str, Tensor] = metrics

    def __getitem__(self, tag: str) -> float:
        return self._metrics[tag].detach().cpu().double().mean().item()

    def __iter__(self) -> Iterator[str]:
        return iter(self._metrics)

    def __len__(self) -> int:
        return len(self._metrics)


class Callbacks:
    """The callbacks of a run, in the order in which they were named.

    Args:
        chosen: as the option gives them.

    Raises:
        ConfigError: one cannot be made, or has no function that would be called.

    Attributes:
        stopped_early: the reason for which one has ended the training; None = none has.
    """

    def __init__(self, chosen: Sequence[Component | Callback]) -> None:
        self._all = {str(i): _made(part, f"callbacks.{i}") for i, part in enumerate(chosen)}
        self.stopped_early: str | None = None

    def __bool__(self) -> bool:
        return bool(self._all)

    def begin(
        self,
        total: int,
        modules: Mapping[str, nn.Module],
        parts: Mapping[str, Any],
        write: Callable[[Mapping[str, float]], None],
        say: Callable[[str], None],
    ) -> None:
        """Take in what events consist of.

        Args:
            total: as in `Event`.
            modules: as in `Event`.
            parts: as in `Event`.
            write: writes points of curves.
            say: prints one line.
        """
        self._event = partial(Event, total=total, modules=modules, parts=parts, _write=write)
        self._total, self._say = total, say

    def after_step(
        self, step: int, metrics: Mapping[str, float], evaluated: Mapping[str, float] | None
    ) -> None:
        """Call them at the end of an iteration.

        Args:
            step: x-axis value.
            metrics: of the iteration.
            evaluated: of the evaluation that it ended with; None = there was none.
        """
        if evaluated is not None:
            self.call("on_evaluation", step, evaluated)
        self.call("on_iteration", step, metrics)

    def call(self, hook: str, step: int, metrics: Mapping[str, float]) -> None:
        """Call one function of all that have it.

        Raises:
            CallbackError: one has failed; one line with its class and the place.
        """

        def stop(reason: str) -> None:
            if step < self._total and self.stopped_early is None:
                self.stopped_early = reason
                self._say(f"a callback ends the training: {reason}")

        for number, callback in self._all.items():
            if hasattr(callback, hook):
                self._ask(number, hook, self._event(step=step, metrics=metrics, _stop=stop))

    def summary(self) -> dict[str, object]:
        """What the run's summary says: nothing, if the training has its full length."""
        return {} if self.stopped_early is None else {"stopped_early": self.stopped_early}

    def state_dict(self) -> StateDict:
        """The state of each callback that has one, by its number, and whether one has stopped."""
        states = {i: self._ask(i, STATE[0]) for i, each in self._all.items() if hasattr(each, STATE[0])}
        return {"states": states, "stopped_early": self.stopped_early}

    def state_form(self) -> StateDict:
        """A callback knows its own."""
        states = {i: Anything() for i, each in self._all.items() if hasattr(each, STATE[0])}
        return {"states": states, "stopped_early": Maybe("")}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue."""
        self.stopped_early = state["stopped_early"]
        for number, each in self._all.items():
            if hasattr(each, STATE[0]):
                each.load_state_dict(state["states"][number])

    def _ask(self, number: str, name: str, *arguments: object) -> Any:
        callback = self._all[number]
        try:
            return getattr(callback, name)(*arguments)
        except ContractError:  # of an environment, or of the disk, that it has met
            raise
        except Exception as error:
            where = f"callbacks.{number}: {_name(callback)}.{name}"
            raise CallbackError(f"{where} failed: {described(error)}") from error


def _made(part: Component | Callback, path: str) -> Any:
    """A callback with functions that will be called."""
    callback = part
    if isinstance(part, Component):
        try:
            callback = part()
        except Exception as error:
            raise ConfigError(f"{path}: {_name(part.target)} cannot be made: {described(error)}") from error
    name, functions = _name(callback), [each for each in dir(callback) if each.startswith("on_")]
    for each in functions:
        if each not in HOOKS and callable(getattr(callback, each)):
            raise ConfigError(f"{path}: {name}.{each} would never be called{nearest(each, HOOKS)}")
        if each in HOOKS and not _takes_one(getattr(callback, each)):
            raise ConfigError(f"{path}: {name}.{each} must be a function of one argument, the event")
    if not set(functions) & set(HOOKS):
        raise ConfigError(f"{path}: {name} has none of {', '.join(HOOKS)}, so it would never be called")
    half = [each for each in STATE if hasattr(callback, each)]
    if len(half) == 1:
        raise ConfigError(
            f"{path}: {name} has {half[0]} alone; a resumed run needs both {' and '.join(STATE)}"
        )
    return callback


def _takes_one(function: object) -> bool:
    try:
        inspect.signature(function).bind(None)  # type: ignore[arg-type]  # it may be anything
    except (TypeError, ValueError):
        return False
    return True


def _name(thing: object) -> str:
    kind = thing if isinstance(thing, type) else type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"
