"""Basins: which minimum an optimizer reaches from where."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from core.descend.basins import LEFT, NOWHERE, reached
from core.descend.functions import PlaneFunction
from core.descend.pictures.maps import heights, levels_of, spoken
from core.draw.figure import new_figure, pixels
from core.draw.media import Image
from core.draw.palette import FAINT, INK, MAP, PALE, TINTS, cased

NONE, GONE = PALE, FAINT  # not at a minimum yet; outside or diverged


def draw_basins(plane: PlaneFunction, ends: Mapping[str, Tensor], left_out: str = "") -> Image:
    """One map for each optimizer: every start in the colour of the minimum that it leads to.

    Args:
        plane: the function and its domain.
        ends: [G, G, 2] by name, of the starts over the domain.
        left_out: which optimizers have no map, and why.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    minima, numbers = reached(plane, dict(ends))
    many = len(minima) > len(TINTS)
    columns = min(len(ends), 4) if len(ends) != 4 else 4
    rows = -(-len(ends) // columns)
    made = new_figure(max(3.1 * columns, 5.6), 3.3 * rows + 0.9)
    panels = made.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
    (left, right), (low, high) = plane.domain
    x, y, value = heights(plane, plane.domain, 200)
    tints = [GONE, NONE, *_tints(plane, minima, many)]
    for axes, (name, number) in zip(panels, numbers.items(), strict=False):
        axes.imshow(number.numpy() + 2, cmap=ListedColormap(tints), vmin=-0.5, vmax=len(tints) - 0.5,
                    origin="lower", extent=(left, right, low, high), aspect="auto",
                    interpolation="nearest")  # fmt: skip
        axes.contour(
            x, y, value, levels_of(value)[::2], colors=INK, linewidths=0.4, linestyles="solid", alpha=0.35
        )
        for i, place in enumerate(minima.tolist()):
            if not many:
                axes.annotate(chr(65 + i), place, ha="center", va="center", fontsize=11, fontweight="bold",
                              color=INK, path_effects=cased(2.5))  # fmt: skip
        axes.set_title(name, loc="left", fontsize=10.5, color=INK)
        axes.tick_params(colors=FAINT, labelsize=8)
        for spine in axes.spines.values():
            spine.set_color(FAINT)
    for axes in list(panels)[len(ends) :]:
        axes.set_visible(False)
    patches = [] if many else [
        Patch(color=tint, label=f"{chr(65 + i)} ({px:.3g}, {py:.3g}), f = {_value(plane, (px, py)):.4g}")
        for i, ((px, py), tint) in enumerate(zip(minima.tolist(), tints[2:], strict=True))
    ]  # fmt: skip
    there = np.concatenate([n.numpy().ravel() for n in numbers.values()])
    if (there == NOWHERE).any():
        patches.append(Patch(color=NONE, label="at no minimum yet"))
    if (there == LEFT).any():
        patches.append(Patch(color=GONE, label="left the picture, or diverged"))
    if many:
        patches += [Patch(color=tints[2], label=f"the lowest of {len(minima)} minima"),
                    Patch(color=tints[-1], label="the highest: the darker the better")]  # fmt: skip
    look = {"ncols": 3, "fontsize": 9, "title_fontsize": 8.5, "frameon": False}
    made.legend(handles=patches, loc="outside lower center", title=left_out, **look)
    made.suptitle(f"{spoken(plane.name)}: where each start ends", x=0.01, ha="left", fontsize=12, color=INK)
    return pixels(made)


def _value(plane: PlaneFunction, place: tuple[float, float]) -> float:
    import torch

    return round(float(plane.function(torch.tensor(place, dtype=torch.float64))), 6) + 0.0


def _tints(plane: PlaneFunction, minima: Tensor, many: bool) -> list[str]:
    """A colour for each minimum; of many, by their values."""
    if not many:
        return list(TINTS[: len(minima)])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    values = plane.function(minima).numpy()
    rank = (values - values.min()) / max(float(np.ptp(values)), 1e-12)
    return [to_hex(colormaps[MAP](float(0.15 + 0.8 * r))) for r in rank]
