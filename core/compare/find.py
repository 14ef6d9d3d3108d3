"""Runs of several seeds, found in folders, each with its score and the name of its task."""

import glob
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from core.cli.saved import saved_options
from core.config import ConfigError, Tree, flat
from core.numbers import plain_number
from core.report.read import read_run
from core.report.record import Curve, natural
from core.run.directory import count_field, is_run
from core.run.files import read_json
from core.text import listed

# Options that do not tell groups apart: seeds make a group, and the others change nothing of what is learnt.
FREE = ("seed", "device", "num_threads", "logging", "logger", "name", "tags", "monitor", "probe")
SAME_FLOOR = 0.02  # relative; between a CPU and a GPU 0.3 % was seen, and no data sets so near to each other


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
        floor: entry of `summary.json` with what the data score themselves; where it differs, so do the tasks.
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
    floor: str | None = None


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
        floor: what the data score themselves; None where that is not known.
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
    floor: float | None
    steps: int | None
    curve: Curve
    lost: int


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
        paths = _named_by(pattern)
        found = [_run(at, pattern, kept, score) for path in paths for at, kept in _kept_runs(path)]
        if not found:
            missing = not any(path.exists() for path in paths)
            raise ConfigError(f"runs: {pattern} {'does not exist' if missing else 'holds no run'}")
        for run in found:
            runs.setdefault(run.path.resolve(), run)
    return _with_one_name(list(runs.values()), score)


def score_of(patterns: Sequence[str], scores: Sequence[Score]) -> Score:
    """The score of the first run that the patterns name; the first score where they name none.

    Raises:
        ConfigError: that run is of no trainer that has a score.
    """
    paths = (path for pattern in patterns for path in _named_by(pattern))
    path, kept = next((found for path in paths for found in _kept_runs(path)), (None, None))
    if path is None:
        return scores[0]
    options = {} if kept else saved_options(path)
    for score in scores:
        if score.task[0] in kept if kept else made_by(options, score):
            return score
    raise ConfigError(f"runs: {path} has no score: compare takes {listed(each.runs for each in scores)}")


def made_by(options: Tree, score: Score) -> bool:
    """Whether these are options of the trainer whose score it is."""
    return str(options.get("_target_")).startswith(f"{score.package}.")


def _named_by(pattern: str) -> list[Path]:
    """What a pattern names; as it is written, where that exists: `net[1]` is no pattern for `net1` then."""
    here = Path(pattern)
    return [here] if here.exists() else [Path(path) for path in sorted(glob.glob(pattern))] or [here]


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
    if not (score.task[0] in kept if kept else record and made_by(record.options, score)):
        raise ConfigError(
            f"runs: {path} does not belong to the {score.runs} before it: compare takes one trainer at a time"
        )
    options, summary = (record.options, record.summary) if record else ({}, kept or {})
    curves = record.curves if record else {}
    curve = next((curves[tag] for tag in score.curves if tag in curves), {})
    named = flat({key: value for key, value in options.items() if key not in FREE and key != "_target_"})
    value = next((summary[entry] for entry in score.entries if entry in summary), None)
    floor = summary.get(score.floor) if score.floor else None
    steps, seed = (summary.get(entry) for entry in (count_field(score.unit), "seed"))
    return SeedRun(
        path=path,
        pattern=pattern,
        seed=cast(int | None, options.get("seed", seed)),
        status=record.status if record else str(summary["status"]),
        task=", ".join(str(summary[entry]) for entry in score.task if summary.get(entry)),
        method=str(named.get(f"{score.method}._target_", home_of(path))).rsplit(".", 1)[-1],
        options={key: tuple(v) if isinstance(v, list) else v for key, v in named.items()},
        score=float(value) if isinstance(value, int | float) and not math.isnan(value) else None,
        floor=float(floor) if isinstance(floor, int | float) else None,
        steps=steps if isinstance(steps, int) else max(curve, default=None),
        curve={step: value for step, value in curve.items() if not math.isnan(value)},
        lost=sum(map(math.isnan, curve.values())),
    )


def _with_one_name(runs: Sequence[SeedRun], score: Score) -> list[SeedRun]:
    """Runs of one task under one name: what was stopped or killed cannot name all of it, or nothing."""
    keys = [_task_key(run, score) for run in runs]
    names: dict[tuple, str] = {}
    floors: dict[tuple, float | None] = {}
    for key, run in zip(keys, runs, strict=True):
        names[key] = max(names.get(key, ""), run.task, key=len)
        floors[key] = run.floor if floors.get(key) is None else floors[key]
    names = {key: name or _unnamed(key, score) for key, name in names.items()}
    alike = {key: [floors[other] for other in names if names[other] == name] for key, name in names.items()}
    names = {key: name + _floor_told(floors[key], alike[key]) for key, name in names.items()}
    return [replace(run, task=names[key]) for key, run in zip(keys, runs, strict=True)]


def _floor_told(own: float | None, others: Sequence[float | None]) -> str:
    """What real data score, where it tells tasks of one name apart: other data, or other numbers of them."""
    known = [other for other in others if other is not None]
    close = [other for other in known if own is not None and math.isclose(own, other, rel_tol=SAME_FLOOR)]
    return "" if own is None or len(close) == len(known) else f" (real {plain_number(min(close))})"


def _task_key(run: SeedRun, score: Score) -> tuple:
    """The options that make the task, with their values; its name, where only the summary was kept."""
    begins = tuple(f"{name}." for name in score.task_options)
    chosen = {k: v for k, v in run.options.items() if k in score.task_options or k.startswith(begins)}
    return tuple(sorted((key, str(value)) for key, value in chosen.items())) or (
        ("", f"{run.task} {home_of(run.path)}"),
    )


def _unnamed(key: tuple, score: Score) -> str:
    """A task that no summary names, by its options; of components by their classes."""
    own = {*score.task_options, *(f"{name}._target_" for name in score.task_options)}
    return ", ".join(shown_value(value) for name, value in key if name in own) or "unnamed"


def home_of(path: Path) -> Path:
    """The folder that holds the seeds."""
    return path.resolve().parent


def shown_value(value: object) -> str:
    """A class by its own name; a tuple as a list."""
    if isinstance(value, tuple):
        return "[" + ",".join(map(str, value)) + "]"
    text = "null" if value is None else str(value)
    return text.rsplit(".", 1)[-1] if isinstance(value, str) and text.count(".") > 1 else text
