"""One planned run: made valid, run, and run again without single overrides of it."""

import contextlib
import multiprocessing
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from core.cli.launch import status_of
from core.config import ConfigError
from tests.golden.run import digest, digests
from tests.pairs.space import Space, key

LIMIT = 240.0  # seconds of one run, after which it hangs; the first ones learn features too
MENDS = 12  # overrides taken back from a plan until it must be valid
IDLE = re.compile(r"^(.+) ha(?:s|ve) no effect here: |^(?:warning: )?(schedule): \w+ has no effect, ", re.M)


@dataclass
class Verdict:
    """What became of a plan.

    Attributes:
        overrides: that were run, sizes included.
        runs: how many were started, with those that were refused.
        refused: the line of each refusal.
        stopped: the line of an honest stop; empty where there was none.
        failures: what a reader has to look at, one text each.
        tried: overrides that were left out.
    """

    overrides: list[str]
    runs: int = 0
    finished: int = 0
    refused: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its status, what it printed, and digests of what it left, pictures too."""

    status: int | None
    output: str
    found: dict[str, dict[str, dict[str, str]]]


def try_plan(space: Space, plan: Sequence[str], place: Path, left_out: int) -> Verdict:
    """Run a plan, and `left_out` times without one of its overrides, the first ones first."""
    verdict = Verdict([])
    found = mended(space, list(plan), place, verdict)
    if found is None:
        return verdict
    overrides, ended = found
    idle = idle_words(ended.output, overrides)
    tried = [word for word in overrides if word not in idle and not is_late(space, word, verdict.overrides)]
    if idle:
        fewer = attempt(space, instead(space, verdict.overrides, idle), place, verdict)
        if fewer is not None and not same(ended, fewer, parameters=True):
            verdict.failures.append(f"said to have no effect: {idle}, and has: {' '.join(verdict.overrides)}")
    for override in tried:
        fewer = without(verdict.overrides, [override])
        if len(verdict.tried) == left_out or not chooses(space, override, fewer):
            continue
        verdict.tried.append(override)
        other = attempt(space, fewer, place, verdict)
        if other is not None and same(ended, other, parameters=False):
            verdict.silent.append(override)
    return verdict


def mended(
    space: Space, overrides: list[str], place: Path, verdict: Verdict
) -> tuple[list[str], Ended] | None:
    """The overrides without those that are refused, and how their run ended; None where it did not finish."""
    for _ in range(MENDS):
        before = len(verdict.refused)
        verdict.overrides = [*overrides, *space.sizes(overrides)]
        ended = attempt(space, verdict.overrides, place, verdict)
        if ended is not None:
            return overrides, ended
        if len(verdict.refused) == before:
            return None
        named = [w for w in overrides if re.search(rf"\b{re.escape(key(w))}\b", verdict.refused[-1])]
        overrides = without(overrides, named[-1:] or overrides[-max(1, len(overrides) // 4) :])
    verdict.failures.append(f"{verdict.refused[-1]} (nothing that was taken back helped)")
    return None


def without(overrides: Sequence[str], left_out: Sequence[str]) -> list[str]:
    """The overrides without these, and without the options of the parts that these choose."""
    keys = tuple(f"{key(override)}." for override in left_out)
    return [
        override for override in overrides if override not in left_out and not key(override).startswith(keys)
    ]


def instead(space: Space, overrides: Sequence[str], idle: Sequence[str]) -> list[str]:
    """The overrides without these; where one chooses a part that can be absent, it is, not the default."""
    absent = [f"{key(word)}=none" for word in idle if "none" in space.groups().get(key(word), ())]
    return [*without(overrides, idle), *absent]


def chooses(space: Space, override: str, others: Sequence[str]) -> bool:
    """Whether an override alone changes the options that these others stand for, and they go without it."""
    try:
        return space.tree([*others, override]) != space.tree(others)
    except ConfigError:
        return False


def is_late(space: Space, override: str, others: Sequence[str]) -> bool:
    """Whether an override's effect needs more steps than these runs have, beside these others."""
    return any(
        fnmatchcase(override, pattern) or fnmatchcase(key(override), pattern)
        for pattern, beside in space.facts["late"].items()
        if any(fnmatchcase(other, each) for other in others for each in beside)
    )


def attempt(space: Space, overrides: Sequence[str], place: Path, verdict: Verdict) -> Ended | None:
    """Run it in a process of its own; None unless it finished."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    child = multiprocessing.get_context("fork").Process(
        target=call, args=(space.program, list(overrides), place)
    )
    child.start()
    child.join(LIMIT)
    status = child.exitcode
    if child.is_alive():
        child.kill()
        child.join()
    output = (place / "log").read_text(errors="replace")
    verdict.runs += 1
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    honest = any(pattern in line for line in errors for pattern in space.facts["honest"]["lines"])
    if "Traceback" in output or status not in (0, 1, 2) or (status == 1 and not honest):
        kind = "hangs" if status is None else f"status {status}"
        shown = "\n".join(output.strip().splitlines()[-4:])
        verdict.failures.append(f"{kind}: {space.program} {' '.join(overrides)}\n{shown}")
    elif status == 1:
        verdict.stopped += errors[-1:]
    elif status == 2:
        verdict.refused += errors[-1:]
    else:
        verdict.finished += 1
        # Those in media/dark are the same once more.
        pictures = (path for path in sorted(place.glob("run/media/*")) if path.is_file())
        drawn = {path.name: digest(path.read_bytes()) for path in pictures}
        return Ended(status, output, digests(place / "run") | {"media": {"pictures": drawn}})
    return None


def call(program: str, overrides: list[str], place: Path) -> None:
    """The command, its output in a file."""
    with (place / "log").open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    with contextlib.chdir(place):
        status = status_of(program, [*overrides, "hydra.run.dir=run"])
    os._exit(status)


def idle_words(output: str, overrides: Sequence[str]) -> list[str]:
    """Those overrides of which the run said that they have no effect."""
    named = {key(name) for found in IDLE.findall(output) for name in "".join(found).split(" and ")}
    return [w for w in overrides if any(key(w) == name or key(w).startswith(f"{name}.") for name in named)]


def same(one: Ended, other: Ended, *, parameters: bool) -> bool:
    """Whether two runs left the same: every tensor and, unless `parameters`, all else too."""
    if not parameters:
        return one.found == other.found
    for directory, sections in one.found.items():
        there = other.found.get(directory, {}).get("parameters", {})
        mine = sections.get("parameters", {})
        shared = mine.keys() & there.keys()
        # An optimizer numbers its state by group, so that the numbers of the same run may differ.
        if any(mine[name] != there[name] for name in shared if "/optimizer/state/" not in name):
            return False
    return True
