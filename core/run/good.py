"""`good.pt`: the last checkpoint that a run can be sure of.

`last.pt` may have been written after the cause of what ends a run: its parameters are finite, and lie where
no gradient is. So a checkpoint is good once a point has been logged behind it, and no rule has seen an error
there. A point of the very same step has seen what led to it, not what it holds: a weight may have been spoilt
in between. Two have nothing behind them. What has not been trained is good. The end of a run is, where no
error was seen at its last point and what was measured of it is finite.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from core.run.files import duplicate

NAME = "good.pt"


class Good:
    """Keeps `good.pt`: a second name of the file that is `last.pt`, for as long as that is no other.

    Args:
        folder: of the checkpoints.
        modules: the networks of the run.
        optimizers: theirs; of a run without one, no checkpoint is kept.

    Attributes:
        saved_at: x-axis value of `last.pt`; -1 = there is none yet.
        sound_at: of the last logged point at which no error was seen; 0 = none yet.
        finite: whether `last.pt` holds no number that is none.
        not_before: no checkpoint of an earlier step is good, because a run that has returned may be about to
            return again.
    """

    def __init__(
        self,
        folder: Path,
        modules: Iterable[nn.Module],
        optimizers: Iterable[torch.optim.Optimizer],
    ) -> None:
        self.saved_at, self.sound_at, self.not_before = -1, 0, 0
        self.finite = True
        self._folder = folder
        self._modules, self._optimizers = list(modules), list(optimizers)
        self._waiting = False  # whether last.pt becomes good.pt at the next sound point

    def saved(self, step: int) -> None:
        """Take in that `last.pt` has been written at this step."""
        self.saved_at = step
        self.finite = not self._optimizers or all_finite(self._modules, self._optimizers)
        self._waiting = bool(self._optimizers) and self.finite and step >= self.not_before
        if step == 0:
            self._keep()

    def logged(self, step: int, *, sound: bool) -> None:
        """Take in a logged point, and whether it gives no reason to mistrust the checkpoint before it."""
        if sound:
            self.sound_at = step
            self._keep()
        self._waiting = False

    def ended(self, measured: Iterable[float]) -> None:
        """Take in that the run has ended with `last.pt`, and the numbers that were measured of it."""
        if self.saved_at == self.sound_at and all(map(math.isfinite, measured)):
            self._keep()

    def _keep(self) -> None:
        if self._waiting:
            duplicate(self._folder / "last.pt", self._folder / NAME)


def all_finite(modules: Iterable[nn.Module], optimizers: Iterable[torch.optim.Optimizer]) -> bool:
    """Whether parameters and the optimizers' tensors are finite, and no buffer holds a NaN.

    A buffer may be infinite, as a mask is. Waits for each device once.
    """
    modules, optimizers = list(modules), list(optimizers)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    owners = [*(module.parameters() for module in modules), *(group["params"] for group in groups)]
    parameters = {id(p): p.detach() for owned in owners for p in owned}
    moments = _tensors([optimizer.state_dict() for optimizer in optimizers])
    buffers = [b for module in modules for b in module.buffers() if b.is_floating_point()]
    broken = [~(_ends(t).isfinite().all()) for t in (*parameters.values(), *moments) if t.numel()]
    broken += [_ends(b).isnan().any() for b in buffers if b.numel()]
    devices = {flag.device for flag in broken}
    return not any(torch.stack([f for f in broken if f.device == device]).any() for device in devices)


def _ends(values: Tensor) -> Tensor:
    """The lowest and the largest value, NaN where one is: they tell in one pass what all of them are."""
    return torch.stack(torch.aminmax(torch.view_as_real(values) if values.is_complex() else values))


def _tensors(state: object) -> Iterator[Tensor]:
    """All tensors of a state that have a fraction."""
    if isinstance(state, Tensor):
        if state.is_floating_point() or state.is_complex():
            yield state
    elif isinstance(state, Mapping | list | tuple):
        for part in state.values() if isinstance(state, Mapping) else state:
            yield from _tensors(part)
