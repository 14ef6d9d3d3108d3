"""A study in two pictures: which options mattered, and which values the best trials had."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.draw.figure import legend, new_figure, picture
from core.draw.palette import Look
from core.numbers import tick
from core.text import shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW = 0.34  # inches of an option
BEST = 3  # trials that have a colour of their own


@picture
def draw_importances(look: Look, importances: Mapping[str, float], objective: str) -> "Figure":
    """The share of each option in the differences of the objective, by PED-ANOVA."""
    names = list(importances)
    made = new_figure(
        ROW * len(names) + 0.8, f"What {objective} depended on", "importance by PED-ANOVA, of 1"
    )
    axes = made.subplots()
    axes.barh(range(len(names)), list(importances.values()), color=look.blue, height=0.6)
    axes.set_yticks(range(len(names)), [shortened(name, 34) for name in names])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(left=0)
    return made


@picture
def draw_parallel(
    look: Look, trials: Sequence[Any], space: Mapping[str, Any], objective: str, sign: float
) -> "Figure":
    """Each finished trial as a line over all options, the best ones in colour; a row for each option.

    Args:
        look: the colours.
        trials: that have finished, at least one.
        space: distribution of each option, by name.
        objective: its name.
        sign: 1 where more of it is better, else -1.
    """
    names, values = [*space], [trial.value for trial in trials]
    low, high = min(values), max(values)
    note = "left the lowest value or first choice, right the highest or last"
    title = f"The values of {len(trials)} finished trials"
    made = new_figure(ROW * (len(names) + 1) + 1.0, title, note)
    axes = made.subplots()
    for rank, trial in enumerate(sorted(trials, key=lambda trial: -sign * trial.value)):
        at = [_share(space[name], trial.params[name]) for name in names]
        at.append((trial.value - low) / (high - low) if high > low else 0.5)
        style: dict[str, Any] = {"color": look.faint, "linewidth": 0.8, "alpha": 0.5}
        if rank < BEST:
            label = f"{tick(trial.value)}, trial {trial.number}"
            style = {"color": look.series[rank], "linewidth": 2.0, "zorder": 3, "label": label}
        axes.plot(at, range(len(at)), marker="o", markersize=4, **style)
    rows = [_label(name, space[name]) for name in names]
    axes.set_yticks(range(len(names) + 1), [*rows, f"{objective}: {tick(low)} to {tick(high)}"])
    axes.set_xticks([])
    axes.set_xlim(-0.04, 1.04)
    axes.invert_yaxis()
    legend(made, axes.get_legend_handles_labels()[0])
    return made


def _share(distribution: Any, value: Any) -> float:
    """Where a value is between the ends of its range, in [0, 1]."""
    if hasattr(distribution, "choices"):
        return list(distribution.choices).index(value) / max(len(distribution.choices) - 1, 1)
    low, high = distribution.low, distribution.high
    if distribution.log:
        low, high, value = (math.log(each) for each in (low, high, value))
    return (value - low) / (high - low)


def _label(name: str, distribution: Any) -> str:
    """An option and its ends."""
    several = getattr(distribution, "choices", None)
    ends = several[:: max(len(several) - 1, 1)] if several else (distribution.low, distribution.high)
    numbers = [isinstance(each, int | float) and not isinstance(each, bool) for each in ends]
    shown = [tick(each) if number else str(each) for each, number in zip(ends, numbers, strict=True)]
    return f"{shortened(name, 26)}: {' to '.join(shown)}"
