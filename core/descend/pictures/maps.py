"""Maps: level lines of a function of two variables, the field of its slopes, and the paths of descents."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core.descend.functions import PlaneFunction
from core.descend.trajectory import Trajectory
from core.draw.figure import framed, legend, new_figure, picture
from core.draw.palette import LETTER, MARK, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = 300  # points of the surface along each axis
ARROWS = 17  # of the field along each axis
LEVELS = 28
FEW = 200  # steps up to which single ones are marked
# Marker, size and colour of the known critical points.
MARKS = {
    "minimum": ("o", 6.5, "#ffffff"),
    "saddle": ("X", 7, MARK),
    "maximum": ("^", 7, MARK),
    "degenerate": ("D", 6, MARK),
}


@picture
def draw_paths(look: Look, plane: PlaneFunction, trajectories: Sequence[Trajectory]) -> "Figure":
    """Draw paths over the level lines and the field of negative gradients.

    The picture shows the domain of the function, and more where a path leaves it, up to the width of the
    domain on every side.
    """
    box = picture_box(plane, trajectories)
    made = new_figure(6.2, spoken(plane.name))
    axes = made.add_subplot()
    draw_ground(look, axes, plane, box)
    draw_field(look, axes, plane, box)
    draw_marks(look, axes, plane)
    for i, (trajectory, colour) in enumerate(
        zip(trajectories, look.colours(t.name for t in trajectories).values(), strict=True)
    ):
        draw_path(look, axes, trajectory, colour, below=len(trajectories) - 1 - i)
    axes.set_xlabel("x0")
    axes.set_ylabel("x1", rotation=0)
    handles = axes.get_legend_handles_labels()[0]
    handles.sort(key=lambda handle: handle.get_zorder(), reverse=True)
    legend(made, handles)
    return made


def picture_box(plane: PlaneFunction, trajectories: Sequence[Trajectory]) -> list[tuple[float, float]]:
    """An interval for each axis that holds the domain and, as far as they are near, the paths."""
    paths = torch.cat([t.path for t in trajectories if t.path is not None])
    paths = paths[paths.isfinite().all(1)]
    return [_span(paths[:, i], plane.domain[i]) for i in range(2)]


def draw_ground(look: Look, axes: "Axes", plane: PlaneFunction, box: Sequence[tuple[float, float]]) -> None:
    """Heights in grey, dark in the valleys, and level lines."""
    from matplotlib.colors import BoundaryNorm

    x, y, value = heights(plane, box, GRID)
    levels = levels_of(value)
    axes.contourf(x, y, value, levels, cmap=look.heights(), norm=BoundaryNorm(levels, 256))
    axes.contour(x, y, value, levels, colors=look.level, linewidths=0.5, linestyles="solid", alpha=0.8)
    axes.set_xlim(*box[0])
    axes.set_ylim(*box[1])
    framed(axes)


def draw_field(look: Look, axes: "Axes", plane: PlaneFunction, box: Sequence[tuple[float, float]]) -> None:
    """Arrows along the negative gradient, all of one length: where steepest descent would go."""
    centres = [low + (high - low) * (np.arange(ARROWS) + 0.5) / ARROWS for low, high in box]
    points = torch.from_numpy(np.stack(np.meshgrid(*centres), -1))
    slope = -plane.slopes(points).numpy()
    length = np.linalg.norm(slope, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Of one length on the page, whatever the axes' units.
        page = slope / np.array([high - low for low, high in box])
        page = np.where(length > 0, page / np.linalg.norm(page, axis=-1, keepdims=True), 0.0)
    axes.quiver(
        points[..., 0].numpy(), points[..., 1].numpy(), page[..., 0], page[..., 1], angles="uv", pivot="mid",
        scale=ARROWS * 1.9, width=0.0022, headwidth=4.5, headlength=5, headaxislength=4.5, color=look.faint,
        alpha=0.7, zorder=2, label="negative gradient",
    )  # fmt: skip


def draw_path(look: Look, axes: "Axes", trajectory: Trajectory, colour: str, below: int) -> None:
    """One path from its square to its star; wider below others, so that none hides another."""
    if trajectory.path is None:
        return
    width = 2 + 0.8 * min(below, 4)
    steps = trajectory.path[trajectory.path.isfinite().all(1)].numpy()
    few = "." if len(steps) <= FEW else None
    edge: dict[str, Any] = {"markeredgecolor": look.page, "zorder": 6}
    axes.plot(*steps.T, color=colour, linewidth=width, marker=few, markersize=width + 3, zorder=5,
              path_effects=look.cased(width + 1), solid_capstyle="round",
              label=f"{trajectory.name}: {trajectory.ended}")  # fmt: skip
    axes.plot(*steps[0], "s", color=look.ink, markersize=8, **edge)
    axes.plot(*steps[-1], "*", color=colour, markersize=15 + 2 * below, **edge)


def draw_marks(look: Look, axes: "Axes", plane: PlaneFunction) -> None:
    """The known critical points."""
    for kind, (marker, size, colour) in MARKS.items():
        known = [c.point for c in plane.critical_points if c.kind == kind]
        if known:
            style = {"markerfacecolor": colour, "markeredgecolor": LETTER, "markeredgewidth": 1.0}
            axes.plot(*np.array(known).T, marker, markersize=size, label=kind, zorder=4, **style)


def heights(
    plane: PlaneFunction, box: Sequence[tuple[float, float]], count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two axes [count] and the values [count, count] over them."""
    x, y = (torch.linspace(*span, count, dtype=torch.float64) for span in box)
    with torch.no_grad():
        value = plane.function(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1))
    return x.numpy(), y.numpy(), value.numpy()


def levels_of(value: np.ndarray) -> np.ndarray:
    """Heights of the level lines, ascending.

    Half of them are spaced evenly in the logarithm of the height above the lowest point shown, which shows
    the floor of a valley; half cut the picture into equal areas, which shows hills and plains.
    """
    lowest, middle, highest = (np.nanquantile(value, q) for q in (0.0, 0.5, 1.0))
    offset = 1e-3 * (middle - lowest) + 1e-12
    log = lowest - offset + np.geomspace(offset, highest - lowest + offset, LEVELS // 2)
    areas = np.nanquantile(value, np.linspace(0, 1, LEVELS // 2 + 1)[1:-1])
    found = np.unique(np.concatenate([log, areas, [lowest, highest]]))
    around = 1e-6 * max(1.0, abs(lowest))  # where the function is the same everywhere, one plain
    return found if len(found) > 1 else np.array([lowest - around, lowest + around])


def spoken(name: str) -> str:
    """The name of a class, split into words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def _span(path: Tensor, domain: tuple[float, float]) -> tuple[float, float]:
    low, high = domain
    width = high - low
    if len(path):
        margin = 0.05 * width
        low = min(low, max(float(path.min()) - margin, low - width))
        high = max(high, min(float(path.max()) + margin, high + width))
    return low, high
