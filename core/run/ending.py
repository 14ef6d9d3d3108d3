"""What a run says when it has ended: how its last seconds were spent, where to look at it, what is saved."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from core.errors import ContractError, DiskError, MemoryShortageError
from core.run.callbacks import CallbackError
from core.run.dashboard import URL
from core.run.directory import resumption

if TYPE_CHECKING:
    from core.run.run import Run


def ending(directory: Path, measured: float, drawn: float, pictures: Sequence[str]) -> Iterator[str]:
    """The last lines of a run.

    Args:
        directory: of the run.
        measured: seconds between the last update and the end of the final evaluation.
        drawn: seconds from there, for the pictures and the summary.
        pictures: their tags.
    """
    names = f" ({', '.join(pictures)})" if pictures else ""
    yield f"after training: {measured:.1f} s of evaluation, {drawn:.1f} s of drawing and saving{names}"
    yield f"finished: {directory}; look at it at {URL} with: tensorboard --logdir {quote(str(directory))}"


def rescue(run: "Run", saved: bool, error: ContractError) -> str:
    """Save what there is after something outside of a run has failed; how to continue, to be said.

    What the disk did not take would be missing for ever after a checkpoint of this moment, and an update that
    memory did not suffice for, or a callback, half done; from the one before, the run does it again.

    Args:
        run: that has begun.
        saved: whether its last checkpoint is of this moment.
        error: what has failed.
    """
    try:
        if not saved:
            if isinstance(error, DiskError | MemoryShortageError | CallbackError):
                raise error
            run.save("last.pt")
    except ContractError:  # the disk or the memory has failed, or no file can hold the state
        kept = "the checkpoint before is kept" if run.resuming else "there is no checkpoint yet"
        return f"; not saved at {run.step:,} {run.unit}, {kept}"
    return f"; saved at {run.step:,} {run.unit}, continue with {resumption(run.directory)}"
