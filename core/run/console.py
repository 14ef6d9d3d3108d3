"""What a run prints: a progress bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping

from core.numbers import plain_number


class Console:
    """Progress of one run.

    Args:
        total: the x-axis value at the end.
        unit: what is counted, for example "env steps".
        headline: tags shown with the progress, each with its last value.
        quiet: show nothing between the first and the last line.
    """

    PLAIN_SECONDS = 10.0  # between two plain lines: a log file stays readable

    def __init__(self, total: int, unit: str, headline: tuple[str, ...], quiet: bool) -> None:
        self.total = total
        self.unit = unit
        self.headline = headline
        self.quiet = quiet
        self._shown: dict[str, float] = {}
        self._last_line = time.monotonic()
        self._bar = None
        if not quiet and sys.stdout.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[text]}"),
            )
            self._task = self._bar.add_task("training", total=total, unit=unit, text="")
            self._bar.start()

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Show where the run is; cheap enough for every logged point."""
        self._shown |= {tag: values[tag] for tag in self.headline if tag in values}
        text = "  ".join(f"{tag} {plain_number(value)}" for tag, value in self._shown.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=step, text=text)
        elif not self.quiet and time.monotonic() - self._last_line >= self.PLAIN_SECONDS:
            self._last_line = time.monotonic()
            print(f"{step:>11,} / {self.total:,} {self.unit}   {text}", flush=True)

    def say(self, line: str) -> None:
        """Print a line that stays, above the bar."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
