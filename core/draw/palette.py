"""The colours of all pictures: light ground, dark ink, and colours that anybody can tell apart.

The colours are those of Okabe and Ito 2008 ("Color universal design"), which stay distinct under the common
kinds of colour blindness. The ground is grey, so that they also stay distinct on a page that inverts the
lightness and keeps the hue.
"""

from collections.abc import Iterable
from typing import Any

INK, FAINT, PALE = "#1f2430", "#6b7280", "#d4d7dc"
BLUE, ORANGE, GREEN, SKY = "#0072b2", "#d55e00", "#009e73", "#56b4e9"
COLOURS = (BLUE, ORANGE, GREEN, "#cc79a7", "#e69f00", SKY, INK, "#8c6d31")
TINTS = ("#8cc5e8", "#f2c063", "#7fcfb5", "#e3b3d0", "#f3ea8f", "#7fa8d1", "#eb9c66", "#b9a27a")  # of areas
MARK = "#f0e442"  # of points that must be seen on any ground
GROUND = ("#828ea0", "#f6f7f9")  # low, high
MAP = "viridis"  # of quantities
MISSING = "#c9cdd2"  # where a quantity is not finite


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
