"""What pictures of a network's landscape have in common: filled contours, their key, a scale for losses."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.draw.figure import framed
from core.draw.palette import MAP, Look
from core.numbers import ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import BoundaryNorm
    from matplotlib.figure import Figure

BANDS = 14  # of a filled contour
LINEAR = 60.0  # highest over low heights up to which losses are shown as they are; a round bowl has 31
LOW = 0.05  # quantile of the heights that counts as low


@dataclass(frozen=True)
class Scale:
    """Borders of the bands that losses are shown in, ascending, and whether they are evenly spaced."""

    levels: np.ndarray
    linear: bool

    def height(self, values: np.ndarray) -> np.ndarray:
        """Position of each loss among the bands, in [0, 1], continuous; NaN for what is not finite."""
        found = np.interp(values, self.levels, np.linspace(0, 1, len(self.levels)))
        return np.where(np.isfinite(values), found, np.nan)

    def norm(self) -> "BoundaryNorm":
        """The same for matplotlib: one colour a band."""
        from matplotlib.colors import BoundaryNorm

        return BoundaryNorm(self.levels, 256)

    def ticks(self) -> tuple[np.ndarray, list[str]]:
        """Every second border, and its label with as few digits as tell all apart."""
        chosen = self.levels[:: 2 if len(self.levels) > 9 else 1]
        return chosen, ticks(chosen)


def loss_scale(values: np.ndarray) -> Scale:
    """Bands for losses: even ones, or, where they span decades, even in asinh of the height over the lowest.

    asinh is linear near the lowest loss and a logarithm far above it, so a valley keeps its floor and a loss
    may be negative.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Scale(np.array([0.0, 1.0]), True)
    lowest, highest = float(finite.min()), float(finite.max())
    if not highest - lowest > 1e-12 * max(abs(lowest), abs(highest)):
        margin = 0.5 * max(abs(lowest), 1e-12)
        return Scale(np.array([lowest - margin, lowest + margin]), True)
    height = finite - lowest
    width = max(float(np.quantile(height, LOW)), 1e-6 * (highest - lowest))
    if highest - lowest <= LINEAR * width:
        return Scale(np.linspace(lowest, highest, BANDS + 1), True)
    even = np.linspace(0, np.arcsinh(height.max() / width), BANDS + 1)
    levels = lowest + width * np.sinh(even)
    levels[-1] = highest
    return Scale(levels, False)


def change_axis(axes: "Axes", changes: np.ndarray) -> None:
    """A y-axis for changes of a loss: as they are, or in asinh where they span decades, with few ticks."""
    size = np.abs(changes[np.isfinite(changes)])
    if not size.size or not size.max() > LINEAR * np.quantile(size, 0.25) > 0:
        return
    width = float(np.quantile(size, 0.25))
    axes.set_yscale("asinh", linear_width=width)
    first, last = int(np.ceil(np.log10(width))), int(np.floor(np.log10(size.max())))
    decades = [10.0**k for k in range(first, last + 1, max(1, (last - first) // 3))]
    lowest = float(changes[np.isfinite(changes)].min())
    heights = [-decade for decade in reversed(decades) if -decade >= lowest] + [0.0, *decades]
    axes.set_yticks(heights, ticks(heights))
    axes.set_yticks([], minor=True)


def filled(look: Look, axes: "Axes", x: np.ndarray, y: np.ndarray, values: np.ndarray, scale: Scale):
    """Filled contours of a loss in the bands of a scale, thin lines between them."""
    framed(axes)
    axes.set_facecolor(look.missing)
    shown = np.ma.masked_invalid(np.clip(values, scale.levels[0], scale.levels[-1]))
    bands = axes.contourf(x, y, shown, scale.levels, cmap=MAP, norm=scale.norm())
    if len(scale.levels) > 2:
        axes.contour(x, y, shown, scale.levels[1:-1], colors="white", linewidths=0.5, alpha=0.55)
    return bands


def colour_bar(figure: "Figure", bands, axes, scale: Scale, label: str, most: int = 8) -> None:
    """The key of the bands, at most so many of them named; each is as high as the next, whatever it spans."""
    bar = figure.colorbar(bands, ax=axes, spacing="uniform", pad=0.02, fraction=0.05)
    ticks, texts = scale.ticks()
    every = -(-len(ticks) // most)
    bar.set_ticks(list(ticks[::every]), labels=texts[::every])
    bar.ax.tick_params(length=0)
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    if label:
        bar.set_label(label if scale.linear else f"{label}, by decades above the lowest")
