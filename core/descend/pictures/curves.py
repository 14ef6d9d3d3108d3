"""Numbers of descents against steps, and of trainings against samples and seconds too."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from core.descend.trajectory import Trajectory
from core.draw.figure import FEW, few_numbers, label_ends, legend, new_figure, picture
from core.draw.palette import Look
from core.numbers import tick

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Panels about a training: columns against each other, title, unit of the x-axis, and how they are drawn.
TRAINING: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
    ("steps", "value", "training loss by step", "step", {"log_x": True}),
    ("samples", "value", "by samples seen", "samples", {"log_x": True}),
    ("seconds", "value", "by time", "seconds", {"log_x": True}),
    ("steps", "held_out_accuracy", "accuracy, held-out samples", "step", {"log": False}),
    ("steps", "gradient_cosine", "cosine with the full gradient", "step", {"log": False}),
    ("steps", "noise_scale", "noise scale, samples", "step", {}),
)  # fmt: skip


@picture
def draw_curves(look: Look, trajectories: Sequence[Trajectory], lowest: float | None) -> "Figure":
    """Value of a function, above its known least one, and gradient norm against steps."""
    made = new_figure(6.4)
    upper, lower = made.subplots(2, 1)
    title = f"value above the lowest minimum, {lowest:.6g}" if lowest else "value"
    _lines(look, upper, trajectories, "steps", "value", title, "", ground=lowest or 0.0)
    _lines(look, lower, trajectories, "steps", "gradient_norm", "gradient norm", "step")
    for axes, y, ground in ((upper, "value", lowest or 0.0), (lower, "gradient_norm", 0.0)):
        _name_ends(look, axes, trajectories, y, ground)
    return made


@picture
def draw_training(look: Look, trajectories: Sequence[Trajectory]) -> "Figure":
    """Loss against steps, samples and seconds; then accuracy, and what a batch's gradient is worth."""
    made = new_figure(8.6)
    panels = made.subplots(3, 2).flat
    for axes, (x, y, title, unit, style) in zip(panels, TRAINING, strict=True):
        _lines(look, axes, trajectories, x, y, title, unit, **style)
    if len(trajectories) > 1:
        legend(made, axes.get_legend_handles_labels()[0])
    return made


def _lines(
    look: Look,
    axes: "Axes",
    trajectories: Sequence[Trajectory],
    x: str,
    y: str,
    title: str,
    unit: str,
    *,
    ground: float = 0.0,
    log: bool = True,
    log_x: bool = False,
) -> None:
    """One panel: a line for each descent, above `ground`; a logarithm has no place for what is exactly 0."""
    axes.set_title(title)
    hues = look.colours(t.name for t in trajectories)
    values = [_finite(t, y, ground) for t in trajectories]
    log = log and not any((v < 0).any() for v in values) and any((v > 0).any() for v in values)
    for trajectory, up in zip(trajectories, values, strict=True):
        across = np.asarray(trajectory.column(x))
        if log_x:  # without the start, which is at 0
            across, up = across[1:], up[1:]
        seen = np.where(up > 0, up, np.nan) if log else up
        marker = "." if np.isfinite(seen).sum() == 1 else None  # a line needs two points
        axes.plot(across, seen, color=hues[trajectory.name], marker=marker, label=trajectory.name)
    axes.set_yscale("log" if log else "linear")
    if log_x:
        axes.set_xscale("log")
    few_numbers(axes)
    axes.margins(x=0.01)
    for axis, logarithmic in ((axes.yaxis, log), (axes.xaxis, log_x)):
        if logarithmic:
            _plain_ticks(axis)
    axes.set_xlabel(unit)


def _name_ends(look: Look, axes: "Axes", trajectories: Sequence[Trajectory], y: str, ground: float) -> None:
    """The name of each descent at the end of its line, where there are several."""
    values = [(_finite(t, y, ground), t.name) for t in trajectories]
    ends = [(v[np.isfinite(v)], name) for v, name in values]
    if len(trajectories) > 1:
        hues = look.colours(t.name for t in trajectories)
        label_ends(axes, [(float(v[-1]), name, hues[name]) for v, name in ends if len(v)])


def _finite(trajectory: Trajectory, y: str, ground: float) -> np.ndarray:
    """Numbers above `ground`, NaN where they are not finite."""
    values = np.array(trajectory.column(y)) - ground
    return np.where(np.isfinite(values), values, np.nan)


def _plain_ticks(axis: "Axis") -> None:
    """Numbers that can be read: all decades, or 1, 2 and 5 of each where there are few."""
    from matplotlib import ticker

    low, high = axis.get_view_interval()
    decades = np.log10(high / low) if 0 < low < high else 9.0
    if decades < 2:
        axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0), numticks=FEW))
    else:
        axis.set_major_locator(ticker.LogLocator(numticks=FEW))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: tick(value)))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_minor_formatter(ticker.NullFormatter())
