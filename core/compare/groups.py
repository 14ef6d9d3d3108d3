"""Runs of several seeds, found in folders and grouped by the options in which they differ."""

import glob
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from core.cli.saved import saved_options
from core.config import ConfigError, Tree, flat
from core.report.read import read_run
from core.report.record import Curve, natural
from core.run.directory import count_field, is_run
from core.run.files import read_json

# Options that do not tell groups apart: seeds make a group, and the others change nothing of what is learnt.
FREE = ("seed", "device", "num_threads", "logging", "logger", "name", "tags", "monitor", "probe")
FEW = 3  # options that a label can hold


@dataclass(frozen=True, kw_only=True)
class Score:
    """What is compared, and where runs of one trainer keep it.

    Attributes:
        package: of the trainer, as the `_target_` of its runs begins.
        command: that starts such a run, for messages.
        runs: what such runs are called, in the plural.
        label: of the score along a run, for the figure.
        unit: of the x-axis, short, for the table.
        long_unit: of the x-axis, for the figure.
        entries: of `summary.json`; the first that is there is the final score.
        curves: tags; the first that is there has the score along the run.
        task: entries of `summary.json` that name the task; scores on two tasks are never compared.
        task_options: options that make the task, by dotted name or, of a component, by the beginning of it.
        method: the option with the component that gives a group its name.
        falls: whether the lower score is the better one, as of a loss.
    """

    package: str
    command: str
    runs: str
    label: str
    unit: str
    long_unit: str
    entries: tuple[str, ...]
    curves: tuple[str, ...]
    task: tuple[str, ...]
    task_options: tuple[str, ...]
    method: str
    falls: bool = False


@dataclass(frozen=True, kw_only=True)
class SeedRun:
    """One run.

    Attributes:
        path: its directory, or the summary that was kept of it.
        pattern: the folder or pattern that named it.
        seed: None where it is not known.
        status: finished, stopped, failed, running, or unfinished.
        task: what it was trained on.
        method: the class that gives a group its name; the folder where only the summary was kept.
        options: by dotted name, without `FREE`; empty where only the summary was kept.
        score: the final score; None where the run did not reach its final evaluation.
        steps: its length on the x-axis.
        curve: {step: score} of the evaluations during the run, without those that are not a number; empty
            where only the summary was kept.
        lost: evaluations that are not a number.
    """

    path: Path
    pattern: str
    seed: int | None
    status: str
    task: str
    method: str
    options: dict[str, object]
    score: float | None
    steps: int | None
    curve: Curve
    lost: int


@dataclass(frozen=True, kw_only=True)
class SeedGroup:
    """Runs on one task that differ in nothing but their seeds.

    Attributes:
        task: what they were trained on.
        label: the method, and the options that distinguish it from the other groups on this task.
        details: those options in full, where the label cannot hold them; else empty.
        runs: by seed.
    """

    task: str
    label: str
    details: str
    runs: tuple[SeedRun, ...]

    @property
    def scores(self) -> list[float]:
        """Final scores of the runs that have one."""
        return [run.score for run in self.runs if run.score is not None]


def find_runs(patterns: Sequence[str], score: Score) -> list[SeedRun]:
    """All runs that the patterns name, each once.

    Args:
        patterns: run directories, folders of them at any depth, kept summaries (.json), or patterns of these.
        score: what is compared.

    Raises:
        ConfigError: a pattern names nothing, no run, a run of another trainer, or a damaged one.
    """
    runs: dict[Path, SeedRun] = {}
    for pattern in patterns:
        here = Path(pattern)  # as written, where it exists: `net[1]` is no pattern for `net1` then
        paths = [here] if here.exists() else [Path(p) for p in sorted(glob.glob(pattern))] or [here]
        found = [_run(at, pattern, kept, score) for path in paths for at, kept in _kept_runs(path)]
        if not found:
            missing = not any(path.exists() for path in paths)
            raise ConfigError(f"runs: {pattern} {'does not exist' if missing else 'holds no run'}")
        for run in found:
            runs.setdefault(run.path.resolve(), run)
    return _with_one_name(list(runs.values()), score)


def score_of(patterns: Sequence[str], scores: Sequence[Score]) -> Score:
    """The score of the first run that the patterns name; the first score where they name none."""
    paths = (Path(path) for pattern in patterns for path in sorted(glob.glob(pattern)))
    path, kept = next((found for path in paths for found in _kept_runs(path)), (None, None))
    if kept is not None:
        return next((score for score in scores if score.task[0] in kept), scores[0])
    options = {} if path is None else saved_options(path)
    return next((score for score in scores if made_by(options, score)), scores[0])


def made_by(options: Tree, score: Score) -> bool:
    """Whether these are options of the trainer whose score it is."""
    return str(options.get("_target_")).startswith(f"{score.package}.")


def grouped(runs: Iterable[SeedRun]) -> list[SeedGroup]:
    """The groups, in order of their tasks and of their runs."""
    by_key: dict[tuple, list[SeedRun]] = {}
    for run in runs:
        by_key.setdefault((run.task, *_key(run)), []).append(run)
    parts = [part for members in by_key.values() for part in _without_twins(members)]
    tasks = list(dict.fromkeys(members[0].task for members in parts))
    return [group for task in tasks for group in _labelled([p for p in parts if p[0].task == task])]


def _kept_runs(path: Path) -> Iterator[tuple[Path, dict[str, object] | None]]:
    """Run directories and, with their content, kept summaries at and below a path."""
    if path.is_file() and path.suffix == ".json":
        summary = _kept_summary(path)
        if summary is not None:
            yield path, summary
    elif is_run(path):
        yield path, None
    elif path.is_dir():
        for child in sorted(path.iterdir(), key=lambda child: natural(child.name)):
            if not child.name.startswith("."):
                yield from _kept_runs(child)


def _kept_summary(path: Path) -> dict[str, object] | None:
    """A run's summary; None for a file that is something else."""
    content = read_json(path)
    return content if isinstance(content, dict) and "status" in content else None


def _run(path: Path, pattern: str, kept: dict[str, object] | None, score: Score) -> SeedRun:
    """A run from its directory, or where only its summary was kept from that."""
    record = read_run(path) if kept is None else None
    if kept is not None and score.task[0] not in kept:
        raise ConfigError(f"{path} is no summary of {score.command}: compare takes {score.runs}")
    if record is not None and not made_by(record.options, score):
        raise ConfigError(f"{path} holds no run of {score.command}: compare takes {score.runs}")
    options, summary = (record.options, record.summary) if record else ({}, kept or {})
    curves = record.curves if record else {}
    curve = next((curves[tag] for tag in score.curves if tag in curves), {})
    named = flat({key: value for key, value in options.items() if key not in FREE and key != "_target_"})
    value = next((summary[entry] for entry in score.entries if entry in summary), None)
    steps, seed = (summary.get(entry) for entry in (count_field(score.unit), "seed"))
    return SeedRun(
        path=path,
        pattern=pattern,
        seed=cast(int | None, options.get("seed", seed)),
        status=record.status if record else str(summary["status"]),
        task=", ".join(str(summary[entry]) for entry in score.task if summary.get(entry)),
        method=str(named.get(f"{score.method}._target_", _home(path))).rsplit(".", 1)[-1],
        options={key: tuple(v) if isinstance(v, list) else v for key, v in named.items()},
        score=float(value) if isinstance(value, int | float) and not math.isnan(value) else None,
        steps=steps if isinstance(steps, int) else max(curve, default=None),
        curve={step: value for step, value in curve.items() if not math.isnan(value)},
        lost=sum(map(math.isnan, curve.values())),
    )


def _with_one_name(runs: Sequence[SeedRun], score: Score) -> list[SeedRun]:
    """Runs of one task under one name: what was stopped or killed cannot name all of it, or nothing."""
    names: dict[tuple, str] = {}
    for run in runs:
        key = _task_key(run, score)
        names[key] = max(names.get(key, ""), run.task, key=len)
    return [
        replace(run, task=names[key] or _unnamed(key, score))
        for run in runs
        for key in [_task_key(run, score)]
    ]


def _task_key(run: SeedRun, score: Score) -> tuple:
    """The options that make the task, with their values; its name, where only the summary was kept."""
    begins = tuple(f"{name}." for name in score.task_options)
    chosen = {k: v for k, v in run.options.items() if k in score.task_options or k.startswith(begins)}
    return tuple(sorted((key, str(value)) for key, value in chosen.items())) or (("", run.task),)


def _unnamed(key: tuple, score: Score) -> str:
    """A task that no summary names, by its options; of components by their classes."""
    own = {*score.task_options, *(f"{name}._target_" for name in score.task_options)}
    return ", ".join(_value(value) for name, value in key if name in own) or "unnamed"


def _key(run: SeedRun) -> tuple:
    """What runs of one group have in common: their options, or where their summaries are kept."""
    if not run.options:
        return (str(_home(run.path)),)
    return tuple(sorted((key, str(value)) for key, value in run.options.items()))


def _without_twins(members: list[SeedRun]) -> list[list[SeedRun]]:
    """One group; where several patterns name the same seed, a group for each pattern: they are compared."""
    seeds = [run.seed for run in members if run.seed is not None]
    if len(seeds) == len(set(seeds)):
        return [members]
    patterns = dict.fromkeys(run.pattern for run in members)
    return [[run for run in members if run.pattern == pattern] for pattern in patterns]


def _labelled(parts: list[list[SeedRun]]) -> list[SeedGroup]:
    """Groups on one task, named by the options in which they differ."""
    groups = []
    for members in parts:
        method = members[0].method
        alike = [other[0].options for other in parts if other[0].method == method]
        differing = _telling(alike)
        named = [f"{k.removesuffix('._target_')}={_value(members[0].options.get(k))}" for k in differing]
        home = _home(members[0].path).name
        if not members[0].options:
            label, details = home, ""
        elif len(named) > FEW:
            label, details = f"{method} ({home})", ", ".join(named)
        else:
            label, details = " ".join([method, *named]), ""
        groups.append(SeedGroup(task=members[0].task, label=label, details=details, runs=_by_seed(members)))
    return _told_apart(groups)


def _telling(options: Sequence[Tree]) -> list[str]:
    """Names of the options in which these differ; of different components the class, where that is enough."""
    differing = sorted({k for o in options for k in o if len({str(a.get(k)) for a in options}) > 1})
    classes = tuple(name.removesuffix("_target_") for name in differing if name.endswith("._target_"))
    few = [name for name in differing if name.endswith("_target_") or not name.startswith(classes)]
    return few if _distinct(options, few) == _distinct(options, differing) else differing


def _distinct(options: Sequence[Tree], names: Sequence[str]) -> int:
    """How many of these options differ in those of the names."""
    return len({tuple(str(each.get(name)) for name in names) for each in options})


def _told_apart(groups: list[SeedGroup]) -> list[SeedGroup]:
    """Groups whose labels are the same also get the patterns that named them, then numbers."""
    for suffixes in ([group.runs[0].pattern for group in groups], range(1, len(groups) + 1)):
        labels = [group.label for group in groups]
        groups = [
            group if labels.count(group.label) == 1 else replace(group, label=f"{group.label} ({suffix})")
            for group, suffix in zip(groups, suffixes, strict=True)
        ]
    return groups


def _by_seed(members: list[SeedRun]) -> tuple[SeedRun, ...]:
    return tuple(sorted(members, key=lambda run: (run.seed is None, run.seed or 0)))


def _home(path: Path) -> Path:
    """The folder that holds the seeds."""
    return path.resolve().parent


def _value(value: object) -> str:
    """A class by its own name; a tuple as a list."""
    if isinstance(value, tuple):
        return "[" + ",".join(map(str, value)) + "]"
    text = "null" if value is None else str(value)
    return text.rsplit(".", 1)[-1] if isinstance(value, str) and text.count(".") > 1 else text
