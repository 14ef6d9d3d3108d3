"""Trackio: a run in its database on this machine, or in a Space of Hugging Face."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.run.loggers.logger import Opening, require_installed


@dataclass(frozen=True, kw_only=True)
class Trackio:
    """The option `logger=trackio`.

    Attributes:
        project: it is made if need be.
        name: of the run; None = from its directory.
        space_id: a Space, `user/name`; None = as TRACKIO_SPACE_ID says, and on this machine without it.
    """

    project: str = "gradsight"
    name: str | None = None
    space_id: str | None = None

    def check(self) -> None:
        """Trackio must be installed."""
        require_installed("trackio", "trackio")

    def open(self, opening: Opening) -> "TrackioRun":
        """Begin a run, or go on in it.

        Raises:
            LookupError: the project has a later run of the same name, which Trackio would go on in.
        """
        import trackio

        run = trackio.init(
            project=self.project,
            name=opening.state.get("name") or self.name or opening.name,
            space_id=self.space_id,
            config={key: value for key, value in opening.options.items() if not key.startswith("_")},
            resume="allow" if opening.state else "never",
            embed=False,
        )
        if opening.state.get("id", run.id) != run.id:
            run.finish()
            raise LookupError(f"the project {self.project} has a later run of the name {run.name}")
        return TrackioRun(run)


class TrackioRun:
    """One run there.

    Args:
        run: as Trackio made it.
    """

    def __init__(self, run: Any) -> None:
        self.run = run

    def state(self) -> dict[str, str]:
        """Its name, by which it is found, and its id, by which it is known."""
        return {"name": self.run.name, "id": self.run.id}

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log one row."""
        self.run.log(dict(values), step=step)

    def media(self, tag: str, path: Path, step: int) -> None:
        """Log a copy of the file."""
        import trackio

        kind = trackio.Image if path.suffix == ".png" else trackio.Video
        self.run.log({tag: kind(str(path))}, step=step)

    def findings(self, markdown: str, step: int) -> None:
        """Log the table."""
        import trackio

        self.run.log({"findings": trackio.Markdown(markdown)}, step=step)

    def summary(self, summary: Mapping[str, object]) -> None:
        """Trackio has no summaries; the last points of the curves say the same."""

    def close(self) -> None:
        """Wait until everything is written."""
        self.run.finish()
