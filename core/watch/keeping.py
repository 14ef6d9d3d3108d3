"""`good.pt` of a watched loop: the models and optimizers as they were at the last point without an error."""

import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from core.run import checkpoint
from core.run.good import NAME, all_finite
from core.state import StateDict
from core.watch.arguments import num_ranks
from core.watch.models import unwrapped

PATIENCE = 100  # times as long as the last writing took, before the next one
DIVIDED = ("FullyShardedDataParallel", "DTensor")  # classes of what each of several ranks has a part of only


class Keeping:
    """Writes `checkpoints/good.pt`, in at most a hundredth of the loop's time.

    `model` and `optimizer` in it are their state dicts, or dictionaries of these by name where there are
    several; `run` says at which step. Of a model that is divided among ranks nothing is kept: all of them
    would have to take part.

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
        self._path = directory / "checkpoints" / NAME
        self._models, self._optimizers = models, optimizers
        self._rests_until = 0.0

    def write(self, step: int) -> None:
        """Write it, if it is due and all of it is finite.

        Raises:
            ContractError: it cannot be written, or could not be read back.
        """
        begin = time.monotonic()
        found = {name: unwrapped(model) for name, model in self._models.items()}
        models = {name: getattr(model, "_orig_mod", model) for name, model in found.items()}
        if begin < self._rests_until or any(map(_is_divided, models.values())):
            return
        if all_finite(models.values(), self._optimizers.values()):
            parts = {"model": models, "optimizer": self._optimizers}
            states: StateDict = {
                part: {name: owner.state_dict() for name, owner in owners.items()}
                for part, owners in parts.items()
            }
            alone = {part: named[""] if list(named) == [""] else named for part, named in states.items()}
            checkpoint.save(self._path, {**alone, "run": {"step": step}})
        self._rests_until = time.monotonic() + PATIENCE * (time.monotonic() - begin)


def _is_divided(model: nn.Module) -> bool:
    """Whether each of several ranks has a part of it only."""
    parts = (*model.modules(), *model.parameters())
    return num_ranks() > 1 and any(type(part).__name__ in DIVIDED for part in parts)
