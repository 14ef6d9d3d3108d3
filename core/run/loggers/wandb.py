"""Weights & Biases: a run there that shows what this one logs."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

from core.run.directory import jsonable
from core.run.loggers.logger import Opening, require_installed

STEP = "step"  # the x-axis of every curve; W&B's own counts calls


@dataclass(frozen=True, kw_only=True)
class WandB:
    """The option `logger=wandb`.

    Attributes:
        project: it is made if need be.
        entity: a team or a user; None = the account's default.
        name: of the run; None = from its directory.
        mode: None = as WANDB_MODE says, and online without it.
    """

    project: str = "gradsight"
    entity: str | None = None
    name: str | None = None
    mode: Literal["online", "offline"] | None = None

    def check(self) -> None:
        """W&B must be installed."""
        require_installed("wandb", "wandb")

    def open(self, opening: Opening) -> "WandBRun":
        """Begin a run; its files are in the run's directory, in `wandb/`."""
        import wandb

        run = wandb.init(
            project=self.project,
            entity=self.entity,
            name=self.name or opening.name,
            tags=opening.tags or None,
            id=opening.state.get("id"),
            resume="allow",
            mode=self.mode,
            dir=opening.directory,
            config=opening.options,
            reinit="create_new",  # a comparison has a run open while its descents have theirs
            settings=wandb.Settings(console="off"),
        )
        return WandBRun(run)


class WandBRun:
    """One run there. Every call is a row of its own; points are found by their tag and `step`.

    Args:
        run: as W&B made it.
    """

    def __init__(self, run: Any) -> None:
        self.run = run
        self._status = 1
        run.define_metric("*", step_metric=STEP)

    def state(self) -> dict[str, str]:
        """Its id."""
        return {"id": self.run.id}

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log one row."""
        self.run.log({**values, STEP: step})

    def media(self, tag: str, path: Path, step: int) -> None:
        """Log a copy of the file."""
        import wandb

        file = str(path)
        shown = wandb.Image(file) if path.suffix == ".png" else wandb.Video(file, format="gif")
        self.run.log({tag: shown, STEP: step})

    def findings(self, markdown: str, step: int) -> None:
        """Log the table as it is written."""
        import wandb

        self.run.log({"findings": wandb.Html(f"<pre>{escape(markdown)}</pre>"), STEP: step})

    def summary(self, summary: Mapping[str, object]) -> None:
        """Its summary has all fields of ours; a run that is not finished counts as failed there."""
        self._status = int(summary["status"] != "finished")
        self.run.summary.update({name: jsonable(value) for name, value in summary.items()})

    def close(self) -> None:
        """Wait until everything is sent."""
        self.run.finish(exit_code=self._status)
