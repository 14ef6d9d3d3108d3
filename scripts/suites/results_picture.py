"""The picture of docs/results.md: every return beside the published one, in percent of it."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.draw.figure import legend, new_figure, picture
from core.draw.palette import Look
from scripts.suites.kept import RESULTS, figures, summaries
from scripts.suites.markdown import averaged, rounded_steps
from scripts.suites.results_agents import verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {  # a table of published.toml: what its panel is called, and which of our returns it compares
    "agents": ("rl-zoo, CleanRL, Tianshou", "eval_return_mean"),
    "half": ("the same, with half of the steps", "eval_return_mean"),
    "slm_lab": ("SLM-Lab (sampled actions)", "eval_return_mean_stochastic"),
}
NAMES = {  # the beginning of an experiment, the longest first: its agent
    "ppo_recurrent": "PPO",  # its environments say what it remembers
    "ppo_noveld": "NovelD",
    "ppo_rnd": "RND",
    "reinforce": "REINFORCE",
}
ROW, TEXT = 0.185, 9.5  # inches, points
LIMITS = (-75.0, 125.0)  # percent


@dataclass(frozen=True)
class Row:
    """One experiment.

    Attributes:
        label: agent, environment and steps.
        ends: mean and the ends of its interval, in percent above the published return; None where that is 0.
        verdict: above, within or below.
        share: of the published steps, in percent; None where none are named.
    """

    label: str
    ends: tuple[float, ...] | None
    verdict: str
    share: float | None


def rows_of(name: str) -> list[Row]:
    """The rows of one table of published.toml."""
    table = tomllib.loads((RESULTS / "published.toml").read_text(encoding="utf-8"))[name]
    return [row_of(row, summaries(row.get("folder", row["experiment"])), PANELS[name][1]) for row in table]


def row_of(row: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], entry: str) -> Row:
    """One row, of what is published and the summaries of all seeds."""
    returns, steps = figures(runs, entry), min(figures(runs, "env_steps"))
    published = row["published"]
    ends = (
        tuple(100 * (each - published) / abs(published) for each in averaged(returns)) if published else None
    )
    agent = next((NAMES[key] for key in NAMES if row["experiment"].startswith(key)), None)
    agent = agent or row["experiment"].partition("_")[0].upper()
    environment = row["environment"].removeprefix("MiniGrid-").removeprefix("MinAtar/")
    share = min(100 * steps / row["steps"], 100.0) if row["steps"] else None  # a rollout more is not said
    return Row(f"{agent}, {environment}, {rounded_steps(steps)}", ends, verdict(returns, published), share)


@picture
def draw(look: Look) -> "Figure":
    """A panel for each table: a line from the lowest to the highest end of every interval."""
    from matplotlib.lines import Line2D

    tables = {name: rows_of(name) for name in PANELS}
    made = new_figure(ROW * sum(len(rows) + 4 for rows in tables.values()))
    heights = [len(rows) for rows in tables.values()]
    panels = made.subplots(len(tables), squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    colours = {"above": look.blue, "within": look.ink, "below": look.orange}
    for panel, (name, rows) in zip(panels, tables.items(), strict=True):
        panel.set_title(PANELS[name][0])
        for place, row in enumerate(rows):
            draw_row(panel, place, row, colours[row.verdict])
        finish(look, panel, rows)
    panels[-1].set_xlabel("percent above the published return")
    legend(made, [Line2D([], [], color=hue, marker="o", label=said) for said, hue in colours.items()])
    return made


def draw_row(panel: "Axes", place: int, row: Row, colour: str) -> None:
    """One interval; an arrow at the edge where its mean is beyond it, or nothing but 0 is published."""
    mean, *interval = row.ends or (math.inf,)
    if interval:
        panel.plot(interval, [place, place], color=colour, linewidth=2.2)
    if LIMITS[0] < mean < LIMITS[1]:
        panel.plot(mean, place, marker="o", markersize=4.5, color=colour)
    else:
        at, arrow = (LIMITS[0] + 3, "<") if mean < 0 else (LIMITS[1] - 3, ">")
        panel.plot(at, place, marker=arrow, color=colour)


def finish(look: Look, panel: "Axes", rows: Sequence[Row]) -> None:
    """Names at the left, shares of the published steps at the right, the first row on top."""
    panel.axvline(0, color=look.faint, linewidth=1)
    panel.set_xlim(*LIMITS)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=TEXT)
    panel.tick_params(axis="y", length=0)
    panel.grid(visible=False, axis="y")
    where = {"transform": panel.get_yaxis_transform(), "fontsize": TEXT, "color": look.faint, "va": "center"}
    for place, row in enumerate(rows):
        if row.share is not None:
            panel.text(1.13, place, f"{row.share:.0f} %", ha="right", **where)
    panel.text(1.13, -1.4, "of its steps", ha="right", **where)
