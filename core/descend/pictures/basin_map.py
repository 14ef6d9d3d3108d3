"""Basins: which minimum an optimizer reaches from where."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from core.descend.basins import LEFT, NOWHERE, reached
from core.descend.functions import PlaneFunction
from core.descend.pictures.maps import heights, levels_of, spoken
from core.draw.figure import framed, legend, new_figure, picture
from core.draw.palette import LETTER, LIGHT, MAP, TINTS, Look

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@picture
def draw_basins(look: Look, plane: PlaneFunction, ends: Mapping[str, Tensor], left_out: str = "") -> "Figure":
    """One map for each optimizer: every start in the colour of the minimum that it leads to.

    Args:
        look: the colours to draw it in.
        plane: the function and its domain.
        ends: [G, G, 2] by name, of the starts over the domain.
        left_out: which optimizers have no map, and why.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    minima, numbers = reached(plane, dict(ends))
    columns = min(len(ends), 2)
    rows = -(-len(ends) // columns)
    many = len(minima) > len(TINTS)
    notes = [left_out] if left_out else []
    made = new_figure(
        (3.0 if columns > 1 else 5.0) * rows + 0.9, f"{spoken(plane.name)}: where each start ends", *notes
    )
    panels = list(made.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    (left, right), (low, high) = plane.domain
    x, y, value = heights(plane, plane.domain, 200)
    tints = [look.faint, look.pale, *_tints(plane, minima, many)]
    for axes, (name, number) in zip(panels, numbers.items(), strict=False):
        axes.imshow(number.numpy() + 2, cmap=ListedColormap(tints), vmin=-0.5, vmax=len(tints) - 0.5,
                    origin="lower", extent=(left, right, low, high), aspect="auto",
                    interpolation="nearest")  # fmt: skip
        axes.contour(
            x, y, value, levels_of(value)[::2], colors=LETTER, linewidths=0.4, linestyles="solid", alpha=0.35
        )
        for i, place in enumerate(minima.tolist()):
            if not many:
                axes.annotate(chr(65 + i), place, ha="center", va="center", fontweight="bold",
                              color=LETTER, path_effects=LIGHT.cased(2.5))  # fmt: skip
        axes.set_title(name)
        framed(axes)
    for axes in panels[len(ends) :]:
        axes.set_visible(False)
    patches = [] if many else [
        Patch(color=tint, label=f"{chr(65 + i)} ({px:.3g}, {py:.3g}), f = {_value(plane, (px, py)):.4g}")
        for i, ((px, py), tint) in enumerate(zip(minima.tolist(), tints[2:], strict=True))
    ]  # fmt: skip
    there = np.concatenate([n.numpy().ravel() for n in numbers.values()])
    if (there == NOWHERE).any():
        patches.append(Patch(color=look.pale, label="at no minimum yet"))
    if (there == LEFT).any():
        patches.append(Patch(color=look.faint, label="left the picture, or diverged"))
    if many:
        patches += [Patch(color=tints[2], label=f"the lowest of {len(minima)} minima"),
                    Patch(color=tints[-1], label="the highest: the darker the better")]  # fmt: skip
    legend(made, patches)
    return made


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
