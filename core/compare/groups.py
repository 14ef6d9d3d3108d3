"""Runs of several seeds, grouped by the options in which they differ."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from core.compare.find import SeedRun, home_of, shown_value
from core.config import Tree

FEW = 3  # options that a label can hold


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


def grouped(runs: Iterable[SeedRun]) -> list[SeedGroup]:
    """The groups, in order of their tasks and of their runs."""
    by_key: dict[tuple, list[SeedRun]] = {}
    for run in runs:
        by_key.setdefault((run.task, *_key(run)), []).append(run)
    parts = [part for members in by_key.values() for part in _without_twins(members)]
    tasks = list(dict.fromkeys(members[0].task for members in parts))
    return [group for task in tasks for group in _labelled([p for p in parts if p[0].task == task])]


def _key(run: SeedRun) -> tuple:
    """What runs of one group have in common: their options, or where their summaries are kept."""
    if not run.options:
        return (str(home_of(run.path)),)
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
        named = [f"{k.removesuffix('._target_')}={shown_value(members[0].options.get(k))}" for k in differing]
        home = home_of(members[0].path).name
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
