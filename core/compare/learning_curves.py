"""Learning curves over seeds: the mean, every seed, from five on the mean's interval; a panel per task."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from core.compare.find import Score
from core.compare.groups import SeedGroup
from core.compare.statistics import ENOUGH, interval, mean
from core.config import Tree
from core.draw.figure import few_numbers, legend, new_figure, picture
from core.draw.palette import Look
from core.numbers import tick, ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

DASHES = ("-", "--", ":")  # with more groups than colours
POINTS = 200  # of the common grid, at most
RESAMPLES = 500  # bootstrap samples behind a band
ENDED = 0.98  # of the longest run: a seed that came less far has ended early


@picture
def draw_learning_curves(
    look: Look, groups: Sequence[SeedGroup], score: Score, *, target: float | None = None, seed: int = 0
) -> "Figure":
    """The mean score of the evaluations along the runs.

    A seed that ended early is drawn up to a cross; from there on mean and band are those of the others.
    The target is a line.
    """
    from matplotlib.ticker import FuncFormatter

    drawn = [group for group in groups if any(run.curve for run in group.runs)]
    tasks = list(dict.fromkeys(group.task for group in drawn))
    styles = _styles(look, list(dict.fromkeys(group.label for group in drawn)))
    columns = 1 if len(tasks) == 1 else 2
    rows = -(-len(tasks) // columns)
    made = new_figure((4.4 if columns == 1 else 2.9) * rows + 0.4, score.label[:1].upper() + score.label[1:])
    panels = list(made.subplots(rows, columns, squeeze=False).flat)
    lines = {}
    for panel, task in zip(panels, tasks, strict=False):
        for group in (g for g in drawn if g.task == task):
            (lines[group.label],) = _draw_group(panel, group, styles[group.label], seed)
        if target is not None:
            look_of = {"color": look.faint, "linewidth": 1.4, "linestyle": (0, (4, 3)), "label": "target"}
            lines["target"] = panel.axhline(target, **look_of)
        panel.set_title(task)
        few_numbers(panel)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _, axis=panel.xaxis: _number(axis, x)))
        panel.set_xlabel(score.long_unit)
    for panel in panels[len(tasks) :]:
        panel.set_visible(False)
    if len(lines) > 1 or target is not None:
        legend(made, list(lines.values()))
    return made


def _number(axis: "Axis", x: float) -> str:
    """A label with as many digits as the axis' numbers need to differ."""
    places = [*axis.get_majorticklocs()]
    return dict(zip(places, ticks(places), strict=True)).get(x, tick(x))


def band(
    curves: Sequence[dict[int, float]], resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean over seeds, and the ends of its interval, on a common grid.

    The curves, one per seed, {step: value}, are not empty, and straight lines between their points.

    Returns:
        Steps, mean, lower and upper end, [G] each. Where a seed has ended early, they are those of the other
        seeds; the ends are NaN where only one seed is left. Steps begin where all seeds have begun.
    """
    last = max(max(curve) for curve in curves)
    first = max(min(curve) for curve in curves)
    grid = np.array(sorted({step for curve in curves for step in curve if step >= first}), dtype=np.float64)
    if len(grid) > POINTS:
        grid = np.linspace(first, last, POINTS)
    values = np.stack([np.interp(grid, [*curve], [*curve.values()]) for curve in curves])
    for row, curve in zip(values, curves, strict=True):
        if max(curve) < ENDED * last:
            row[grid > max(curve)] = np.nan
    present = np.isfinite(values)
    middle, low, high = (np.full(len(grid), np.nan) for _ in range(3))
    for pattern in np.unique(present, axis=1).T:
        columns = (present == pattern[:, None]).all(0)
        chosen = values[np.ix_(pattern, columns)]
        if len(chosen):
            middle[columns] = chosen.mean(0)
        if len(chosen) > 1:
            low[columns], high[columns] = interval(chosen, mean, resamples, seed)
    return grid, middle, low, high


def _draw_group(panel: "Axes", group: SeedGroup, style: Tree, seed: int) -> "list[Line2D]":
    """One group's mean and seeds, with a band where there are enough of them; returns the mean's line."""
    curves = [run.curve for run in group.runs if run.curve]
    grid, middle, low, high = band(curves, RESAMPLES, seed)
    last = max(max(curve) for curve in curves)
    enough = len(curves) >= ENOUGH
    seeds = {"linewidth": 0.7, "alpha": 0.35} if enough else {"linewidth": 1.1, "alpha": 0.7}
    for curve in curves:
        dot = "." if len(curve) == 1 else None  # a line needs two points
        panel.plot([*curve], [*curve.values()], marker=dot, **seeds, **style)
        if max(curve) < ENDED * last:
            panel.plot(max(curve), curve[max(curve)], marker="x", markersize=7, color=style["color"])
    if enough:
        panel.fill_between(grid, low, high, color=style["color"], alpha=0.2, linewidth=0)
    dot = "o" if len(grid) == 1 else None
    return panel.plot(grid, middle, linewidth=2.4, marker=dot, label=group.label, **style)


def _styles(look: Look, labels: list[str]) -> dict[str, Tree]:
    """Colour and dashes by label."""
    hues = look.series
    return {
        label: {"color": hues[i % len(hues)], "linestyle": DASHES[i // len(hues) % len(DASHES)]}
        for i, label in enumerate(labels)
    }
