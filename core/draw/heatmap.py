"""Layers × time: the norm of every layer's gradient through a run in one picture."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from core.draw.layer_page import GAP, LINE, LayerPage, titled
from core.draw.media import Image
from core.draw.palette import DARK, LIGHT, Look
from core.draw.pen import Box, Mark, Pen
from core.draw.ticks import power_ticks, whole_ticks
from core.draw.viridis import viridis
from core.form import Many, Number, Table
from core.numbers import tick
from core.state import StateDict

FARTHEST = 300  # powers of ten: beyond them lies what no float holds
COLUMNS = 512  # points kept; a longer run keeps every second, then every fourth, ... of them


class HeatMap:
    """History of the gradient norms of one `GradientStep`; the first of the named layers is on top.

    Args:
        names: of the layers.
        prefix: of the tags: empty, or the name of the player and a slash.
    """

    def __init__(self, names: list[str], prefix: str = "") -> None:
        self.names, self.prefix = names, prefix
        self.steps: list[int] = []
        self.rows: list[list[float]] = []
        self._stride = 1
        self._seen = 0

    def add(self, step: int, tags: Mapping[str, float]) -> None:
        """Add the norms of one logged point: NaN where no gradient came, infinity where none was finite."""
        if self._seen % self._stride == 0:
            self.steps.append(step)
            self.rows.append([_norm(f"{self.prefix}layer/{name}", tags) for name in self.names])
            if len(self.rows) > COLUMNS:
                self.steps, self.rows = self.steps[::2], self.rows[::2]
                self._stride *= 2
        self._seen += 1

    def draw(self, unit: str) -> Image:
        """The picture: log10 of the norms, one row a layer, time to the right."""
        norms = np.array(self.rows, dtype=np.float64).T
        return draw_norms(self.names, self.steps, norms, unit, self.prefix.rstrip("/"))

    def state_dict(self) -> StateDict:
        """All points so far."""
        return {"steps": self.steps, "rows": self.rows, "stride": self._stride, "seen": self._seen}

    def state_form(self) -> Table:
        """Any number of points."""
        row = [Number(finite=False)] * len(self.names)
        counts = {"stride": Number(1, whole=True), "seen": 0}
        return Table({"steps": Many(0), "rows": Many(row), **counts})

    def load_state_dict(self, state: StateDict) -> None:
        """Continue a history saved by `state_dict`."""
        self.steps, self.rows = list(state["steps"]), [list(row) for row in state["rows"]]
        self._stride, self._seen = state["stride"], state["seen"]


def _norm(layer: str, tags: Mapping[str, float]) -> float:
    absent = math.inf if f"{layer}/nonfinite" in tags else math.nan
    return tags.get(f"{layer}/gradient_norm", absent)


def draw_norms(
    names: list[str], steps: Sequence[int], norms: np.ndarray, unit: str, player: str = ""
) -> Image:
    """Norms [layers, points] of logged points: colours from the 1st to the 99th percentile."""
    light, dark = (_drawn(look, names, steps, norms, unit, player) for look in (LIGHT, DARK))
    return Image(light, dark)


def _drawn(
    look: Look, names: list[str], steps: Sequence[int], norms: np.ndarray, unit: str, player: str
) -> np.ndarray:
    """One rendering."""
    odd: list[tuple[str, Mark]] = [
        (label, partial(Pen.fill, colour=colour)) for label, colour, _ in _odd(look, norms)
    ]
    page = LayerPage(look, titled("Gradient norm of every layer", player), names, 2, odd)
    low, high = _ends(norms)
    marked = power_ticks(10.0**low, 10.0**high) if _logarithms(norms).size else []
    numbers = {tick(x, 2): math.log10(x) for x in marked}
    page.key("length of the gradient", {text: (x - low) / (high - low) for text, x in numbers.items()})
    area, pen = page.area, page.pen
    pen.paint(area, _cells(look, steps, norms, (low, high), area))
    pen.frame(area)
    first, last = _edges(steps)[[0, -1]]
    for x in whole_ticks(first, last):
        page.mark(area, (x - first) / max(last - first, 1), tick(x))
    pen.write(area.middle, area.bottom + 2 * LINE - GAP, unit, "ms")
    return pen.pixels()


def _odd(look: Look, norms: np.ndarray) -> list[tuple[str, str, np.ndarray]]:
    """What is no positive number, by name, with its colour and where it is.

    Three matters: a gradient of 0, none at all (nothing leads back to the layer), and one that is NaN.
    """
    matters = [
        ("exactly 0", look.ink, norms == 0),
        ("no gradient", look.missing, np.isnan(norms)),
        ("not finite", look.orange, np.isinf(norms)),
    ]
    return [matter for matter in matters if matter[2].any()]


def _logarithms(norms: np.ndarray) -> np.ndarray:
    """log10 of those norms that have a colour of the key, [K]."""
    return np.log10(norms[(norms > 0) & (norms < np.inf)])


def _ends(norms: np.ndarray) -> tuple[float, float]:
    """log10 of the norms that have the first and the last colour: of equal ones, half a decade around."""
    shown = _logarithms(norms)
    ends = np.percentile(shown, [1, 99]).clip(-FARTHEST, FARTHEST) if shown.size else (0.0, 0.0)
    low, high = map(float, ends)
    return (low, high) if high - low > 1e-6 else (low - 0.5, high + 0.5)


def _edges(steps: Sequence[int]) -> np.ndarray:
    """Where the columns begin and end: each point is the mean over the window that ends at its step."""
    width = steps[1] - steps[0] if len(steps) > 1 else steps[0]
    return np.array([max(0, steps[0] - width), *steps])


def _cells(
    look: Look, steps: Sequence[int], norms: np.ndarray, ends: tuple[float, float], area: Box
) -> np.ndarray:
    """The colours of the map, uint8 [layers, columns of pixels, 3]."""
    from PIL.ImageColor import getrgb

    low, high = ends
    with np.errstate(divide="ignore", invalid="ignore"):
        colours = viridis(np.nan_to_num((np.log10(norms) - low) / (high - low)))
    for _, colour, where in _odd(look, norms):
        colours[where] = getrgb(colour)
    edges = _edges(steps)
    middles = edges[0] + (np.arange(area.width) + 0.5) / area.width * (edges[-1] - edges[0])
    return colours[:, np.searchsorted(edges[1:], middles).clip(max=len(steps) - 1)]
