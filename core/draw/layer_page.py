"""A page with a row for each layer: its title, the key of the colours, the names, numbers along the edges."""

from collections.abc import Mapping, Sequence
from os.path import commonprefix

import numpy as np

from core.draw.figure import DPI, TITLE, WIDTH, broken
from core.draw.palette import Look
from core.draw.pen import Box, Mark, Pen
from core.draw.viridis import viridis

LONGEST = 30  # letters of a layer's name: half of the picture is left to the map
NAMED = 48  # rows that have room for a name
HEAD, LINE, ROW, KEY = 28, 29, 31, 22  # pixels: a line of the title and of text, a layer, the colours' key
TALLEST = 1650  # pixels of all rows, however many layers there are
MARGIN, GAP, TICK = 8, 5, 6  # pixels: around all, between parts, of the marks of an axis


class LayerPage:
    """An empty page of that form.

    Args:
        look: its colours.
        title: what is shown.
        names: of the layers, the first on top.
        below: lines of text below the map, the legend left out.
        legend: names of what is not in the key, and how each is drawn.

    Attributes:
        pen: draws on it.
        area: where the map belongs, every layer a row.
    """

    def __init__(
        self, look: Look, title: str, names: Sequence[str], below: int, legend: Sequence[tuple[str, Mark]]
    ) -> None:
        heads, labels = broken(title, TITLE, WIDTH, bold=True), shortened(names)
        top = MARGIN + len(heads) * HEAD + 2 * LINE
        bottom = top + KEY + GAP + min(max(len(names), 3) * ROW, TALLEST)
        end = bottom + below * LINE + GAP
        self.pen = Pen(look, round(WIDTH * DPI), end + MARGIN + bool(legend) * LINE)
        left = MARGIN + max(map(self.pen.length, labels), default=0) + GAP + TICK
        self._key = Box(left, top, self.pen.width - MARGIN, top + KEY)
        self.area = Box(left, top + KEY + GAP, self._key.right, bottom)
        for i, head in enumerate(heads):
            self.pen.write(MARGIN, MARGIN + i * HEAD, head, "la", size=TITLE, bold=True)
        for i in range(0, len(labels), named_every(labels)):
            y = self.area.top + round((i + 0.5) * self.area.height / len(labels))
            self.pen.line(left - TICK, y, left - 1, y)
            self.pen.write(left - TICK - GAP, y, labels[i], "rm", look.faint)
        self.pen.legend(end + LINE // 2, legend)

    def key(self, label: str, numbers: Mapping[str, float]) -> None:
        """The colours above the map, beside which they would take room from the names.

        Args:
            label: what they stand for.
            numbers: texts, and the share of the way from the first colour to the last where each stands.
        """
        self.pen.paint(self._key, viridis(np.linspace(0, 1, self._key.width))[None])
        self.pen.write(self._key.middle, self._key.top - LINE - GAP, label, "ms")
        for text, share in numbers.items():
            self.mark(self._key, share, text, up=True)

    def mark(self, box: Box, share: float, text: str, *, up: bool = False) -> None:
        """A number below a box, or above it, at a share of its width."""
        x, y, way = box.left + round(share * (box.width - 1)), box.top - 1 if up else box.bottom, 1 - 2 * up
        self.pen.line(x, y, x, y + way * (TICK - 1))
        self.pen.write(x, y + way * (TICK + GAP), text, "ms" if up else "ma", self.pen.look.faint)


def titled(what: str, player: str) -> str:
    """What is shown, and of whom."""
    return f"{what} of the {player}" if player else what


def named_every(names: Sequence[str]) -> int:
    """Every how manieth row is named."""
    return max(1, -(-len(names) // NAMED))


def shortened(names: Sequence[str]) -> list[str]:
    """Names of at most `LONGEST` letters; an ellipsis stands for what is left out.

    That is first what all names end with, then the beginning of what all begin with. A name that is still too
    long loses its middle, or, where two would become alike, its end, for its number in the picture.
    """
    if max(map(len, names), default=0) <= LONGEST:
        return list(names)
    head, tail = (commonprefix([name[::step] for name in names]) for step in (1, -1))  # noqa: RUF071 (letters)
    head, tail = (part[: part.rfind(".") + 1] for part in (head, tail))  # whole parts of the names
    own = [name[len(head) : len(name) - len(tail)] + ("…" if tail else "") for name in names]
    room = max(LONGEST - max(map(len, own)) - 1, 0)
    texts = [("…" if len(head) > room else "") + head[max(0, len(head) - room) :] + text for text in own]
    half = LONGEST // 2
    short = [text if len(text) <= LONGEST else f"{text[:half]}…{text[1 - half :]}" for text in texts]
    if len(set(short)) == len(set(names)):
        return short
    return [f"{text[: LONGEST - 6]}… {i}" for i, text in enumerate(texts)]
