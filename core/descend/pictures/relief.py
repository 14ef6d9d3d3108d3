"""A function of two variables as a surface in relief, and its descents as a video."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from core.descend.functions import PlaneFunction
from core.descend.pictures.maps import draw_field, draw_ground, draw_marks, heights, picture_box, spoken
from core.descend.trajectory import Trajectory
from core.draw.figure import FILM_DPI, canvas_of, in_both, legend, new_figure, picture, rgb, sides
from core.draw.media import Video
from core.draw.palette import Look
from core.numbers import ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID = 90  # points of the surface along each axis
FRAMES, FPS = 60, 12.0
HOLD = 12  # frames that the end stays


@picture
def draw_surface(look: Look, plane: PlaneFunction, trajectories: Sequence[Trajectory]) -> "Figure":
    """The function as a surface, with the paths on it; heights on a scale that spreads the valleys."""
    box = [(low, high) for low, high in plane.domain]
    x, y, value = heights(plane, box, GRID)
    lowest = float(np.nanmin(value))
    scale = max(float(np.nanmedian(value)) - lowest, 1e-12) / 8

    def squeezed(height: np.ndarray) -> np.ndarray:
        return np.arcsinh((height - lowest) / scale)

    made = new_figure(5.6, spoken(plane.name))
    axes: Any = made.add_subplot(projection="3d", computed_zorder=False)  # types of 3-D axes are patchy
    mesh = np.meshgrid(x, y)
    axes.plot_surface(
        *mesh, squeezed(value), cmap=look.heights(), rcount=GRID, ccount=GRID, linewidth=0, zorder=1
    )
    axes.contour(*mesh, squeezed(value), levels=14, colors=look.level, linewidths=0.7, alpha=0.9, zorder=2)
    lift = 0.015 * float(np.ptp(squeezed(value)))
    for i, (trajectory, colour) in enumerate(
        zip(trajectories, look.colours(t.name for t in trajectories).values(), strict=True)
    ):
        assert trajectory.path is not None
        width = 2.2 + 0.8 * min(len(trajectories) - 1 - i, 4)
        low, high = torch.tensor(box, dtype=trajectory.path.dtype).T
        path = trajectory.path[((trajectory.path >= low) & (trajectory.path <= high)).all(1)]
        if not len(path):
            continue
        with torch.no_grad():
            z = squeezed(plane.function(path).numpy()) + lift
        steps = path.numpy()
        style = {"color": colour, "linewidth": width, "path_effects": look.cased(width + 1)}
        axes.plot(*steps.T, z, label=trajectory.name, zorder=5, **style)
        axes.plot(*steps[:1].T, z[:1], "s", color=look.ink, markeredgecolor=look.page, markersize=8, zorder=6)
        axes.plot(
            *steps[-1:].T, z[-1:], "*", color=colour, markeredgecolor=look.page, markersize=15, zorder=7
        )
    marked = np.linspace(0, float(np.nanmax(squeezed(value))), 5)
    axes.set_zticks(marked, ticks(lowest + scale * np.sinh(marked)))
    sides(look, axes)
    axes.grid(False)
    axes.set_xlabel("x0")
    axes.set_ylabel("x1")
    axes.view_init(elev=48, azim=-62)
    axes.set_box_aspect((1, 1, 0.62), zoom=1.05)
    legend(made, axes.get_legend_handles_labels()[0], 4)
    return made


def draw_video(plane: PlaneFunction, trajectories: Sequence[Trajectory]) -> Video:
    """All descents at the same step, slow at first, when most happens."""
    light, dark = in_both(lambda look: _frames(look, plane, trajectories))
    return Video(light, FPS, dark)


def _frames(look: Look, plane: PlaneFunction, trajectories: Sequence[Trajectory]) -> np.ndarray:
    box = picture_box(plane, trajectories)
    made = new_figure(6.2, dpi=FILM_DPI)
    axes = made.add_subplot()
    draw_ground(look, axes, plane, box)
    draw_field(look, axes, plane, box)
    draw_marks(look, axes, plane)
    axes.set_title("step 0", color=look.page)  # room for that of each frame
    hues = look.colours(t.name for t in trajectories)
    for name, colour in hues.items():
        axes.plot([], [], color=colour, linewidth=2.5, label=name)
    legend(made, axes.lines[-len(hues) :], 4)
    canvas = canvas_of(made)
    canvas.draw()
    made.set_layout_engine("none")
    background = canvas.copy_from_bbox(made.bbox)
    title = axes.text(0, 1.02, "", transform=axes.transAxes)
    lines, heads = [], []
    for colour in hues.values():
        lines += axes.plot([], [], color=colour, linewidth=2, path_effects=look.cased(3.4))
        heads += axes.plot([], [], "o", color=colour, markeredgecolor=look.page, markersize=9)
    total = max(t.path_steps[-1] for t in trajectories)
    frames = []
    shares = (np.arange(FRAMES + 1) / FRAMES) ** 2
    for step in sorted({round(total * share) for share in shares}):
        canvas.restore_region(background)
        title.set_text(f"{spoken(plane.name)}, step {step:,}")
        for trajectory, line, head in zip(trajectories, lines, heads, strict=True):
            assert trajectory.path is not None
            until = int(np.searchsorted(trajectory.path_steps, step, side="right"))
            way = trajectory.path[:until].numpy()
            line.set_data(*way.T)
            head.set_data(*way[-1:].T)
        for artist in (title, *lines, *heads):
            axes.draw_artist(artist)
        frames.append(rgb(canvas))
    return np.stack(frames + frames[-1:] * HOLD)
