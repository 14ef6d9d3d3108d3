"""Gradients of batches of several sizes at the same points, compared with the gradient of all samples."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from core.descend.functions import PlaneFunction
from core.descend.objective_descent import ObjectiveDescent
from core.descend.pictures.maps import draw_ground, picture_box, spoken
from core.descend.trajectory import Trajectory
from core.draw.figure import new_figure, picture
from core.draw.palette import Look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN = 30  # batches at each point
LENGTH = 0.16  # of the full gradient at the first point, as a share of the picture's width


@picture
def draw_arrows(
    look: Look,
    plane: PlaneFunction,
    trained: Mapping[str, ObjectiveDescent],
    trajectories: Sequence[Trajectory],
) -> "Figure":
    """One row for each: on the left where single gradients point, on the right where the steps lead.

    The points are the same for all, on the way of the one with the largest batch: where it began, where it
    had lost half of its loss above the end, and where it ended.
    """
    largest = max(trained, key=lambda name: trained[name].samples)
    (guide,) = [t for t in trajectories if t.name == largest]
    points = _points(guide)
    box = picture_box(plane, trajectories)
    width = min(box[0][1] - box[0][0], box[1][1] - box[1][0])
    made = new_figure(
        2.9 * len(trained) + 0.2,
        f"{spoken(plane.name)}: where gradients point, and where they lead",
        f"left: {DRAWN} gradients at each of three points, downhill; black or white: that of all samples",
    )
    panels = made.subplots(len(trained), 2, squeeze=False, sharex=True, sharey=True)
    hues = look.colours(trained)
    for row, ((name, descent), trajectory) in enumerate(zip(trained.items(), trajectories, strict=True)):
        left, right = panels[row]
        for axes in (left, right):
            draw_ground(look, axes, plane, box)
        scale = None
        for i, place in enumerate(points):
            full, drawn = _gradients(descent, place, i)
            scale = scale or LENGTH * width / float(np.linalg.norm(full))
            _fan(left, place, -scale * drawn, hues[name], 0.006, 0.5, 3)
            _fan(left, place, -scale * full[None], look.ink, 0.013, 1.0, 5)
            left.plot(*place, "o", color=look.page, markeredgecolor=look.ink, markersize=5.5, zorder=6)
        assert trajectory.path is not None
        way, edge = trajectory.path.numpy(), {"markeredgecolor": look.page, "zorder": 6}
        right.plot(*way.T, color=hues[name], linewidth=1.5, path_effects=look.cased(2.6), zorder=5)
        right.plot(*way[0], "s", color=look.ink, markersize=7, **edge)
        right.plot(*way[-1], "*", color=hues[name], markersize=15, **edge)
        count, some = descent.samples, descent.samples < len(descent.data.x)
        what = f"{count} sample{'s' * (count > 1)} each" if some else "all samples"
        left.set_title(f"{name or 'gradient'}: {what}", color=hues[name], fontweight="bold")
        right.set_title(f"{trajectory.steps[-1]:,} steps, {descent.seen:,} samples", color=look.faint)
    return made


def _points(guide: Trajectory) -> list[np.ndarray]:
    """Start, middle and end of a path, by its loss."""
    assert guide.path is not None
    value = np.array(guide.value)
    halfway = int(np.argmax(value <= value[-1] + 0.25 * (value[0] - value[-1])))
    steps = [0, guide.steps[halfway], guide.steps[-1]]
    indices = [int(np.searchsorted(guide.path_steps, step)) for step in steps]
    return [guide.path[i].numpy() for i in indices]


def _gradients(descent: ObjectiveDescent, place: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The full gradient [2] and those of some batches [k, 2] at a place; the descent ends where it was."""
    (weight,) = descent.parameters
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.copy_(torch.from_numpy(place).view_as(weight))
        count = DRAWN if descent.samples < len(descent.data.x) else 1
        return descent.gradient().cpu().numpy(), descent.draws(count, "arrows", number).cpu().numpy()
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def _fan(
    axes, place: np.ndarray, arrows: np.ndarray, colour: str, width: float, alpha: float, order: int
) -> None:
    """Arrows from one place, in the picture's own units."""
    axes.quiver(
        np.full(len(arrows), place[0]), np.full(len(arrows), place[1]), arrows[:, 0], arrows[:, 1],
        angles="xy", scale_units="xy", scale=1, color=colour, alpha=alpha, width=width, headwidth=4,
        zorder=order,
    )  # fmt: skip
