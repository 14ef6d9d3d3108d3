"""Replays a step of a run: which one, from where, and what is to be said of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

from annotated_types import Ge

from core.checks import checked, require
from core.cli.saved import first_options, saved_options
from core.config import ConfigError, Tree
from core.diagnosis.findings import Finding
from core.replay.again import NEVER, Taken, take
from core.replay.origin import OVERFLOW, Birth, earlier
from core.replay.ranges import Evaluation
from core.replay.saved import Saved, checkpoints
from core.report.read import read_findings
from core.run.diagnosis import EXPLODED
from core.run.directory import reached, read_summary, versions
from core.run.files import refuse_unwritable
from core.run.tensorboard import read_scalars

LOGGED = "time/steps_per_s"  # has a value at every logged point
BINDING = ("gradsight", "torch", "numpy", "gymnasium", "torchvision")  # other versions, other bits
BROKEN = ("non_finite", EXPLODED)  # findings about numbers, how severe they ever are
BEFORE = 3  # evaluations shown before the one in question


@dataclass(frozen=True, kw_only=True)
@checked
class ReplayConfig:
    """Which step of which run; conf/replay.yaml explains each option."""

    run: str | None
    step: Annotated[int | None, Ge(1)] = None

    def __post_init__(self) -> None:
        require(self.run is not None, "run", self.run, "a run directory: type run=DIR")


@dataclass(frozen=True)
class Replayed:
    """What a replay has shown.

    Attributes:
        directory: of the run.
        finding: the one that it was about; None for a step that was asked for.
        taken: the run, where it was taken to.
        shown: the evaluation in question: the one where a number was born, or the first one of the step.
        birth: where in it; None where nothing is out of order, and no update was much longer than others.
        lost: where a number first was not finite, and in which evaluation; it may be a later one.
        before: the evaluations of the same player before it, oldest first.
        course: all that is kept of what was around it, oldest first.
        others: the first evaluations of the other players in the same iteration.
    """

    directory: Path
    finding: Finding | None
    taken: Taken
    shown: Evaluation
    birth: Birth | None
    lost: tuple[Evaluation, Birth] | None
    before: list[Evaluation]
    course: list[Evaluation]
    others: list[Evaluation]


def replay(directory: Path, step: int | None = None) -> Replayed:
    """Take a run to a step again, and look at that step.

    Where no checkpoint lies in front of it, the run begins where it began: its options and its seed make the
    same run, which the curves show.

    Args:
        directory: of the run.
        step: x-axis value; None = the one where the first error of the run was born.

    Raises:
        ConfigError: one line: there is no such run or step; the run has no error and no step was named; it
            was made by other versions; it cannot be made again to the bit.
    """
    options = saved_options(directory)
    refuse_unwritable(directory / "replay.html")
    summary = read_summary(directory) or {}
    found = None if step is not None else first_error(directory)
    _refuse(directory, options, summary, found)
    saved = checkpoints(directory)
    curves, done = read_scalars(directory), cast(list[dict[str, Any]], summary.get("rollbacks") or [])
    end = max([reached(directory) or 0, *(each.step for each in saved), *map(max, curves.values())])
    if step is not None:
        if step > end:
            raise ConfigError(f"step={step} is beyond the run, which has reached {end}")
        way = sum(one["to"] < step for one in done)  # rollbacks before the step, on the way that counts
        starts = [each for each in saved if each.step < step and each.rollbacks == way]
        if way and not starts:
            raise ConfigError(f"step={step} of {directory} came after a rollback, and no checkpoint since")
        began = first_options(directory) if done and not starts else options
        return _at(directory, began, starts, step)
    if found is None and not done and summary.get("status") != "failed":
        raise ConfigError(f"{directory} has no error to replay: name a step of it, step=1 to {end}")
    if found is not None:
        starts = _before(curves, saved, found.first_step, len(done))
        if starts or not done:
            return _search(directory, options, starts, found.first_step, found)
    # The way that led to a rollback is no longer logged, but it begins where the run does.
    until = done[0]["step"] if done else end
    options, logged = (first_options(directory), done[0]["to"]) if done else (options, NEVER)
    back = next((f for f in read_findings(directory) or () if done and f.rolled_back), None)
    return _search(directory, options, _before(curves, saved, until, 0), until, back, logged)


def _before(
    curves: Mapping[str, Mapping[int, float]], saved: Sequence[Saved], until: int, rollbacks: int
) -> list[Saved]:
    """The checkpoints, one a step, in front of all that a point logged at `until` may be about."""
    born_after = max((step for step in curves.get(LOGGED, {}) if step < until), default=0)
    found = {each.step: each for each in saved if each.step <= born_after and each.rollbacks == rollbacks}
    return [*found.values()]


def first_error(directory: Path) -> Finding | None:
    """The error that was seen first; without one, what was not finite now and then, or exploded."""
    found = [f for f in read_findings(directory) or () if not f.rolled_back]
    errors = [f for f in found if f.severity == "error"] or [f for f in found if f.name in BROKEN]
    return min(errors, key=lambda f: f.first_step, default=None)


def _at(directory: Path, options: Tree, starts: list[Saved], step: int) -> Replayed:
    """The step that was asked for."""
    taken = take(directory, options, starts[-1] if starts else None, step, searching=False)
    ears = _heard(directory, taken, None)
    first = next(iter(ears.firsts.values()), None)
    if ears.lost and ears.lost[0].step == taken.step:
        return _replayed(directory, None, taken, *ears.lost)
    if first is None:
        raise ConfigError(
            f"no gradient was taken at step={step} of {directory}: "
            + (taken.raised or "experience was collected")
        )
    return _replayed(directory, None, taken, first, None)


def _search(
    directory: Path,
    options: Tree,
    starts: list[Saved],
    until: int,
    found: Finding | None,
    logged: int = NEVER,
) -> Replayed:
    """The step where a number was born, from the last checkpoint before it on, or from the beginning."""
    taken = take(directory, options, starts[-1] if starts else None, until, logged=logged)
    ears = taken.ears
    nothing = ears is not None and ears.lost is None and not any(u.since for u in ears.usual.values())
    another = not taken.compared.exact and not taken.graphs
    if starts and (ears is None or (nothing and another)):
        # What a checkpoint does not hold (a count in a class of one's own) is as it was only from there on.
        taken = take(directory, options, None, until, logged=logged)
    elif (
        len(starts) > 1
        and ears
        and ears.lost
        and not earlier(ears.course(ears.lost[0]), ears.lost[0], BEFORE)
    ):
        taken = take(directory, options, starts[-2], until, logged=logged)  # to see what was before it, too
    ears = _heard(directory, taken, found)
    player = found.player if found else ""
    outbreaks = [u.since for u in ears.usual.values() if u.since and (not ears.lost or u.times >= OVERFLOW)]
    if outbreaks:
        return _replayed(directory, found, taken, *min(outbreaks, key=lambda since: since[0].order))
    if ears.lost:
        return _replayed(directory, found, taken, *ears.lost)
    if leaps := [u.leap for u in ears.usual.values() if u.leap]:
        _, shown, birth = max(leaps, key=lambda leap: leap[0])
        return _replayed(directory, found, taken, shown, birth)
    first = ears.firsts.get(player) or next(iter(ears.firsts.values()), None)
    if first is None:
        what = taken.raised or (found.line() if found else "nothing was found")
        raise ConfigError(f"no gradient was taken near {until} of {directory}, so none went wrong: {what}")
    return _replayed(directory, found, taken, first, None)


def _replayed(
    directory: Path, found: Finding | None, taken: Taken, shown: Evaluation, birth: Birth | None
) -> Replayed:
    assert taken.ears is not None
    course = taken.ears.course(shown)
    others = [e for e in taken.ears.firsts.values() if e.player != shown.player and e.step == shown.step]
    before = earlier(course, shown, BEFORE)
    return Replayed(directory, found, taken, shown, birth, taken.ears.lost, before, course, others)


def _heard(directory: Path, taken: Taken, found: Finding | None):
    if taken.ears is None:
        known = f"; what the run itself had noted: {found.line()}" if found else ""
        raise ConfigError(f"{directory} cannot be replayed to the bit: {taken.lost_state}{known}")
    return taken.ears


def _refuse(directory: Path, options: Tree, summary: Mapping[str, object], found: Finding | None) -> None:
    """Refuse what cannot come again.

    Raises:
        ConfigError: a loop of somebody's own, several runs in one directory, or other versions.
    """
    known = f"; what it had noted: {found.line()}" if found else ""
    if str(options["_target_"]).startswith("core.watch."):
        raise ConfigError(
            f"{directory} holds a loop of your own, on whatever data and ranks: nothing but that runs it "
            f"again{known}"
        )
    several = next((name for name in ("optimizers", "batches") if options.get(name)), None)
    if several:
        names = ", ".join(options[several])
        raise ConfigError(f"{directory} holds several runs: name one of its folders, {names}")
    theirs, ours = summary.get("versions"), versions()
    if isinstance(theirs, dict):
        other = [
            f"{name} {theirs[name]} (here {ours.get(name, 'none')})"
            for name in BINDING
            if name in theirs and theirs[name] != ours.get(name)
        ]
        if other:
            raise ConfigError(
                f"{directory} was made with {', '.join(other)}: its steps would not come again{known}"
            )
