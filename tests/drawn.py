"""Figures behind pictures, and what a reader needs of them, measured on what the renderer has drawn."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from core.draw.figure import pixels, styled
from core.draw.media import Image
from core.draw.palette import LIGHT, Look

PHONE = 338  # pixels that a picture has on a page that is 390 wide
LEGIBLE = 8  # pixels of the letters


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
