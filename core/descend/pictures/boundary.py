"""The boundary between two classes over the plane of the samples, now and along a training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from core.descend.objective_descent import ObjectiveDescent
from core.descend.pictures.maps import spoken
from core.draw.figure import DPI, FILM_DPI, framed, frames_of, in_both, legend, new_figure, picture
from core.draw.media import Video
from core.draw.palette import Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 400  # samples at most
LEVELS = np.linspace(0, 1, 11)
FPS, HOLD = 10.0, 12  # frames a second; frames that the end stays
MARKERS = ("o", "s")  # of the classes
Panels = Mapping[str, ObjectiveDescent]


@picture
def draw_boundary(look: Look, trained: Panels) -> "Figure":
    """What each network now takes for which class, and the training samples."""
    made, panels = _panels(look, trained)
    for axes, (name, descent) in zip(panels, trained.items(), strict=True):
        _surface(look, axes, descent, _rows(descent)[-1])
        axes.set_title(f"{name}, step {int(_rows(descent)[-1, 0]):,}")
    return made


def draw_boundary_video(trained: Panels) -> Video:
    """The same along the training."""
    light, dark = in_both(lambda look: _frames(look, trained))
    return Video(light, FPS, dark)


def _frames(look: Look, trained: Panels) -> np.ndarray:
    made, panels = _panels(look, trained, dpi=FILM_DPI)
    rows = [_rows(descent) for descent in trained.values()]
    titles = [axes.set_title(name) for axes, name in zip(panels, trained, strict=True)]

    def show(number: int) -> list[Any]:
        drawn = []
        for axes, title, own, (name, descent) in zip(panels, titles, rows, trained.items(), strict=True):
            row = own[min(number, len(own) - 1)]
            title.set_text(f"{name}, step {int(row[0]):,}")
            drawn += _surface(look, axes, descent, row)
        return drawn

    count = max(map(len, rows))
    return frames_of(made, show, [*range(count), *[count - 1] * HOLD])


def _panels(look: Look, trained: Panels, dpi: int = DPI) -> "tuple[Figure, list[Axes]]":
    """A panel for each descent with its samples, two in a row."""
    columns = min(len(trained), 2)
    rows = -(-len(trained) // columns)
    first = next(iter(trained.values()))
    title = f"{spoken(type(first.objective).__name__)}: the boundary"
    made = new_figure(
        (3.1 if columns > 1 else 5.4) * rows + 0.6,
        title,
        "the stronger a colour, the surer the network",
        dpi=dpi,
    )
    panels = list(made.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for axes in panels[len(trained) :]:
        axes.set_visible(False)
    for axes, descent in zip(panels, trained.values(), strict=False):
        x, y = (part[:SHOWN].cpu().numpy() for part in (descent.data.x, descent.data.y))
        for kind, (colour, marker) in enumerate(zip((look.orange, look.blue), MARKERS, strict=True)):
            style = {"color": colour, "markeredgecolor": look.page, "markeredgewidth": 0.6, "markersize": 5}
            axes.plot(*x[y == kind].T, marker, label=f"class {kind}", zorder=3, **style)
        framed(axes)
    legend(made, panels[0].get_legend_handles_labels()[0])
    return made, panels[: len(trained)]


def _surface(look: Look, axes: "Axes", descent: ObjectiveDescent, row: np.ndarray) -> list[Any]:
    """The probability of class 1, and the line where both classes are as likely."""
    assert descent.plot is not None
    x, y = descent.plot.x.numpy(), descent.plot.y.numpy()
    share = row[1:].reshape(len(y), len(x))
    drawn = [axes.contourf(x, y, share, LEVELS, cmap=look.sides(), vmin=0, vmax=1, zorder=1)]
    if share.min() < 0.5 < share.max():
        drawn.append(axes.contour(x, y, share, [0.5], colors=look.ink, linewidths=2.2, zorder=2))
    return drawn


def _rows(descent: ObjectiveDescent) -> np.ndarray:
    assert descent.shares is not None
    rows: Tensor = descent.shares.rows()[1]
    return rows.numpy()
