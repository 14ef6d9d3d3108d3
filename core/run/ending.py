"""What a run says when it has ended: what its last seconds were spent on, and where to look at it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote

from core.run.dashboard import URL


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
