"""What a run prints: a progress bar on a terminal, plain lines elsewhere; both fit into 80 columns."""

import sys
from collections.abc import Mapping

from core.numbers import plain_number
from core.run.pace import Pace

WIDTH = 80  # columns of a plain line, and of a terminal that is not wider
BAR = 16  # columns of the bar


class Console:
    """Progress of one run.

    Args:
        total: the x-axis value at the end.
        unit: what is counted, for example "env steps".
        headline: tags shown with the progress, each with its last value, as many as fit.
        quiet: show nothing between the first and the last line.
    """

    def __init__(self, total: int, unit: str, headline: tuple[str, ...], quiet: bool) -> None:
        self.total = total
        self.unit = unit
        self.headline = headline
        self.quiet = quiet
        self._shown: dict[str, float] = {}
        self._pace = Pace(None)
        self._bar = None
        if not quiet and sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(BarColumn(bar_width=BAR), TextColumn("{task.fields[text]}"))
            self._task = self._bar.add_task("", total=total, text="")
            self._bar.start()

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Show where the run is; cheap enough for every logged point."""
        self._shown |= {tag: values[tag] for tag in self.headline if tag in values}
        left = self._pace.left(step, self.total)
        if self._bar is not None:
            text = self._line(
                f"{step:,} / {self.total:,} {self.unit}", left, self._bar.console.width - BAR - 2
            )
            self._bar.update(self._task, completed=step, text=text)
        elif not self.quiet and self._pace.due():
            print(self._line(f"{step:>11,} / {self.total:,} {self.unit}", left, WIDTH), flush=True)

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

    def _line(self, reached: str, left: str, width: int) -> str:
        """Where the run is, how long it still takes, and as many numbers as fit."""
        line = "   ".join(filter(None, (reached, left)))
        space = "   "
        for tag, value in self._shown.items():
            more = f"{space}{tag} {plain_number(value)}"
            if len(line + more) > width:
                break
            line, space = line + more, "  "
        return line
