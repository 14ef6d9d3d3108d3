"""Numbers of descents against steps, and of trainings against samples and seconds too."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from core.descend.trajectory import Trajectory
from core.draw.figure import label_ends, new_figure, pixels, tidy
from core.draw.media import Image
from core.draw.palette import FAINT, colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

FLOOR = 1e-16  # what is smaller is rounding


def draw_curves(trajectories: Sequence[Trajectory], lowest: float | None) -> Image:
    """Value and gradient norm against steps.

    Args:
        trajectories: of a function.
        lowest: its known least value, which is taken off; None = not known.
    """
    made = new_figure(9.6, 3.8)
    left, right = made.subplots(1, 2)
    above = [np.array(t.value) - (lowest or 0.0) for t in trajectories]
    title = (
        "value" if lowest is None else f"value above the lowest minimum, {lowest:.6g}" if lowest else "value"
    )
    _lines(left, trajectories, [t.steps for t in trajectories], above, title, "step")
    _lines(
        right,
        trajectories,
        [t.steps for t in trajectories],
        [t.gradient_norm for t in trajectories],
        "gradient norm",
        "step",
    )
    return pixels(made)


def draw_training(trajectories: Sequence[Trajectory]) -> Image:
    """Loss against steps, samples and seconds; then accuracy, and what a batch's gradient is worth."""
    made = new_figure(12.0, 6.6)
    axes = made.subplots(2, 3)
    loss = [t.value for t in trajectories]
    steps = [t.steps for t in trajectories]
    samples = [t.more["samples"] for t in trajectories]
    _lines(axes[0, 0], trajectories, steps, loss, "training loss against steps", "step", log_x=True)
    _lines(axes[0, 1], trajectories, samples, loss, "against samples seen", "samples", log_x=True)
    _lines(
        axes[0, 2],
        trajectories,
        [t.more["seconds"] for t in trajectories],
        loss,
        "against time",
        "seconds",
        log_x=True,
    )
    _lines(axes[1, 0], trajectories, steps, [t.more["held_out_accuracy"] for t in trajectories],
           "accuracy on samples held out", "step", log=False)  # fmt: skip
    _lines(
        axes[1, 1],
        trajectories,
        steps,
        [t.more["cosine"] for t in trajectories],
        "cosine of a batch's gradient with the full one",
        "step",
        log=False,
        limits=(-0.35, 1.05),
    )
    _lines(axes[1, 2], trajectories, steps, [t.more["noise_scale"] for t in trajectories],
           "noise scale: samples for signal = noise", "step")  # fmt: skip
    return pixels(made)


def _lines(
    axes: "Axes",
    trajectories: Sequence[Trajectory],
    x: Sequence[Sequence[float]],
    y: Sequence[Sequence[float] | np.ndarray],
    title: str,
    unit: str,
    *,
    log: bool = True,
    log_x: bool = False,
    limits: tuple[float, float] | None = None,
) -> None:
    """One panel: a line for each descent, its name at the end of it where there are several."""
    tidy(axes, title)
    hues = colours(t.name for t in trajectories)
    values = [np.where(np.isfinite(v), v, np.nan) for v in map(np.asarray, y)]
    log = log and not any((v < 0).any() for v in values) and any((v > 0).any() for v in values)
    for trajectory, across, up in zip(trajectories, x, values, strict=True):
        if log_x:  # without the start, which is at 0
            across, up = np.asarray(across)[1:], up[1:]
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
        _name(axes, trajectories, x, values, hues)


def _plain_ticks(axis: "Axis") -> None:
    """Numbers that can be read: all decades, or 1, 2 and 5 of each where there are few."""
    from matplotlib.ticker import (
        FuncFormatter,
        LogFormatterSciNotation,
        LogLocator,
        NullFormatter,
        NullLocator,
    )

    low, high = axis.get_view_interval()
    decades = np.log10(high / low) if 0 < low < high else 9.0
    if decades < 2:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axis.set_major_formatter(plain if decades < 4 else LogFormatterSciNotation())
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _name(axes, trajectories, x, values, hues) -> None:
    """Names at the right edge, or where a line ends before it."""
    ends = []
    for trajectory, up in zip(trajectories, values, strict=True):
        finite = up[np.isfinite(up)]
        if len(finite):
            ends.append((max(float(finite[-1]), FLOOR) if axes.get_yscale() == "log" else float(finite[-1]),
                         trajectory.name, hues[trajectory.name]))  # fmt: skip
    label_ends(axes, ends)
