"""How pictures of descents and landscapes look: light ground, dark ink, colours anybody can tell apart.

The colours are those of Okabe and Ito 2008 ("Color universal design"), which stay apart under the common
kinds of colour blindness; the ground is grey, so that they also do on a page that inverts lightness and keeps
the hue.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from core.draw.media import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, PALE = "#1f2430", "#6b7280", "#d4d7dc"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
COLOURS = (BLUE, ORANGE, GREEN, "#cc79a7", "#e69f00", "#56b4e9", INK, "#8c6d31")
GROUND = ("#828ea0", "#f6f7f9")  # low, high
DPI = 130


def figure(width: float, height: float, pad: float = 0.04167) -> "Figure":
    """An empty figure of that size, and so much room around each part; all in inches."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=pad, h_pad=pad)
    return Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")


def pixels(made: "Figure") -> Image:
    """The picture of a figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(made)
    canvas.draw()
    return Image(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def ground() -> Any:
    """The colour map of heights: dark in the valleys."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("ground", GROUND)


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name, the same wherever the names come in the same order."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def cased(width: float) -> list[Any]:
    """A white edge around a line or a letter, so that it stands out from whatever is below."""
    from matplotlib.patheffects import Normal, Stroke

    return [Stroke(linewidth=width, foreground="white"), Normal()]


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
    """Write names at the right edge, each beside the end of its line, pushed apart where they would overlap.

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
