"""The field that a generator of points feels: the discriminator's surface, and where it pushes each point."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from core.draw.figure import DPI, FILM_DPI, framed, frames_of, in_both, legend, new_figure, picture
from core.draw.media import Video
from core.draw.palette import Look
from core.numbers import number
from gradgan.measurements.sample_field import Moment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARROWS = 100  # points that have one
LENGTH = 0.3  # of the longest arrow, as a share of half of the picture
BANDS = 13  # of logits
FPS, HOLD = 8.0, 12  # frames a second; frames that the end stays


@picture
def draw_field(look: Look, moments: Sequence[Moment], line: Tensor, real: Tensor) -> "Figure":
    """The last of some moments; colours and arrows mean the same as in their video.

    Args:
        look: the colours to draw it in.
        moments: in order.
        line: coordinates of their grid along both axes, [G].
        real: samples of the data, [N, 2].
    """
    made, axes = _empty(look, line, real)
    _show(look, axes, moments, len(moments) - 1, line)
    return made


def draw_field_video(moments: Sequence[Moment], line: Tensor, real: Tensor) -> Video:
    """All moments, as `draw_field` draws one."""
    numbers = [*range(len(moments)), *[len(moments) - 1] * HOLD]

    def frames(look: Look) -> np.ndarray:
        made, axes = _empty(look, line, real, FILM_DPI)
        return frames_of(made, lambda i: _show(look, axes, moments, i, line), numbers)

    light, dark = in_both(frames)
    return Video(light, FPS, dark)


def _empty(look: Look, line: Tensor, real: Tensor, dpi: int = DPI) -> "tuple[Figure, Axes]":
    """What stays from frame to frame."""
    made = new_figure(
        6.4,
        "The field that the generator feels",
        "ground: blue as real, orange as generated; arrows: where the loss pushes the points, as long as the "
        "root of the gradient",
        dpi=dpi,
    )
    axes = made.subplots()
    axes.set_title("start")
    axes.plot(*real.T.cpu().numpy(), "s", color=look.blue, markersize=4.5, markeredgecolor=look.page,
              markeredgewidth=0.5, label="real", zorder=4)  # fmt: skip
    axes.plot([], [], "o", color=look.orange, markersize=5, label="generated")
    axes.plot([], [], color=look.ink, linewidth=1.6, label="neither")
    framed(axes)
    axes.set_box_aspect(1)
    limits = float(line[0]), float(line[-1])
    axes.set(xlim=limits, ylim=limits)
    legend(made, axes.get_legend_handles_labels()[0])
    return made, axes


def _show(look: Look, axes: "Axes", moments: Sequence[Moment], i: int, line: Tensor) -> list[Any]:
    """What one moment adds; the scales are those of all moments."""
    moment, grid = moments[i], line.numpy()
    high = _large([m.logits for m in moments])
    levels = np.linspace(-high, high, BANDS)
    logits = np.nan_to_num(moment.logits.numpy(), nan=0.0, posinf=high, neginf=-high)
    drawn: list[Any] = [axes.contourf(grid, grid, logits, levels, cmap=look.sides(), extend="both", zorder=1)]
    if logits.min() < 0 < logits.max():
        drawn.append(axes.contour(grid, grid, logits, [0.0], colors=look.ink, linewidths=1.6, zorder=2))
    style = {"color": look.orange, "markersize": 4.5, "markeredgecolor": look.page, "markeredgewidth": 0.5}
    drawn += axes.plot(*moment.points.T.numpy(), "o", zorder=5, **style)
    start, push = moment.points[:ARROWS].numpy(), moment.push[:ARROWS].double().numpy()
    size = np.linalg.norm(push, axis=1, keepdims=True)
    longest = _large([m.push[:ARROWS].double().norm(dim=1) for m in moments])
    arrows = LENGTH * grid[-1] * push / np.sqrt(np.maximum(size, 1e-300) * longest)
    drawn.append(
        axes.quiver(*start.T, *arrows.T, angles="xy", scale_units="xy", scale=1, color=look.ink, width=0.003,
                    headwidth=4.5, zorder=3)
    )  # fmt: skip
    outside = int((moment.points.abs() > line[-1]).any(dim=1).sum())
    beyond = f"; {outside} of {len(moment.points)} points outside" if outside else ""
    length = number(float(np.median(size)))
    axes.set_title(f"{moment.updates:,} updates, median gradient {length}{beyond}")
    return drawn


def _large(parts: Sequence[Tensor]) -> float:
    """The largest size but for the last hundredth; 1 where all are 0."""
    sizes = np.abs(np.concatenate([part.numpy().ravel() for part in parts]))
    sizes = sizes[np.isfinite(sizes)]
    return float(np.quantile(sizes, 0.99)) if sizes.size and sizes.max() > 0 else 1.0
