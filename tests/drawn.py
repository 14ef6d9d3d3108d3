"""Figures behind pictures, and what a reader needs of them, measured on what the renderer has drawn."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from core.draw.figure import DPI, TEXT, pixels, styled
from core.draw.media import Image
from core.draw.palette import DARK, LIGHT, Look
from core.draw.pen import Pen, _font
from core.text import printable

PHONE = 338  # pixels that a picture has on a page that is 390 wide
LEGIBLE = 8  # pixels of the letters
NEAR = 40  # pixels that a line of a `Pen` reaches above and below its anchor, at most


def figure_of(draw: Callable[..., Image], *args: object, look: Look = LIGHT, **kwargs: object) -> Figure:
    """The figure that a picture is rendered from, drawn once."""
    with styled(look):
        made = draw.__wrapped__(look, *args, **kwargs)  # pyright: ignore[reportFunctionMemberAccess]
        pixels(made)
    return made


def texts(made: Figure) -> list[tuple[str, float, Bbox]]:
    """Everything written in a figure: the text, its size in points, and its box in pixels."""
    seen: dict[int, Text] = {}
    write = RendererAgg.draw_text

    def noted(self, gc, x, y, s, prop, angle, ismath=False, mtext=None):
        if mtext is not None:
            seen[id(mtext)] = mtext
        write(self, gc, x, y, s, prop, angle, ismath, mtext)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RendererAgg, "draw_text", noted)
        pixels(made)
        return [(t.get_text(), float(str(t.get_fontsize())), t.get_window_extent()) for t in seen.values()]


def require_legible(made: Figure) -> None:
    """Every text lies inside the figure, is large enough on a phone, and covers no other."""
    found = texts(made)
    assert found
    width, height = made.bbox.width, made.bbox.height
    for text, size, box in found:
        assert size / 72 * made.dpi * PHONE / width >= LEGIBLE, text
        assert box.x0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y0 >= -1, text
        assert box.y1 <= height + 1, text
    for (first, _, a), (second, _, b) in itertools.combinations(found, 2):
        over = Bbox.intersection(a.padded(-1), b.padded(-1))
        assert over is None or min(over.width, over.height) <= 0, (first, second)


def require_whole(made: Figure) -> None:
    """Every line lies within the limits of its axes."""
    lines = 0
    for axes in made.axes:
        if axes.name == "3d":
            continue
        for line in axes.lines:
            if line.get_transform() != axes.transData:
                continue
            for values, limits in zip(line.get_data(), (axes.get_xlim(), axes.get_ylim()), strict=True):
                numbers = np.asarray(values, dtype=float)
                numbers = numbers[np.isfinite(numbers)]
                if numbers.size:
                    slack = 1e-9 * abs(limits[1] - limits[0])
                    assert numbers.min() >= min(limits) - slack
                    assert numbers.max() <= max(limits) + slack
                    lines += 1
    assert lines


def require_legible_pen(draw: Callable[[], Image]) -> list[str]:
    """As `require_legible` of what a `Pen` draws, and that no letter is cut; what is written, in order."""
    found = []
    write = Pen.write

    def noted(self, x, y, text, anchor, colour="", size=TEXT, *, bold=False):
        around = (0, y - NEAR, self.width, y + NEAR)
        before = np.asarray(self._page.crop(around))
        write(self, x, y, text, anchor, colour, size, bold=bold)
        rows, columns = np.nonzero((np.asarray(self._page.crop(around)) != before).any(2))
        top, bottom = y - NEAR + rows.min(), y - NEAR + rows.max() + 1
        found.append((text, Bbox([[columns.min(), top], [columns.max() + 1, bottom]])))
        assert size / 72 * DPI * PHONE / self.width >= LEGIBLE
        length = round(_font(size, bold=bold).getlength(printable(text)))
        assert columns.max() + 1 - columns.min() >= length - 4, text  # an edge would make it shorter

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pen, "write", noted)
        made = draw()
    assert made.dark is not None
    for rendering, look in ((made.pixels, LIGHT), (made.dark, DARK)):
        assert rendering.shape == made.pixels.shape
        assert "#" + bytes(rendering[0, 0].tolist()).hex() == look.page
    light = found[: len(found) // 2]
    for text, box in light:
        assert 0 < box.y0 < box.y1 < len(made.pixels), text
    for (first, a), (second, b) in itertools.combinations(light, 2):
        over = Bbox.intersection(a, b)
        assert over is None or min(over.width, over.height) <= 0, (first, second)
    return [text for text, _ in light]
