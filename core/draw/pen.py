"""A picture made of rectangles, lines and letters by Pillow alone, in the style of all others.

For what every run draws: matplotlib takes longer to import than a short run to train.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.draw.figure import DPI, TEXT
from core.draw.palette import Look
from core.text import printable

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

SWATCH, SPACE = 16, 24  # pixels: a colour in a legend, and what is between two entries


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels; right and bottom are the first that it no longer has."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def middle(self) -> int:
        """The column in the middle."""
        return (self.left + self.right) // 2

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top


Mark = Callable[["Pen", Box], None]  # draws what a legend explains, in a box


class Pen:
    """Draws on an empty page of one look.

    Args:
        look: its colours.
        width: of the page, pixels.
        height: of the page, pixels.
    """

    def __init__(self, look: Look, width: int, height: int) -> None:
        from PIL import Image, ImageDraw

        self.look, self.width = look, width
        self._page = Image.new("RGB", (width, height), look.page)
        self._draw = ImageDraw.Draw(self._page)

    def write(
        self, x: int, y: int, text: str, anchor: str, colour: str = "", size: float = TEXT, *,
        bold: bool = False,
    ) -> None:  # fmt: skip
        """Write a line at a place; what is no text in it is escaped, and it is moved where it would be cut.

        Args:
            x: pixels from the left.
            y: pixels from the top.
            text: what is written.
            anchor: what stands there, as Pillow says it: "la" for the upper left end, "ms" for the middle of
                the line on which letters stand.
            colour: that of ink by default.
            size: points.
            bold: whether the letters are.
        """
        letters, font = printable(text), _font(size, bold=bold)
        left, _, right, _ = self._draw.textbbox((x, y), letters, font, anchor)
        x += round(max(0, -left) - max(0, right - self.width))
        self._draw.text((x, y), letters, colour or self.look.ink, font, anchor)

    def length(self, text: str) -> int:
        """Pixels from the beginning of a line to its end."""
        return round(_font(TEXT, bold=False).getlength(printable(text)))

    def line(self, x0: int, y0: int, x1: int, y1: int) -> None:
        """A line of an axis, both ends included."""
        self._draw.line((x0, y0, x1, y1), self.look.faint)

    def frame(self, box: Box) -> None:
        """The edge of a rectangle."""
        self._draw.rectangle((box.left, box.top, box.right - 1, box.bottom - 1), outline=self.look.faint)

    def paint(self, box: Box, colours: np.ndarray) -> None:
        """Fill a rectangle with colours, uint8 [rows, columns, 3], which are spread over it."""
        from PIL import Image

        rows, columns = (
            np.arange(n) * m // n for n, m in zip((box.height, box.width), colours.shape[:2], strict=True)
        )
        spread = np.ascontiguousarray(colours[np.ix_(rows, columns)])
        self._page.paste(Image.fromarray(spread), (box.left, box.top))

    def fill(self, box: Box, colour: str) -> None:
        """Fill a rectangle with one colour."""
        self._draw.rectangle((box.left, box.top, box.right - 1, box.bottom - 1), colour)

    def dashes(self, box: Box, colour: str, length: int) -> None:
        """A broken line along the longer side of a rectangle and as wide as its shorter one.

        Args:
            box: where.
            colour: of the line.
            length: pixels of a dash; half as many are left free behind it.
        """
        across = box.width > box.height
        first, last = (box.left, box.right) if across else (box.top, box.bottom)
        for a in range(first, last, length + length // 2):
            b = min(a + length, last)
            self.fill(Box(a, box.top, b, box.bottom) if across else Box(box.left, a, box.right, b), colour)

    def legend(self, y: int, entries: Sequence[tuple[str, Mark]]) -> None:
        """Names with their marks beside them, in the middle of the page around this height."""
        wide = [SWATCH + SWATCH // 2 + self.length(name) for name, _ in entries]
        x = (self.width - sum(wide) - SPACE * (len(entries) - 1)) // 2
        for (name, mark), width in zip(entries, wide, strict=True):
            mark(self, Box(x, y - SWATCH // 2, x + SWATCH, y + SWATCH // 2))
            self.write(x + SWATCH + SWATCH // 2, y, name, "lm")
            x += width + SPACE

    def pixels(self) -> np.ndarray:
        """What has been drawn, uint8 [H, W, 3]."""
        return np.asarray(self._page)


@cache
def _font(size: float, *, bold: bool) -> "FreeTypeFont":
    """DejaVu Sans of so many points, of the files that matplotlib brings."""
    from PIL import ImageFont

    found = importlib.util.find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    file = Path(found.origin).parent / "mpl-data/fonts/ttf" / f"DejaVuSans{'-Bold' * bold}.ttf"
    return ImageFont.truetype(file, size * DPI / 72, layout_engine=ImageFont.Layout.BASIC)
