"""A trial of a study: a run of the trainer, looked at while it goes, and what became of it."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.cli.paths import quoted
from core.config import ConfigError
from core.run.directory import NOT_FINITE, is_run, read_summary
from core.run.tensorboard import read_scalars

SAID = "output.txt"  # in the directory of the study, of each trial, by its number


@dataclass(frozen=True)
class Trainer:
    """The command that trains.

    Attributes:
        module: whose `main` it is.
        name: under which it is installed.
        words: typed for it, those of the search first.
        flags: in front of them.
        interval: of its evaluations, on its x-axis.
        total: its length.
        typed: how the user calls it, quoted for a shell.
    """

    module: str
    name: str
    words: tuple[str, ...]
    flags: tuple[str, ...]
    interval: int
    total: int
    typed: str


@dataclass
class Trial:
    """One run of the trainer, which has begun.

    Attributes:
        asked: Optuna's trial.
        directory: of the run.
        process: that trains.
        pruned: it was told to stop, because others do better.
    """

    asked: Any
    directory: Path
    process: subprocess.Popen
    tag: str | None
    trainer: Trainer
    pruned: bool = False
    _size: int = -1
    _reported: set[int] = field(default_factory=set)

    def look(self) -> None:
        """Report the evaluations that are new, and stop the run where the pruner says so."""
        if self.tag is None or self.pruned:
            return
        size = sum(path.stat().st_size for path in self.directory.glob("events.out.tfevents.*"))
        if size == self._size:
            return
        self._size = size
        for step, value in read_scalars(self.directory).get(self.tag, {}).items():
            number = (
                step // self.trainer.interval
            )  # the same evaluation of all trials, whatever their rollouts
            if number in self._reported or step >= self.trainer.total or value != value:
                continue
            self._reported.add(number)
            self.asked.report(value, number)
            if self.asked.should_prune():
                self.pruned = True
                self.stop()
                return

    def stop(self) -> None:
        """Let the run save a checkpoint and end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def value(self, objective: str) -> float:
        """What a finished run has reached.

        Raises:
            ConfigError: nothing of that name, or no number.
        """
        summary = read_summary(self.directory) or {}
        found: object = summary.get(objective)
        lost = summary.get(NOT_FINITE)
        if isinstance(lost, list) and objective in lost:
            raise ConfigError(f"{objective} of {self.directory} is not a finite number")
        if objective not in summary:
            points = read_scalars(self.directory).get(objective)
            found = [*points.values()][-1] if points else None
        if not isinstance(found, int | float) or isinstance(found, bool) or found != found:
            raise ConfigError(
                f"{self.directory} has no number {objective}, neither in summary.json nor as a curve"
            )
        return float(found)

    def why(self) -> str:
        """The last line that says what is wrong."""
        path = said_of(self.directory)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return errors[-1] if errors else f"what it said is in {path}"


def said_of(directory: Path) -> Path:
    """Where a trial's process writes what it says."""
    return directory.with_suffix(".txt")


def begin(asked: Any, directory: Path, words: Sequence[str], trainer: Trainer, tag: str | None) -> Trial:
    """Start a trial, or go on with the run in its directory.

    Args:
        asked: Optuna's trial.
        directory: of its run.
        words: of the values to be tried.
        trainer: what trains.
        tag: of the curve that the pruner looks at.
    """
    place = f"hydra.run.dir={quoted(str(directory))}"
    typed = [f"resume={directory}"] if is_run(directory) else [*trainer.words, *words, place]
    directory.parent.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-m", "core.tune.child", trainer.module, trainer.name, *trainer.flags, *typed]
    with said_of(directory).open("ab") as file:
        process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    return Trial(asked, directory, process, tag, trainer)
