"""The path of a run through parameter space: a few dozen snapshots of all trained parameters, one file each.

The schedule has no state: for N snapshots the x-axis is cut into N - 1 equal bins, and the first iteration
that ends in a bin writes a snapshot, named after its step. A run that was killed and resumed therefore writes
the same files again, and a prolonged run keeps those of its old files that the wider bins would have left.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from core.config import ConfigError
from core.form import AnyTensor, Each, require_form
from core.gradients import GradientStep
from core.run import checkpoint

FOLDER = "snapshots"
CAP = 128_000_000  # bytes of all snapshots of a run: 24 points of 1.3 million parameters
FEWEST = 3  # points that span a plane

Snapshot = dict[str, dict[str, Tensor]]  # by the gradient step's name, then by parameter


class Snapshots:
    """Writes snapshots of the parameters of all gradient steps, in float32.

    Args:
        directory: the run directory; the files go to `snapshots/STEP.pt`.
        count: N, snapshots of the whole run, both ends included; 0 = none. There are fewer where they would
            take more than 128 MB, and none where that leaves fewer than three.
        total: x-axis value at which the run ends.
        steps: the gradient steps that own the parameters.
        say: prints a line where there will be fewer snapshots than asked for.
    """

    def __init__(
        self,
        directory: Path,
        count: int,
        total: int,
        steps: Sequence[GradientStep],
        say: Callable[[str], None],
    ) -> None:
        self.folder = directory / FOLDER
        self.steps = list(steps)
        self.total = total
        size = 4 * sum(p.numel() for step in self.steps for p in step.parameters)
        fitting = min(count, CAP // max(size, 1))
        kept = fitting if fitting >= FEWEST else 0
        if kept < count and count >= FEWEST:
            say(
                f"logging.snapshots={count} snapshots of {size / 1e6:,.0f} MB are more than "
                f"{CAP / 1e6:.0f} MB: this run keeps {kept or 'none'}"
            )
        self.interval = max(1, -(-total // (kept - 1))) if kept else 0
        self._last = -1

    def start(self, step: int) -> None:
        """Begin or continue at `step`; delete snapshots that were written after it, or between the bins."""
        if not self.interval:
            return
        bins: set[int] = set()
        for path, at in files(self.folder.parent):
            if at > step or (at // self.interval in bins and at < self.total):
                path.unlink()
            bins.add(at // self.interval)
        if step == 0:
            self._write(0)
        self._last = step

    def add(self, step: int) -> None:
        """Write a snapshot if `step` is the first of its bin, or the last of the run."""
        if not self.interval:
            return
        if step // self.interval > self._last // self.interval or step >= self.total:
            self._write(step)
        self._last = step

    def _write(self, step: int) -> None:
        parameters = {
            s.name: {
                name: p.detach().to("cpu", torch.float32)
                for name, p in zip(s.names, s.parameters, strict=True)
            }
            for s in self.steps
        }
        checkpoint.save(self.folder / f"{step:012}.pt", {"step": step, "parameters": parameters})


def files(directory: Path) -> list[tuple[Path, int]]:
    """The snapshots of a run and their steps, in order; files with other names are ignored."""
    paths = sorted((directory / FOLDER).glob("*.pt"))
    return [(path, int(path.stem)) for path in paths if path.stem.isdecimal()]


def read_snapshots(directory: Path, until: int) -> list[tuple[int, Snapshot]]:
    """The snapshots of a run up to a step, in order, each with its step.

    Raises:
        ConfigError: a file is damaged, or is no snapshot.
    """
    return [(at, _read(path)) for path, at in files(directory) if at <= until]


def _read(path: Path) -> Snapshot:
    state = checkpoint.load(path)
    try:
        require_form(state, {"parameters": Each(Each(AnyTensor(torch.float32)))})
    except ValueError as error:
        raise ConfigError(f"{path} is no snapshot of a run: {' '.join(str(error).split())[:200]}") from error
    return state["parameters"]
