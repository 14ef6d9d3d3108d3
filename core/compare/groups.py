"""Runs of several seeds, found in folders and grouped by what differs between them."""

import glob
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from core.config import ConfigError, Tree, flat
from core.report.read import read_run
from core.report.record import Curve
from core.run.directory import is_run

CURVE = "eval/return_mean"
# What does not change what is learnt: the seed is what a group goes over, the rest only measures or places.
FREE = ("seed", "device", "num_threads", "logging", "monitor", "probe")
FEW = 3  # options that a label can hold


@dataclass(frozen=True, kw_only=True)
class SeedRun:
    """One run of a reinforcement-learning agent.

    Attributes:
        path: its directory, or the summary that was kept of it.
        word: the folder or pattern that named it.
        seed: None where it is not known.
        status: finished, stopped, failed, running, or unfinished.
        env: the environment's id.
        options: by dotted name, `FREE` ones left out; empty where only the summary was kept.
        score: mean return of the final evaluation; None when it did not come to that.
        steps: environment steps taken.
        curve: evaluations during training, {step: mean return}; empty where only the summary was kept.
    """

    path: Path
    word: str
    seed: int | None
    status: str
    env: str
    options: dict[str, object]
    score: float | None
    steps: int | None
    curve: Curve


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs on one environment that differ in their seeds alone.

    Attributes:
        env: the environment's id.
        label: agent, and the options that tell it from the others on this environment.
        details: those options in full, where the label cannot hold them; else empty.
        runs: by seed.
    """

    env: str
    label: str
    details: str
    runs: tuple[SeedRun, ...]

    @property
    def scores(self) -> list[float]:
        """Final scores of the runs that have one."""
        return [run.score for run in self.runs if run.score is not None]


def find_runs(words: Sequence[str]) -> list[SeedRun]:
    """All runs that the words name, each once.

    Args:
        words: run directories, folders of them at any depth, kept summaries (.json), or patterns of these.

    Raises:
        ConfigError: a word names nothing, no run, one of another kind, or one that is damaged.
    """
    runs: dict[Path, SeedRun] = {}
    for word in words:
        paths = [Path(p) for p in sorted(glob.glob(word))] or [Path(word)]
        found = [run for path in paths for run in _runs_below(path, word)]
        if not found:
            missing = not any(path.exists() for path in paths)
            raise ConfigError(f"runs: {word} {'does not exist' if missing else 'holds no run'}")
        for run in found:
            runs.setdefault(run.path.resolve(), run)
    return list(runs.values())


def grouped(runs: Iterable[SeedRun]) -> list[Group]:
    """The groups, in order of their environments and of their runs."""
    by_key: dict[tuple, list[SeedRun]] = {}
    for run in runs:
        by_key.setdefault((run.env, *_key(run)), []).append(run)
    parts = [part for members in by_key.values() for part in _without_twins(members)]
    envs = list(dict.fromkeys(members[0].env for members in parts))
    return [group for env in envs for group in _labelled([p for p in parts if p[0].env == env])]


def _runs_below(path: Path, word: str) -> Iterator[SeedRun]:
    if path.is_file() and path.suffix == ".json":
        summary = _kept_summary(path)
        if summary is not None:
            yield _from_summary(path, word, summary)
    elif is_run(path):
        yield _from_directory(path, word)
    elif path.is_dir():
        for child in sorted(path.iterdir(), key=_natural):
            if not child.name.startswith("."):
                yield from _runs_below(child, word)


def _kept_summary(path: Path) -> dict[str, object] | None:
    """A run's summary; None for a file that is something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    return content if isinstance(content, dict) and "status" in content else None


def _from_summary(path: Path, word: str, summary: dict[str, object]) -> SeedRun:
    if "env" not in summary:
        raise ConfigError(f"{path} is no summary of train_rl: compare takes reinforcement-learning runs")
    return _run(path, word, str(summary["status"]), {}, summary, {})


def _from_directory(path: Path, word: str) -> SeedRun:
    record = read_run(path)
    if record.package != "gradrl":
        raise ConfigError(f"{path} holds no run of train_rl: compare takes reinforcement-learning runs")
    return _run(path, word, record.status, record.options, record.summary, record.curves.get(CURVE, {}))


def _run(
    path: Path, word: str, status: str, options: Tree, summary: dict[str, object], curve: Curve
) -> SeedRun:
    named = flat({key: value for key, value in options.items() if key not in FREE and key != "_target_"})
    score, steps, seed = summary.get("eval_return_mean"), summary.get("env_steps"), summary.get("seed")
    return SeedRun(
        path=path,
        word=word,
        seed=cast(int | None, options.get("seed", seed)),
        status=status,
        env=str(summary.get("env") or named.get("env.id")),
        options={key: tuple(v) if isinstance(v, list) else v for key, v in named.items()},
        score=float(score) if isinstance(score, int | float) else None,
        steps=steps if isinstance(steps, int) else max(curve, default=None),
        curve=curve,
    )


def _key(run: SeedRun) -> tuple:
    """What runs of one group have in common: their options, or where their summaries are kept."""
    if not run.options:
        return (str(_home(run)),)
    return tuple(sorted((key, str(value)) for key, value in run.options.items()))


def _without_twins(members: list[SeedRun]) -> list[list[SeedRun]]:
    """One group; where a seed is in it twice, from several words, one group a word: they are compared."""
    seeds = [run.seed for run in members if run.seed is not None]
    if len(seeds) == len(set(seeds)):
        return [members]
    return [[run for run in members if run.word == word] for word in dict.fromkeys(r.word for r in members)]


def _labelled(parts: list[list[SeedRun]]) -> list[Group]:
    """Groups on one environment, named by what tells them apart."""
    agents = [_agent(members[0]) for members in parts]
    groups = []
    for members, agent in zip(parts, agents, strict=True):
        alike = [other[0].options for other, name in zip(parts, agents, strict=True) if name == agent]
        differing = sorted({k for o in alike for k in o if len({str(a.get(k)) for a in alike}) > 1})
        words = [f"{_short(k)}={_value(members[0].options.get(k))}" for k in differing]
        home = _home(members[0]).name
        if not members[0].options:
            label, details = home, ""
        elif len(words) > FEW:
            label, details = f"{agent} ({home})", ", ".join(words)
        else:
            label, details = " ".join([agent, *words]), ""
        groups.append(Group(env=members[0].env, label=label, details=details, runs=_by_seed(members)))
    return _told_apart(groups)


def _told_apart(groups: list[Group]) -> list[Group]:
    """Groups whose labels are the same get what they were named by, then numbers."""
    for suffixes in ([group.runs[0].word for group in groups], range(1, len(groups) + 1)):
        labels = [group.label for group in groups]
        groups = [
            group if labels.count(group.label) == 1 else replace(group, label=f"{group.label} ({suffix})")
            for group, suffix in zip(groups, suffixes, strict=True)
        ]
    return groups


def _by_seed(members: list[SeedRun]) -> tuple[SeedRun, ...]:
    return tuple(sorted(members, key=lambda run: (run.seed is None, run.seed or 0)))


def _agent(run: SeedRun) -> str:
    """The agent's class, or where the summary of an unknown one is kept."""
    return str(run.options.get("agent._target_", _home(run))).rsplit(".", 1)[-1]


def _home(run: SeedRun) -> Path:
    """The folder that holds the seeds."""
    return run.path.resolve().parent


def _short(key: str) -> str:
    return key.removesuffix("._target_")


def _value(value: object) -> str:
    """A class by its own name; a tuple as a list."""
    if isinstance(value, tuple):
        return "[" + ",".join(map(str, value)) + "]"
    text = "null" if value is None else str(value)
    return text.rsplit(".", 1)[-1] if isinstance(value, str) and text.count(".") > 1 else text


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key in which seed10 comes after seed9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
