"""Layers × time, and layers × magnitude: every layer's gradient through a run in one picture."""

import math
from collections.abc import Callable, Mapping
from os.path import commonprefix
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from core.draw.figure import framed, legend, new_figure, picture
from core.draw.media import Image
from core.draw.palette import MAP, Look
from core.form import Many, Number, Table
from core.gradients.measure.exponents import BINS, LOWEST, ZERO
from core.numbers import tick
from core.state import StateDict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST = 30  # letters of a layer's name: half of the picture is left to the map
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


@picture
def draw_norms(
    look: Look, names: list[str], steps: list[int], norms: np.ndarray, unit: str, player: str = ""
) -> "Figure":
    """Norms [layers, points] of logged points: colours from the 1st to the 99th percentile."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    log = np.log10(np.where((norms > 0) & (norms < np.inf), norms, np.nan))
    made = new_figure(_height(names), _titled("Gradient norm of every layer", player))
    axes = made.add_subplot()
    shown = log[np.isfinite(log)]
    low, high = np.percentile(shown, [1, 99]) if shown.size else (-1.0, 1.0)
    # Each point is the mean over the window that ends at its step.
    width = steps[1] - steps[0] if len(steps) > 1 else steps[0]
    edges, rows = np.concatenate([[max(0, steps[0] - width)], steps]), np.arange(len(names) + 1)
    framed(axes)
    mesh = axes.pcolormesh(edges, rows, log, cmap=MAP, vmin=low, vmax=max(high, low + 1e-6))
    # Three matters: a gradient of 0, none at all (nothing leads back to the layer), and one that is NaN.
    odd = [
        ("exactly 0", look.ink, norms == 0),
        ("no gradient", look.missing, np.isnan(norms)),
        ("not finite", look.orange, np.isinf(norms)),
    ]
    for _, colour, where in odd:
        axes.pcolormesh(edges, rows, np.ma.masked_where(~where, where), cmap=ListedColormap([colour]))
    handles = [Patch(facecolor=colour, label=label) for label, colour, where in odd if where.any()]
    if handles:
        legend(made, handles)
    _label_layers(axes, names)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))  # names may take half of the width
    axes.xaxis.set_major_formatter(lambda x, _: tick(x))
    axes.set_xlabel(unit)
    _bar(made, mesh, axes, "length of the gradient", lambda x, _: tick(10.0**x, 2))
    return made


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
    title = _titled("Magnitude of every component of every layer's gradient", player)
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


def _titled(what: str, player: str) -> str:
    return f"{what} of the {player}" if player else what


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
    every = max(1, -(-len(names) // 48))
    axes.set_yticks(np.arange(len(names))[::every] + 0.5, shortened(names)[::every])


def shortened(names: list[str]) -> list[str]:
    """Names of at most `LONGEST` letters; an ellipsis stands for what is left out.

    That is first what all names end with, then the beginning of what all begin with. A name that is still too
    long loses its middle, or, where two would become alike, its end, for its number in the picture.
    """
    if max(map(len, names), default=0) <= LONGEST:
        return names
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
