"""Learning curves over seeds: the mean, every seed, from five on the mean's interval; a panel per task."""

import math
from collections.abc import Sequence

import numpy as np

from core.compare.groups import Score, SeedGroup
from core.compare.statistics import ENOUGH, interval, mean
from core.config import Tree
from core.draw.figure import new_figure, pixels
from core.draw.media import encode
from core.draw.palette import COLOURS, FAINT, PALE
from core.numbers import tick

DASHES = ("-", "--", ":")  # with more groups than colours
POINTS = 200  # of the common grid, at most
RESAMPLES = 500  # bootstrap samples behind a band
ENDED = 0.98  # of the longest run: a seed that came less far has ended early


def draw_learning_curves(
    groups: Sequence[SeedGroup],
    score: Score,
    *,
    target: float | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> bytes:
    """The mean score of the evaluations along the runs, as a PNG.

    A seed that ended early is drawn up to a cross; from there on mean and band are those of the others. A
    published score, the target, is a line.
    """
    drawn = [group for group in groups if any(run.curve for run in group.runs)]
    tasks = list(dict.fromkeys(group.task for group in drawn))
    looks = _looks(list(dict.fromkeys(group.label for group in drawn)))
    columns = min(math.ceil(len(tasks) ** 0.5), 3)
    rows = -(-len(tasks) // columns)
    figure = new_figure(max(6.0, 4.4 * columns), 3.6 * rows + 0.4, dpi=150)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    handles = {}
    for panel, task in zip(panels, tasks, strict=False):
        for group in (g for g in drawn if g.task == task):
            handles[group.label] = _draw_group(panel, group, looks[group.label], seed)
        if target is not None:
            handles["published"] = panel.axhline(target, color=FAINT, linewidth=1.4, linestyle=(0, (4, 3)))
        panel.set_title(task, fontsize=13)
        panel.xaxis.set_major_formatter(lambda x, _: tick(x))
        panel.tick_params(labelsize=11)
        panel.grid(color=PALE, linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlabel(score.long_unit, fontsize=11)
    for panel in panels[len(tasks) :]:
        panel.set_visible(False)
    for panel in panels[::columns]:
        panel.set_ylabel(score.label, fontsize=11)
    if len(handles) > 1 or target is not None:
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=min(len(handles), 3),
            fontsize=11,
            frameon=False,
        )
    return encode(pixels(figure))[0]


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


def _draw_group(panel, group: SeedGroup, look: Tree, seed: int):
    """One group's mean and seeds, with a band where there are enough of them; returns the mean's line."""
    curves = [run.curve for run in group.runs if run.curve]
    grid, middle, low, high = band(curves, RESAMPLES, seed)
    last = max(max(curve) for curve in curves)
    enough = len(curves) >= ENOUGH
    seeds = {"linewidth": 0.7, "alpha": 0.35} if enough else {"linewidth": 1.1, "alpha": 0.7}
    for curve in curves:
        panel.plot([*curve], [*curve.values()], **seeds, **look)
        if max(curve) < ENDED * last:
            panel.plot(max(curve), curve[max(curve)], marker="x", markersize=7, color=look["color"])
    if enough:
        panel.fill_between(grid, low, high, color=look["color"], alpha=0.2, linewidth=0)
    (line,) = panel.plot(grid, middle, linewidth=2.4, **look)
    return line


def _looks(labels: list[str]) -> dict[str, Tree]:
    """Colour and dashes by label."""
    return {
        label: {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i // len(COLOURS) % len(DASHES)]}
        for i, label in enumerate(labels)
    }
