"""Runs over their seeds, compared: one Markdown table per task, and the learning curves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from core.checks import checked, require
from core.compare.find import Score, SeedRun, find_runs
from core.compare.groups import SeedGroup, grouped
from core.compare.numbers import (
    FORMS,
    improvement_table,
    improvements,
    markdown,
    shown_estimate,
    write_numbers,
)
from core.compare.statistics import COVERAGE, UNCUT, Statistic, estimate, interquartile_mean, mean
from core.config import ConfigError
from core.draw.media import encode
from core.numbers import plain_number
from core.run.files import refuse_unwritable, write_bytes


@dataclass(frozen=True, kw_only=True)
@checked
class CompareConfig:
    """What to compare.

    Attributes:
        runs: run directories, folders of them, kept summaries, or patterns of these.
        target: a mean score to compare with; the table says where it lies beside each interval; None = none.
        figure: where the learning curves go; None = draw none.
        table: where the numbers go, as CSV or JSON; None = nowhere.
        resamples: bootstrap samples behind every interval.
        seed: of the bootstrap samples.
    """

    runs: tuple[str, ...] | None
    target: float | None
    figure: str | None
    table: str | None
    resamples: Annotated[int, Ge(100)]
    seed: Annotated[int, Ge(0)]

    def __post_init__(self) -> None:
        allowed = "a list of run directories or folders of them: type runs=[DIR,...]"
        require(bool(self.runs), "runs", self.runs, allowed)
        ok = self.figure is None or Path(self.figure).suffix.lower() == ".png"
        require(ok, "figure", self.figure, "the name of a .png file or null")
        ok = self.table is None or Path(self.table).suffix.lower() in FORMS
        require(ok, "table", self.table, "the name of a .csv or .json file, or null")


def compare_runs(cfg: CompareConfig, score: Score) -> str:
    """The tables and remarks; writes the figure and the numbers.

    Raises:
        ConfigError: an element of `runs` names no run, one target is given for several tasks, or the figure
            cannot be written.
    """
    for path in (cfg.figure, cfg.table):
        if path is not None:
            refuse_unwritable(Path(path))
    groups = grouped(find_runs(cfg.runs or (), score))
    tasks = list(dict.fromkeys(group.task for group in groups))
    if cfg.target is not None and len(tasks) > 1:
        raise ConfigError(f"target={cfg.target:g} is a score on one task, but runs are on {'; '.join(tasks)}")
    parts = [task_table([g for g in groups if g.task == task], cfg, score.unit) for task in tasks]
    better = improvements(groups, cfg.resamples, cfg.seed, falls=score.falls)
    parts += [improvement_table(better)] if better else []
    remarks = [line for group in groups for line in _remarks(group, score.unit)]
    remarks.insert(0, f"Score: {score.label}; {'the lower' if score.falls else 'the higher'}, the better.")
    if any(len(group.scores) > 1 for group in groups):
        remarks.insert(1, f"Intervals: 95 %, percentile bootstrap over seeds{_coverage(groups)}.")
    if any(1 < len(group.scores) < UNCUT for group in groups):
        remarks.append(
            f"With fewer than {UNCUT} seeds the interquartile mean leaves none out and is the mean."
        )
    parts.append("\n".join(remarks))
    parts.append(_figure(groups, cfg, score))
    if cfg.table is not None:
        write_numbers(Path(cfg.table), score.label, groups, better, cfg.resamples, cfg.seed)
        parts[-1] += f"\ntable: {cfg.table}"
    return "\n\n".join(parts)


def task_table(groups: Sequence[SeedGroup], cfg: CompareConfig, unit: str) -> str:
    """The groups on one task as a Markdown table, padded so that it can be read as it is."""
    header = [groups[0].task, "seeds", "mean", "interquartile mean", "by seed", unit]
    rows = [header if cfg.target is None else [*header, f"target {plain_number(cfg.target)}"]]
    for group in groups:
        row = [group.label, _count(group), *(_cell(group, s, cfg) for s in (mean, interquartile_mean))]
        row += [", ".join(_seed(run) for run in group.runs), _steps(group)]
        rows.append(row if cfg.target is None else [*row, verdict(group, cfg.target, cfg)])
    return markdown(rows)


def verdict(group: SeedGroup, target: float, cfg: CompareConfig) -> str:
    """Where the interval of the mean lies beside the target; undecided where a seed is missing."""
    missing = len(group.runs) - len(group.scores)
    if missing:
        return f"undecided: {missing} of {len(group.runs)} seeds without a score"
    found = estimate(group.scores, mean, cfg.resamples, cfg.seed)
    if found.interval is None:
        return "undecided: one seed has no interval"
    low, high = found.interval
    if high < target:
        return f"below by {plain_number(target - high)}"
    return f"above by {plain_number(low - target)}" if low > target else "target within the interval"


def _cell(group: SeedGroup, statistic: Statistic, cfg: CompareConfig) -> str:
    if not group.scores:
        return "–"
    return shown_estimate(estimate(group.scores, statistic, cfg.resamples, cfg.seed))


def _count(group: SeedGroup) -> str:
    have, all_ = len(group.scores), len(group.runs)
    return str(all_) if have == all_ else f"{have} of {all_}"


def _seed(run: SeedRun) -> str:
    """A seed's score, and its status unless it has finished."""
    if run.score is None:
        return f"{run.status} (seed {'?' if run.seed is None else run.seed})"
    return plain_number(run.score) + ("" if run.status == "finished" else f" ({run.status})")


def _steps(group: SeedGroup) -> str:
    steps = [run.steps for run in group.runs if run.steps is not None]
    if not steps:
        return "–"
    low, high = min(steps), max(steps)
    return f"{high:,}" if low > 0.98 * high else f"{low:,} to {high:,}"


def _remarks(group: SeedGroup, unit: str) -> Iterator[str]:
    """What a reader of the numbers also has to know."""
    where = f"{group.task}, {group.label}"
    if group.details:
        yield f"{where}: {group.details}."
    for run in group.runs:
        if run.score is None:
            at = "" if run.steps is None else f" at {run.steps:,} {unit}"
            yield f"{where}: {run.path} has status {run.status}{at}; without a final score it is in no mean."
        if run.lost:
            yield f"{where}: {run.lost} points of the curve of {run.path} are not numbers, and are left out."
    seeds = [run.seed for run in group.runs if run.seed is not None]
    for seed in sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        yield f"{where}: seed {seed} is there {seeds.count(seed)} times, and it is counted as often."


def _coverage(groups: Sequence[SeedGroup]) -> str:
    """How often such intervals really hold the mean, where that is not 95 %."""
    few = sorted({len(group.scores) for group in groups} & COVERAGE.keys())
    found = ", ".join(f"{COVERAGE[count]} % of the time with {count}" for count in few)
    return f"; with few seeds they are too narrow and hold the true mean {found}" if few else ""


def _figure(groups: Sequence[SeedGroup], cfg: CompareConfig, score: Score) -> str:
    if cfg.figure is None:
        return "figure: none, because figure=null"
    if not any(run.curve for group in groups for run in group.runs):
        return "figure: none, because only summaries are left of these runs"
    from core.compare.learning_curves import draw_learning_curves

    path = Path(cfg.figure)
    write_bytes(path, encode(draw_learning_curves(groups, score, target=cfg.target, seed=cfg.seed))[0])
    return f"figure: {path}"
