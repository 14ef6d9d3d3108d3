"""Figures of matplotlib: how one is made, what its axes look like, and how it becomes pixels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from core.draw.media import Image
from core.draw.palette import FAINT, INK, PALE
from core.text import as_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

DPI = 130


def new_figure(width: float, height: float, *, dpi: int = DPI, pad: float | None = 0.04167) -> "Figure":
    """An empty figure on white.

    Args:
        width: inches.
        height: inches.
        dpi: pixels to an inch.
        pad: inches around each part; None = parts are placed by hand.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = None if pad is None else ConstrainedLayoutEngine(w_pad=pad, h_pad=pad)
    made = Figure(figsize=(width, height), dpi=dpi, layout=layout, facecolor="white")
    FigureCanvasAgg(made)
    return made


def pixels(made: "Figure") -> Image:
    """The picture of a figure; a name in it that is no text is escaped."""
    from matplotlib.text import Text

    for text in made.findobj(Text):
        cast(Text, text).set_text(as_text(cast(Text, text).get_text()))
    canvas = canvas_of(made)
    canvas.draw()
    return Image(rgb(canvas))


def canvas_of(made: "Figure") -> "FigureCanvasAgg":
    """The canvas of a figure that `new_figure` has made."""
    return made.canvas  # pyright: ignore[reportReturnType]


def rgb(canvas: "FigureCanvasAgg") -> np.ndarray:
    """What is drawn on a canvas, uint8 [H, W, 3]."""
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def tidy(axes: "Axes", title: str = "") -> None:
    """Only the two axes that are read, and a title on the left."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelsize=8.5)
    axes.grid(True, color=PALE, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)
    if title:
        axes.set_title(title, loc="left", fontsize=10.5, color=INK)


def label_ends(axes: "Axes", ends: Sequence[tuple[float, str, str]], gap: float = 0.06) -> None:
    """Write names at the right edge, each at the end of its line, moved apart where they would overlap.

    Args:
        axes: with its final limits.
        ends: value, name, colour of each line.
        gap: least distance of two names, as a share of the height.
    """
    finite = [(y, name, colour) for y, name, colour in ends if np.isfinite(y)]
    low, high = axes.get_ylim()
    to_share = axes.transData + axes.transAxes.inverted()
    heights = [
        float(to_share.transform((axes.get_xlim()[0], min(max(y, low), high)))[1]) for y, _, _ in finite
    ]
    order = sorted(range(len(finite)), key=heights.__getitem__)
    placed: list[float] = []
    for i in order:
        placed.append(max(heights[i], placed[-1] + gap) if placed else heights[i])
    excess = max(0.0, placed[-1] - 1.0) if placed else 0.0
    for i, height in zip(order, placed, strict=True):
        _, name, colour = finite[i]
        axes.annotate(
            name, (1.015, height - excess), xycoords="axes fraction", va="center", fontsize=9, color=colour,
            fontweight="bold", annotation_clip=False,
        )  # fmt: skip
