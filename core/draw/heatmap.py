"""Layers × time, and layers × magnitude: every layer's gradient through a run in one picture."""

from collections.abc import Mapping
from os.path import commonprefix
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from core.draw.figure import new_figure, pixels
from core.draw.media import Image
from core.draw.palette import INK, MAP, MISSING, ORANGE
from core.form import Many, Number, Table
from core.gradients.measure.exponents import BINS, LOWEST, ZERO
from core.state import StateDict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARP = 140  # dots per inch: the names of the layers are small
LONGEST = 36  # letters of a layer's name: half of the picture is left to the map
COLUMNS = 512  # points kept; a longer run keeps every second, then every fourth, ... of them


class HeatMap:
    """History of the gradient norms of one `GradientStep`; the first of the named layers is on top."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.steps: list[int] = []
        self.rows: list[list[float]] = []
        self._stride = 1
        self._seen = 0

    def add(self, step: int, prefix: str, tags: Mapping[str, float]) -> None:
        """Add the norms of one logged point; a layer without a finite norm leaves a gap (NaN)."""
        if self._seen % self._stride == 0:
            self.steps.append(step)
            self.rows.append([tags.get(f"{prefix}layer/{n}/gradient_norm", float("nan")) for n in self.names])
            if len(self.rows) > COLUMNS:
                self.steps, self.rows = self.steps[::2], self.rows[::2]
                self._stride *= 2
        self._seen += 1

    def draw(self, unit: str) -> Image:
        """The picture: log10 of the norms, one row a layer, time to the right."""
        from matplotlib.colors import ListedColormap
        from matplotlib.patches import Patch

        norms, steps = np.array(self.rows, dtype=np.float64).T, self.steps
        log = np.log10(np.where(norms > 0, norms, np.nan))
        made = new_figure(6.4, min(1.3 + 0.24 * max(len(self.names), 3), 14.0), dpi=SHARP)
        axes = made.add_subplot()
        shown = log[np.isfinite(log)]
        low, high = np.percentile(shown, [1, 99]) if shown.size else (-1.0, 1.0)
        # Each point is the mean over the window that ends at its step.
        width = steps[1] - steps[0] if len(steps) > 1 else steps[0]
        edges, rows = np.concatenate([[max(0, steps[0] - width)], steps]), np.arange(len(self.names) + 1)
        axes.set_facecolor(MISSING)
        mesh = axes.pcolormesh(edges, rows, log, cmap=MAP, vmin=low, vmax=max(high, low + 1e-6))
        zero = norms == 0  # a layer that gets no gradient is another matter than one whose gradient is NaN
        axes.pcolormesh(edges, rows, np.ma.masked_where(~zero, zero), cmap=ListedColormap([INK]))
        odd = [("exactly 0", INK, zero), ("not finite", MISSING, ~np.isfinite(norms))]
        handles = [Patch(facecolor=colour, label=label) for label, colour, where in odd if where.any()]
        if handles:
            made.legend(handles=handles, fontsize=7, ncols=2, loc="outside lower right", frameon=False)
        _label_layers(axes, self.names)
        axes.tick_params(axis="x", labelsize=8)
        axes.locator_params(axis="x", nbins=4, integer=True)  # the layers' names may take half of the width
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        axes.set_xlabel(unit, fontsize=9)
        axes.set_title("gradient norm of every layer", fontsize=10)
        made.colorbar(mesh, ax=axes, pad=0.01).set_label("log10 |g|", fontsize=9)
        return pixels(made)

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


def draw_exponents(counts: Tensor, names: list[str]) -> Image:
    """Draw how the components of every layer's gradient spread over the powers of two.

    The counts [layers, BINS + 1] are those of `core.gradients.measure.exponents`.
    """
    from matplotlib.colors import PowerNorm

    share = (counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy().astype(np.float64)
    used = np.flatnonzero(share[:, :BINS].any(0))
    low, high = (max(used[0] - 1, 0), used[-1] + 2) if used.size else (0, BINS)
    shown = np.where(share > 0, share, np.nan)
    made = new_figure(6.4, min(1.5 + 0.24 * max(len(names), 3), 14.0), dpi=SHARP)
    zeros, axes = made.subplots(1, 2, sharey=True, width_ratios=[1, 14])
    rows = np.arange(len(names) + 1)
    # The root makes a hundredth of a layer visible next to a half.
    style = {"cmap": MAP, "norm": PowerNorm(0.5, vmin=0.0, vmax=max(float(share.max()), 1e-6))}
    zeros.pcolormesh([0, 1], rows, shown[:, [ZERO]], **style)
    mesh = axes.pcolormesh(np.arange(low, high + 1) + LOWEST, rows, shown[:, low:high], **style)
    _label_layers(zeros, names)
    zeros.set_xticks([0.5], ["0"], fontsize=8)
    axes.tick_params(axis="y", left=False)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.get_major_locator().set_params(integer=True)
    for exponent in (-24, -14):  # the smallest float16, and the smallest one at full precision
        if low + LOWEST < exponent < high + LOWEST:
            axes.axvline(exponent, color=ORANGE, linewidth=1.5, linestyle=":")
    axes.set_xlabel("e in |g| = m 2^e   (dotted: float16 ends at 2^-24, is rounded below 2^-14)", fontsize=8)
    made.suptitle("magnitude of every component of every layer's gradient", fontsize=10)
    made.colorbar(mesh, ax=axes, pad=0.01).set_label("share of the layer", fontsize=9)
    return pixels(made)


def _label_layers(axes: "Axes", names: list[str]) -> None:
    """The layers from top to bottom, at most 48 of them by name."""
    axes.invert_yaxis()
    every = max(1, -(-len(names) // 48))
    axes.set_yticks(np.arange(len(names))[::every] + 0.5, shortened(names)[::every], fontsize=8)


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
