"""The colours of all pictures, in light and in dark: inks, grounds, and series that anybody can tell apart.

The first series are those of Okabe and Ito 2008 ("Color universal design"). All of them stay apart under the
common kinds of colour blindness, which a test simulates, and stand out from the ground of their look.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Look:
    """The colours of one rendering.

    Attributes:
        page: below everything; the cards of the report have the same.
        ink: titles, and marks that are no series.
        faint: axes and what is written on them.
        pale: grids.
        missing: areas where a quantity is not finite.
        ground: of heights, low and high; quiet, so that paths stand out.
        level: of the lines between heights.
        series: of lines and points, in order.
    """

    page: str
    ink: str
    faint: str
    pale: str
    missing: str
    ground: tuple[str, str]
    level: str
    series: tuple[str, ...]

    @property
    def blue(self) -> str:
        """What is good, or the first of two."""
        return self.series[0]

    @property
    def orange(self) -> str:
        """What is bad, or the second of two."""
        return self.series[1]

    @property
    def green(self) -> str:
        """The third."""
        return self.series[2]

    @property
    def purple(self) -> str:
        """The fourth."""
        return self.series[3]

    def colours(self, names: Iterable[str]) -> dict[str, str]:
        """A colour for each name, the same wherever the names come in the same order."""
        return {name: self.series[i % len(self.series)] for i, name in enumerate(names)}

    def heights(self) -> Any:
        """The colour map of heights: dark in the valleys."""
        from matplotlib.colors import LinearSegmentedColormap

        return LinearSegmentedColormap.from_list("ground", self.ground)

    def sides(self) -> Any:
        """The colour map of quantities with two sides: orange, the page between, blue; paler than marks."""
        import numpy as np
        from matplotlib.colors import LinearSegmentedColormap, to_rgb

        orange, page, blue = (np.array(to_rgb(c)) for c in (self.orange, self.page, self.blue))
        ends = [PALER * page + (1 - PALER) * side for side in (orange, blue)]
        return LinearSegmentedColormap.from_list("sides", [ends[0], page, ends[1]])

    def cased(self, width: float) -> list[Any]:
        """An edge around a line or a letter, so that it stands out from whatever is below."""
        from matplotlib.patheffects import Normal, Stroke

        return [Stroke(linewidth=width, foreground=self.page), Normal()]


LIGHT = Look(
    page="#ffffff", ink="#1f2430", faint="#5c6878", pale="#d4d7dc", missing="#cec8bf",
    ground=("#828ea0", "#f6f7f9"), level="#ffffff",
    series=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a4400", "#2c97ff", "#1f2430", "#45270b"),
)  # fmt: skip
DARK = Look(
    page="#1b2129", ink="#e7ebf1", faint="#9aa6b5", pale="#343d49", missing="#69635a",
    ground=("#151b23", "#5d6b7d"), level="#8b98a9",
    series=("#4a94e6", "#f07a2b", "#4fd6a8", "#c97fb4", "#f6d860", "#b5d8ff", "#e7ebf1", "#9a7b3c"),
)  # fmt: skip

TINTS = ("#b9e4fb", "#ebc84a", "#6ad7ac", "#cd8db3", "#fbf7b5", "#68a6ea", "#ea8a4a", "#948e72")  # of areas
LETTER = "#1f2430"  # on a tint
MARK = "#f0e442"  # of points that must be seen on any ground
PALER = 0.4  # share of the page in the colours of areas with two sides
MAP = "viridis"  # of quantities
