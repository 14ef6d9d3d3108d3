"""One style for all figures: sizes, fonts, frames; each is rendered for a light page and for a dark one.

A drawing is a function of a `Look` and its data that returns a figure; `picture` makes of it a function of
the data that returns both renderings. Inside, matplotlib's own defaults are this style, whatever style the
user's own pictures have.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

import numpy as np

from core.draw.media import Image
from core.draw.palette import DARK, LIGHT, MAP, Look
from core.text import as_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

DPI, FILM_DPI = 130, 80  # pixels to an inch: of pictures, and of videos, which have many frames
WIDTH = 6.4  # inches of every figure: with letters of TEXT points, 8 pixels are left of them on a phone
TEXT, TITLE = 11.0, 12.5  # points
FEW = 5  # numbers along an axis that have room

P = ParamSpec("P")
R = TypeVar("R")


def picture(draw: "Callable[Concatenate[Look, P], Figure]") -> Callable[P, Image]:
    """The drawing, rendered in both looks."""

    @wraps(draw)
    def both(*args: P.args, **kwargs: P.kwargs) -> Image:
        light, dark = in_both(lambda look: pixels(draw(look, *args, **kwargs)))
        return Image(light, dark)

    return both


def in_both(make: Callable[[Look], R]) -> tuple[R, R]:
    """What is made in the light and in the dark look."""
    made = []
    for look in (LIGHT, DARK):
        with styled(look):
            made.append(make(look))
    light, dark = made
    return light, dark


@contextmanager
def styled(look: Look) -> Iterator[None]:
    """Let matplotlib draw in a look; what the user has set for other figures comes back at the end."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({
            "font.family": "DejaVu Sans", "font.size": TEXT, "mathtext.default": "regular",
            "axes.titlesize": TEXT, "axes.titlelocation": "left", "axes.titlecolor": look.ink,
            "axes.labelsize": TEXT, "axes.labelcolor": look.ink, "text.color": look.ink,
            "xtick.labelsize": TEXT, "ytick.labelsize": TEXT,
            "xtick.color": look.faint, "ytick.color": look.faint,
            "axes.edgecolor": look.faint, "axes.facecolor": look.page, "figure.facecolor": look.page,
            "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
            "axes.grid": True, "grid.color": look.pale, "grid.linewidth": 0.6,
            "legend.fontsize": TEXT, "legend.frameon": False, "legend.labelcolor": look.ink,
            "legend.handlelength": 1.6, "legend.columnspacing": 1.2, "legend.handletextpad": 0.5,
            "lines.linewidth": 1.9, "lines.solid_capstyle": "round", "image.cmap": MAP, "figure.dpi": DPI,
        })  # fmt: skip
        yield


def new_figure(height: float, title: str = "", *notes: str, width: float = WIDTH, dpi: int = DPI) -> "Figure":
    """An empty figure whose parts find their places, with a title and lines of notes below it.

    Args:
        height: inches below the title.
        title: what is shown, bold; it is broken into lines that fit.
        notes: how it was made; each is broken, too.
        width: inches.
        dpi: pixels to an inch.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    heads, lines = (
        broken(title, TITLE, width, bold=True),
        [r for n in notes for r in broken(n, TEXT, width)],
    )
    above = (1.25 * TITLE * len(heads) + 1.35 * TEXT * len(lines) + 9) / 72 if heads else 0.0
    full = height + above
    place = (0.0, 0.0, 1.0, 1 - above / full)
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, rect=place)
    made = Figure(figsize=(width, full), dpi=dpi, layout=layout)
    FigureCanvasAgg(made)
    if heads:
        left, top = 0.08 / width, 1 - 0.06 / full
        made.text(left, top, "\n".join(heads), va="top", fontsize=TITLE, fontweight="bold", linespacing=1.2)
        below = top - 1.25 * TITLE * len(heads) / 72 / full
        made.text(left, below, "\n".join(lines), va="top", linespacing=1.3, color=_faint())
    return made


def pixels(made: "Figure") -> np.ndarray:
    """A figure as uint8 [H, W, 3]; a name in it that is no text is escaped."""
    from matplotlib.text import Text

    for text in made.findobj(Text):
        cast(Text, text).set_text(as_text(cast(Text, text).get_text()))
    canvas = canvas_of(made)
    canvas.draw()
    made.set_layout_engine("none")  # every part stays where it is, however often the figure is drawn
    return rgb(canvas)


def broken(text: str, size: float, width: float, *, bold: bool = False) -> list[str]:
    """Lines of at most a figure's width; letters of DejaVu Sans are 0.53 of their size wide, bold 0.63."""
    import textwrap

    letters = int((width - 0.2) * 72 / (size * (0.63 if bold else 0.53)))
    return textwrap.wrap(text.replace(" -", " −"), letters) if text else []


def canvas_of(made: "Figure") -> "FigureCanvasAgg":
    """The canvas of a figure that `new_figure` has made."""
    return made.canvas  # pyright: ignore[reportReturnType]


def rgb(canvas: "FigureCanvasAgg") -> np.ndarray:
    """What is drawn on a canvas, uint8 [H, W, 3]."""
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def frames_of(made: "Figure", show: Callable[[int], Sequence[Any]], numbers: Sequence[int]) -> np.ndarray:
    """A video of one figure, uint8 [T, H, W, 3], whose parts stay where the first frame has put them.

    Args:
        made: the figure without what changes.
        show: draws what changes in a frame of this number, and returns what must go before the next one.
        numbers: of the frames; one that stays is drawn once.
    """
    found: list[np.ndarray] = []
    for i, number in enumerate(numbers):
        if i and number == numbers[i - 1]:
            found.append(found[-1])
            continue
        drawn = show(number)
        found.append(pixels(made))
        for artist in drawn:
            artist.remove()
    return np.stack(found)


def framed(axes: "Axes") -> None:
    """A map instead of a chart: a frame on all sides, no grid, few numbers."""
    axes.spines[:].set_visible(True)
    axes.grid(False)
    few_numbers(axes)


def sides(look: Look, axes: Any) -> None:
    """Three axes in space without walls, few numbers along the two below; heights already have theirs."""
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1, 1, 1, 0))
        axis.line.set_color(look.faint)
        axis._axinfo["grid"].update(color=look.pale, linewidth=0.6)
    axes.tick_params(pad=1)
    for label in axes.get_zticklabels():
        label.set_horizontalalignment("left")  # centred, a long number would cross its axis
    axes.locator_params(axis="x", nbins=FEW)
    axes.locator_params(axis="y", nbins=FEW)


def few_numbers(axes: "Axes") -> None:
    """As many numbers along linear axes as there is room for."""
    if axes.get_xscale() == "linear":
        axes.locator_params(axis="x", nbins=FEW)
    if axes.get_yscale() == "linear":
        axes.locator_params(axis="y", nbins=FEW)


def legend(made: "Figure", handles: Any, columns: int = 3, **more: Any) -> None:
    """A legend below everything, in as many columns as its longest entry leaves room for."""
    longest = max((len(handle.get_label()) for handle in handles), default=0)
    room = max(1, int(made.get_figwidth() * 72 / (0.55 * TEXT * (longest + 5))))
    made.legend(
        handles=handles, loc="outside lower center", ncols=min(columns, room, len(handles) or 1), **more
    )


def label_ends(axes: "Axes", ends: Sequence[tuple[float, str, str]], gap: float = 0.085) -> None:
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
            name, (1.015, height - excess), xycoords="axes fraction", va="center", color=colour,
            fontweight="bold", annotation_clip=False,
        )  # fmt: skip


def _faint() -> str:
    import matplotlib

    return str(matplotlib.rcParams["xtick.color"])
