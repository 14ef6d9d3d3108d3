"""All curves of a run in one table, `curves.csv`: a row for each step, a column for each tag.

That is what spreadsheets and `pandas.read_csv("curves.csv", index_col="step")` expect. Where a step has no
point of a curve, its cell is empty, which pandas reads as NaN.
"""

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.run.files import write_bytes
from core.run.loggers.logger import Opening
from core.text import as_text

FILE = "curves.csv"
STEP = "step"  # the first column


@dataclass(frozen=True)
class CSV:
    """The option `logger=csv`."""

    def check(self) -> None:
        """Nothing to be checked: the directory is."""

    def open(self, opening: Opening) -> "Table":
        """The table, without what a resumed run will write again."""
        return Table(opening.directory / FILE, opening.resumed_at)


class Table:
    """One file. A row is written as soon as it begins, and again when more of its step is known.

    Every value is Python's shortest text of a float64, so it is read back as the same number; infinities and
    NaN are `inf`, `-inf` and `nan`.

    Args:
        path: of the file.
        kept: the last step whose row stays; None = a table that begins.
    """

    def __init__(self, path: Path, kept: int | None) -> None:
        self.path = path
        self.columns: list[str] = []
        rows = [] if kept is None else self._read(kept)
        self._step, self._row = rows[-1] if rows else (-1, {})
        self._rewrite(rows)

    def state(self) -> dict[str, str]:
        """It is the only file of its name."""
        return {}

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Begin a row, or complete the last one; a new tag is a new column, to the right of the others."""
        named = {as_text(tag): value for tag, value in values.items()}
        if step == self._step:
            named = self._row | named
        else:
            self._place = os.lseek(self._file, 0, os.SEEK_END)
        self._step, self._row = step, named
        new = sorted(named.keys() - set(self.columns))
        if new:
            rows = [(at, row) for at, row in self._read(step) if at != step]
            self.columns += new
            self._rewrite([*rows, (step, named)])
        else:
            # Over the row before, and only then cut: a kill in between leaves a rest that `_read` skips.
            length = os.pwrite(self._file, self._line(step, named), self._place)
            os.ftruncate(self._file, self._place + length)

    def media(self, tag: str, path: Path, step: int) -> None:
        """Pictures have files of their own."""

    def findings(self, markdown: str, step: int) -> None:
        """In `findings.json`."""

    def summary(self, summary: Mapping[str, object]) -> None:
        """In `summary.json`."""

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _read(self, last: int) -> list[tuple[int, dict[str, float]]]:
        """Whole rows up to this step, and the file's columns."""
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            lines = csv.reader(file)
            self.columns = next(lines, [STEP])[1:]
            return [row for row in _parsed(lines, self.columns) if row[0] <= last]

    def _rewrite(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Write the whole table under a temporary name, which then takes the old one's place."""
        lines = [_encoded([STEP, *self.columns]), *(self._line(*row) for row in rows)]
        write_bytes(self.path, b"".join(lines))
        if hasattr(self, "_file"):
            os.close(self._file)
        self._file = os.open(self.path, os.O_RDWR)
        self._place = sum(map(len, lines[:-1])) if rows else len(lines[0])

    def _line(self, step: int, row: Mapping[str, float]) -> bytes:
        return _encoded([step, *(repr(float(row[tag])) if tag in row else "" for tag in self.columns)])


def _parsed(lines: Iterator[list[str]], columns: Sequence[str]) -> Iterator[tuple[int, dict[str, float]]]:
    """Steps and values; of a file that a kill has left, what is no whole row is left out."""
    for line in lines:
        try:
            step, *cells = line
            pairs = zip(columns, cells, strict=True)
            yield int(step), {tag: float(cell) for tag, cell in pairs if cell}
        except ValueError:
            continue


def _encoded(cells: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()
