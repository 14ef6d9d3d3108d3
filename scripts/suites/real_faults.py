"""The field's real faults as small programs, watched by plain `core.Watch`: which of them are named.

A faulty program is *named* when a finding of severity warning or error has one of its right kinds, *on top*
when the first of them has. A fixed twin or a healthy loop raises a *false alarm* with any warning or error.
`calibration` are the programs that the rules were tuned on, `held_out` others that they were not.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from core.diagnosis import Finding
from core.numbers import number

from .programs import calibration, games, healthy, held_out
from .programs.loops import Case
from .table import chosen

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

SEEDS = (11, 12)
SETS = {"calibration": calibration.CASES, "held_out": held_out.CASES}
HEALTHY = healthy.LOOPS | games.LOOPS


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One program with one seed.

    Attributes:
        case: that it is of; None for a healthy loop.
        fault: whether it is the faulty one.
        alarms: findings of severity warning and error, in the order in which they stand.
        score: on the training data; None where there is none.
    """

    name: str
    seed: int
    case: Case | None
    fault: bool
    alarms: tuple[Finding, ...]
    score: float | None = None

    @property
    def right(self) -> Finding | None:
        """The first alarm with a right kind."""
        return next((f for f in self.alarms if self.case and set(f.kinds) & set(self.case.kinds)), None)

    @property
    def first(self) -> bool:
        """Whether the one on top has a right kind."""
        return bool(self.alarms) and self.alarms[0] is self.right

    @property
    def placed(self) -> bool | None:
        """Whether it names the layer; None where the fault has none, or is not named."""
        if self.case is None or not self.case.layer or self.right is None:
            return None
        return (self.right.layer or "").startswith(self.case.layer)


def run(cfg: "BenchConfig") -> None:
    """Run all programs, print a line for each, then the rates."""
    known = {case.name: (title, case) for title, cases in SETS.items() for case in cases}
    names = chosen(cfg.rows, known, HEALTHY)
    torch.set_num_threads(1)
    verdicts: dict[str, list[Verdict]] = {"calibration": [], "held_out": [], "healthy": []}
    for name in names:
        title = known[name][0] if name in known else "healthy"
        for verdict in judged(name, known[name][1] if name in known else None, cfg.folder):
            print(line(verdict), flush=True)
            verdicts[title].append(verdict)
    for title in SETS:
        print("\n".join(rates(title, verdicts[title])))
    print("\n".join(false_alarms([v for group in verdicts.values() for v in group if not v.fault])))


def judged(name: str, case: Case | None, folder: str | None) -> Iterator[Verdict]:
    """A case's faulty and fixed program with every seed; a healthy loop with one."""
    if case is None:
        seed = SEEDS[list(HEALTHY).index(name.removeprefix("healthy/")) % len(SEEDS)]
        found, _ = watched(name, None, False, seed, folder)
        yield Verdict(name=name, seed=seed, case=None, fault=False, alarms=found)
        return
    for fault in (True, False):
        for seed in SEEDS:
            found, score = watched(name, case, fault, seed, folder)
            yield Verdict(name=name, seed=seed, case=case, fault=fault, alarms=found, score=score)


def watched(
    name: str, case: Case | None, fault: bool, seed: int, folder: str | None
) -> tuple[tuple[Finding, ...], float | None]:
    """Run one program; its alarms and its score."""
    torch.manual_seed(seed)
    place = f"{name.replace('/', '_').replace(' ', '_')}-{'faulty' if fault else 'fixed'}-{seed}"
    directory = None if folder is None else str(Path(folder) / place)
    with redirect_stdout(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # [B, 1] against [B]: torch warns, too
        if case is None:
            found, score = HEALTHY[name.removeprefix("healthy/")](directory), None
        else:
            found, score = case.program(fault).run(directory)
    return tuple(f for f in found if f.severity != "note"), score


def line(v: Verdict) -> str:
    """One verdict in words."""
    found = ", ".join(_named(f) for f in v.alarms) or "quiet"
    what = "healthy" if v.case is None else "faulty" if v.fault else "fixed"
    said = "ALARM" if v.alarms else ""
    if v.fault:
        said = "named" if v.first else "below" if v.right else "MISSED"
    score = "" if v.score is None else f"score {number(v.score)}"
    return f"{v.name:<24} {what:<7} {v.seed}  {said:<6} {score:<13} {found}"


def _named(f: Finding) -> str:
    where = f" {f.layer}" if f.layer else ""
    return f"{f.name}{where} ({'/'.join(f.kinds) or '-'}) at {f.first_step}"


def rates(title: str, verdicts: Sequence[Verdict]) -> list[str]:
    """What was named of the faulty programs of one set."""
    faulty = [v for v in verdicts if v.fault]
    if not faulty:
        return []
    alarms = [f for v in faulty for f in v.alarms]
    kinds = sum(len(f.kinds) for f in alarms) / max(len(alarms), 1)
    detected, right, first = (
        sum(map(bool, found))
        for found in ([v.alarms for v in faulty], [v.right for v in faulty], [v.first for v in faulty])
    )
    placed = [v.placed for v in faulty if v.placed is not None]
    return [
        f"{title}: {len(faulty)} faulty programs: detected {_share(detected, len(faulty))}, right kind "
        f"{_share(right, len(faulty))}, on top {_share(first, len(faulty))}; "
        f"layer {sum(placed)} of {len(placed)}; {kinds:.1f} kinds a finding, "
        f"{len(alarms) / len(faulty):.1f} findings a program"
    ]


def false_alarms(sound: Sequence[Verdict]) -> list[str]:
    """How many fixed twins and healthy loops raised one."""
    groups = {"fixed twins": [v for v in sound if v.case], "healthy loops": [v for v in sound if not v.case]}
    return [
        f"false alarms, {title}: {_share(sum(bool(v.alarms) for v in group), len(group))}"
        for title, group in groups.items()
        if group
    ]


def _share(count: int, of: int) -> str:
    return f"{count} of {of} ({count / of:.0%})"
