"""Numbers of descents against steps, and of trainings against samples and seconds too."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from core.descend.trajectory import Trajectory
from core.draw.figure import label_ends, new_figure, pixels, tidy
from core.draw.media import Image
from core.draw.palette import FAINT, colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

FLOOR = 1e-16  # what is smaller is rounding
# Panels about a training: columns against each other, title, unit of the x-axis, and how they are drawn.
TRAINING: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
    ("steps", "value", "training loss against steps", "step", {"log_x": True}),
    ("samples", "value", "against samples seen", "samples", {"log_x": True}),
    ("seconds", "value", "against time", "seconds", {"log_x": True}),
    ("steps", "held_out_accuracy", "accuracy on samples held out", "step", {"log": False}),
    ("steps", "gradient_cosine", "cosine of a batch's gradient with the full one", "step",
     {"log": False, "limits": (-0.35, 1.05)}),
    ("steps", "noise_scale", "noise scale: samples for signal = noise", "step", {}),
)  # fmt: skip


def draw_curves(trajectories: Sequence[Trajectory], lowest: float | None) -> Image:
    """Value of a function, above its known least one, and gradient norm against steps."""
    made = new_figure(9.6, 3.8)
    left, right = made.subplots(1, 2)
    title = f"value above the lowest minimum, {lowest:.6g}" if lowest else "value"
    _lines(left, trajectories, "steps", "value", title, "step", ground=lowest or 0.0)
    _lines(right, trajectories, "steps", "gradient_norm", "gradient norm", "step")
    return pixels(made)


def draw_training(trajectories: Sequence[Trajectory]) -> Image:
    """Loss against steps, samples and seconds; then accuracy, and what a batch's gradient is worth."""
    made = new_figure(12.0, 6.6)
    for axes, (x, y, title, unit, look) in zip(made.subplots(2, 3).flat, TRAINING, strict=True):
        _lines(axes, trajectories, x, y, title, unit, **look)
    return pixels(made)


def _lines(
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
    limits: tuple[float, float] | None = None,
) -> None:
    """One panel: a line for each descent, above `ground`; named at its end where there are several."""
    tidy(axes, title)
    hues = colours(t.name for t in trajectories)
    values = [np.array(t.column(y)) - ground for t in trajectories]
    values = [np.where(np.isfinite(v), v, np.nan) for v in values]
    log = log and not any((v < 0).any() for v in values) and any((v > 0).any() for v in values)
    for trajectory, up in zip(trajectories, values, strict=True):
        across = np.asarray(trajectory.column(x))
        if log_x:  # without the start, which is at 0
            across, up = across[1:], up[1:]
        seen = np.clip(up, FLOOR, None) if log else up
        axes.plot(across, seen, color=hues[trajectory.name], linewidth=1.9, solid_capstyle="round")
    axes.set_yscale("log" if log else "linear")
    if log_x:
        axes.set_xscale("log")
    for axis, logarithmic in ((axes.yaxis, log), (axes.xaxis, log_x)):
        if logarithmic:
            _plain_ticks(axis)
    axes.set_xlabel(unit, color=FAINT, fontsize=9)
    if limits is not None:
        axes.set_ylim(*limits)
    axes.margins(x=0.01)
    if len(trajectories) > 1:
        finite = [(v[np.isfinite(v)], name) for v, name in zip(values, hues, strict=True)]
        floor = FLOOR if log else -np.inf
        label_ends(axes, [(max(float(v[-1]), floor), name, hues[name]) for v, name in finite if len(v)])


def _plain_ticks(axis: "Axis") -> None:
    """Numbers that can be read: all decades, or 1, 2 and 5 of each where there are few."""
    from matplotlib import ticker

    low, high = axis.get_view_interval()
    decades = np.log10(high / low) if 0 < low < high else 9.0
    if decades < 2:
        axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    plain = ticker.FuncFormatter(lambda value, _: f"{value:g}")
    axis.set_major_formatter(plain if decades < 4 else ticker.LogFormatterSciNotation())
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_minor_formatter(ticker.NullFormatter())
