"""One training after another under a framework, which trains twice, resumes or fails as it likes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.diagnosis import Rule
from core.run.directory import holds_run
from core.state import StateDict
from core.watch.arguments import status_after
from core.watch.watch import Watch


class Continued:
    """Opens and ends the Watches of a callback: the next training of the same model goes on in the same run.

    Args:
        directory, rules, interval: as of `Watch`.

    Attributes:
        watch: of the training that runs, or the last one; None before the first.
    """

    def __init__(self, directory: str | Path | None, rules: Sequence[Rule], interval: int) -> None:
        self.watch: Watch | None = None
        self._options: dict[str, Any] = {"directory": directory, "rules": rules, "interval": interval}
        self._running = False
        self._state: StateDict | None = None
        self._owner: nn.Module | None = None  # whose state it is; None = the next model's

    def open(
        self,
        models: nn.Module | Mapping[str, nn.Module],
        optimizers: torch.optim.Optimizer | Mapping[str, torch.optim.Optimizer],
        loss: Callable[..., Any] | None = None,
        scaler: torch.amp.GradScaler | None = None,
        rules: Sequence[Rule] = (),
    ) -> Watch:
        """A training begins; errors are those of `Watch`."""
        self.end("stopped")
        owner = models if isinstance(models, nn.Module) else next(iter(models.values()))
        state = self._state if self._owner in (None, owner) else None
        options = {**self._options, "rules": (*self._options["rules"], *rules)}
        folder = options["directory"]  # a checkpoint may have come here without it
        resume = state is not None and folder is not None and holds_run(Path(folder))
        self.watch = Watch(models, optimizers, loss, scaler=scaler, resume=resume, **options)
        if state is not None:
            self.watch.load_state_dict(state)
        self._owner, self._running = owner, True
        return self.watch

    def log(self, loss: Tensor | float | None = None, **curves: Tensor | float) -> None:
        """Add to the curves of the training that runs; an evaluation outside of one is nobody's."""
        if self._running and self.watch is not None:
            self.watch.log(loss, **curves)

    def end(self, otherwise: str = "finished", error: BaseException | None = None) -> None:
        """The training is over."""
        if self._running and self.watch is not None:
            self._running = False
            self.watch.close(status_after(error, otherwise))
            self._state = self.watch.state_dict()

    def state_dict(self) -> StateDict:
        """Of the training that runs, or as the last one ended; empty before the first."""
        if self._running and self.watch is not None:
            return self.watch.state_dict()
        return self._state or {}

    def load_state_dict(self, state: StateDict) -> None:
        """The next training goes on from `state_dict`."""
        self._state, self._owner = state or None, None


def named_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """What a framework has logged under names of its own, as curves below `logged/`; numbers only."""
    numbers = {name: value for name, value in values.items() if _is_number(value)}
    return {f"logged/{name.replace(' ', '_')}": float(value) for name, value in numbers.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1)
