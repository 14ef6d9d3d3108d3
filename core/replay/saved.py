"""The checkpoints of a run that it could be taken up from again."""

from dataclasses import dataclass
from pathlib import Path

from core.config import ConfigError
from core.run import checkpoint


@dataclass(frozen=True, order=True)
class Saved:
    """A checkpoint that a run could continue from.

    Attributes:
        step: x-axis value.
        path: of the file.
        remedies: what the rollbacks before it had changed, as overrides.
        rollbacks: how many there had been.
    """

    step: int
    path: Path
    remedies: tuple[str, ...] = ()
    rollbacks: int = 0


def checkpoints(directory: Path) -> list[Saved]:
    """The whole checkpoints of a run, the latest last."""
    found = []
    for path in (directory / "checkpoints").glob("*.pt"):
        try:
            state = checkpoint.load(path, mmap=True)
            step = checkpoint.step_of(state, path)
        except ConfigError:  # another one may be whole
            continue
        done = (state.get("rollbacks") or {"done": ()})["done"]
        remedies = tuple(text for one in done for text in one["remedy"])
        found.append(Saved(step, path, remedies, len(done)))
    return sorted(found)
