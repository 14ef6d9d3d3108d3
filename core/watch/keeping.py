"""The checkpoints of a watched loop: its models and optimizers at a logged point, proven by a later one."""

import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from core.run import checkpoint
from core.run.files import duplicate
from core.run.good import NAME, all_finite
from core.state import StateDict
from core.watch.arguments import num_ranks
from core.watch.models import unwrapped

LAST = "last.pt"
PATIENCE = 300  # times as long as the last writing took, before the next one
DIVIDED = ("FullyShardedDataParallel", "DTensor")  # classes of what each of several ranks has a part of only


class Keeping:
    """Writes `checkpoints/last.pt`, in at most a three-hundredth of the loop's time, and makes it `good.pt`.

    It is good once the next point has been logged, and no error was seen there: a point of the very same step
    has seen what led to it, and not what the models have become. `model` and `optimizer` in it are their
    state dicts, or dictionaries of these by name where there are several; `run` says at which step. Of a
    model that is divided among ranks nothing is kept: all of them would have to take part.

    Args:
        directory: of the run.
        models: by name.
        optimizers: by name.
    """

    def __init__(
        self,
        directory: Path,
        models: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
    ) -> None:
        self._folder = directory / "checkpoints"
        self._models, self._optimizers = models, optimizers
        self._rests_until = 0.0
        self._waiting = False  # whether last.pt becomes good.pt at the next sound point

    def logged(self, step: int, *, sound: bool) -> None:
        """Take in a logged point, and whether no error was seen there.

        Raises:
            ContractError: a checkpoint cannot be written, or could not be read back.
        """
        if self._waiting and sound:
            duplicate(self._folder / LAST, self._folder / NAME)
        self._waiting = sound and self._write(step)

    def _write(self, step: int) -> bool:
        """Write `last.pt`, if it is due and all of it is finite; whether it was."""
        begin = time.monotonic()
        found = {name: unwrapped(model) for name, model in self._models.items()}
        models = {name: getattr(model, "_orig_mod", model) for name, model in found.items()}
        if begin < self._rests_until or any(map(_is_divided, models.values())):
            return False
        finite = all_finite(models.values(), self._optimizers.values())
        if finite:
            parts = {"model": models, "optimizer": self._optimizers}
            states: StateDict = {
                part: {name: owner.state_dict() for name, owner in owners.items()}
                for part, owners in parts.items()
            }
            alone = {part: named[""] if list(named) == [""] else named for part, named in states.items()}
            checkpoint.save(self._folder / LAST, {**alone, "run": {"step": step}})
        self._rests_until = time.monotonic() + PATIENCE * (time.monotonic() - begin)
        return finite


def _is_divided(model: nn.Module) -> bool:
    """Whether each of several ranks has a part of it only."""
    parts = (*model.modules(), *model.parameters())
    return num_ranks() > 1 and any(type(part).__name__ in DIVIDED for part in parts)
