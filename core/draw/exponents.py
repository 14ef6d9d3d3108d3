"""Layers × magnitude: how the components of every layer's gradient spread over the powers of two."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from core.draw.figure import framed, legend, new_figure, picture
from core.draw.names import named_every, shortened, titled
from core.draw.palette import MAP, Look
from core.gradients.measure.exponents import BINS, LOWEST, ZERO

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@picture
def draw_exponents(look: Look, counts: Tensor, names: list[str], player: str = "") -> "Figure":
    """Draw how the components of every layer's gradient spread over the powers of two.

    The counts [layers, BINS + 1] are those of `core.gradients.measure.exponents`.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.ticker import MaxNLocator

    share = (counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy().astype(np.float64)
    used = np.flatnonzero(share[:, :BINS].any(0))
    low, high = (max(used[0] - 1, 0), used[-1] + 2) if used.size else (0, BINS)
    shown = np.where(share > 0, share, np.nan)
    title = titled("Magnitude of every component of every layer's gradient", player)
    made = new_figure(_height(names), title)
    zeros, axes = made.subplots(1, 2, sharey=True, width_ratios=[1, 9])
    rows = np.arange(len(names) + 1)
    # The root makes a hundredth of a layer visible next to a half.
    style = {"cmap": MAP, "norm": PowerNorm(0.5, vmin=0.0, vmax=max(float(share.max()), 1e-6))}
    zeros.pcolormesh([0, 1], rows, shown[:, [ZERO]], **style)
    mesh = axes.pcolormesh(np.arange(low, high + 1) + LOWEST, rows, shown[:, low:high], **style)
    for panel in (zeros, axes):
        framed(panel)
    _label_layers(zeros, names)
    zeros.set_xticks([0.5], ["exactly\n0"])
    axes.tick_params(axis="y", left=False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    axes.xaxis.set_major_formatter(lambda x, _: f"$2^{{{x:g}}}$")
    for exponent, what in ((-14, "float16: rounded below $2^{-14}$"), (-24, "0 below $2^{-24}$")):
        if low + LOWEST < exponent < high + LOWEST:
            line = "--" if exponent == -14 else ":"
            axes.axvline(exponent, color=look.orange, linewidth=1.8, linestyle=line, label=what)
    if lines := axes.get_legend_handles_labels()[0]:
        legend(made, lines)
    _bar(made, mesh, axes, "share of the layer", lambda x, _: f"{x:.0%}")
    return made


def _height(names: list[str]) -> float:
    """Inches: a row for each layer, as high as a letter."""
    return min(1.3 + 0.24 * max(len(names), 3), 14.0)


def _bar(made: "Figure", mesh: Any, axes: "Axes", label: str, text: Callable[[float, float], str]) -> None:
    """The key of the colours, above the map: beside it, it would take room from the names."""
    from matplotlib.ticker import MaxNLocator

    bar = made.colorbar(mesh, ax=axes, location="top", pad=0.01, fraction=0.08, aspect=30, label=label)
    bar.ax.xaxis.set_major_locator(MaxNLocator(nbins=4))
    bar.ax.xaxis.set_major_formatter(text)
    bar.outline.set_visible(False)


def _label_layers(axes: "Axes", names: list[str]) -> None:
    """The layers from top to bottom, at most 48 of them by name."""
    axes.invert_yaxis()
    every = named_every(names)
    axes.set_yticks(np.arange(len(names))[::every] + 0.5, shortened(names)[::every])
