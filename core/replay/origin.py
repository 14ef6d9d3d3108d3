"""Where numbers left their range first, read from what was measured: evaluation by evaluation, in order.

Two questions with one answer each. Of numbers that are not finite: the first tensor, in the order in which
they came about, whose own inputs were finite. Of numbers that exploded: the same, with "as large as usual" in
place of "finite", in the first evaluation of an unbroken row of them.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from core.replay.ranges import Call, Evaluation, largest

How = Literal["batch", "forward", "loss", "backward", "update", "leap"]
Key = tuple[str, str]  # kind and name of what is measured
Odd = Callable[[Key, float], bool]

FACTOR = 100.0  # times the largest usual magnitude: out of range
OWN = 10.0  # times it, of the parameters of a module in front of what is out of range: an update did it
JUMP = 1.5  # times what they were at the evaluation before: the same, at once
OVERFLOW = 1e4  # times it, before or where a number is not finite: that is how it came about
LEAP = 10.0  # times as far as in any of the last updates
RECENT = 20  # evaluations whose updates are the last ones
BEGINNING = 20  # evaluations whose largest magnitudes are the usual ones, at most


@dataclass(frozen=True)
class Birth:
    """Where a number was born that should not be.

    Attributes:
        how: "batch" (a tensor that the loss reads), "forward" (a module whose inputs are in order and whose
            output is not), "loss" (all outputs are in order, the loss or its gradient is not), "backward" (a
            module that was reached by a gradient in order and passed on one that is not), "update" (the
            parameters of a module, by the step before), "leap" (nothing is out of range: the step before has
            moved the parameters of a module much farther than those before it).
        name: of the module, of the tensor, or of the loss.
        kind: class of the module.
        operation: of torch, where it can be said.
        rows: along the first dimension of the tensor, where the numbers are; the first ones.
        num_rows: how many there are.
        of: how many rows the tensor has.
    """

    how: How
    name: str
    kind: str = ""
    operation: str = ""
    rows: tuple[int, ...] = ()
    num_rows: int = 0
    of: int = 0


def sizes(evaluation: Evaluation) -> Iterator[tuple[Key, float]]:
    """The largest magnitude of all that was measured, in the order in which it came about."""
    yield from ((("batch", name), r.largest) for name, r in evaluation.batch.items())
    for call in evaluation.calls:
        yield ("input", call.name), largest(call.inputs)
        yield ("output", call.name), largest(call.outputs)
    yield from ((("loss", name), _magnitude(value)) for name, value in evaluation.losses.items())
    for call in evaluation.way_back:
        yield ("into", call.name), largest(call.into)
        yield ("out of", call.name), largest(call.out_of)
    yield from ((("gradient", name), r.largest) for name, r in evaluation.gradients.items())


class Weights:
    """How large the parameters of all players are: usually, and at the evaluation before."""

    def __init__(self) -> None:
        self._usual: dict[str, _First] = {}
        self._last: Mapping[str, float] = {}
        self._moves: dict[str, deque[float]] = {}

    def add(self, evaluation: Evaluation) -> None:
        """Take in the next evaluation, whosever it is."""
        for name, size in evaluation.parameters.items():
            self._usual.setdefault(name, _First()).add(size)
        for name, size in evaluation.moves.items():
            self._moves.setdefault(name, deque(maxlen=RECENT)).append(size)
        self._last = evaluation.parameters

    def grown(self, evaluation: Evaluation, names: Iterable[str]) -> tuple[float, float]:
        """By which factors some parameters, taken together, exceed their last and their usual magnitude."""
        names = list(names)
        now = max((evaluation.parameters.get(name, 0.0) for name in names), default=0.0)
        last = max((self._last.get(name, 0.0) for name in names), default=0.0)
        usual = max((self._usual[name].largest for name in names if name in self._usual), default=0.0)
        return now / last if last else 1.0, now / usual if usual else 1.0

    def leap(self, evaluation: Evaluation, names: Iterable[str]) -> float:
        """How many times as far some parameters have moved as in any of the last updates; 1 = not known."""
        before = [moves for name in names if len(moves := self._moves.get(name, ())) == RECENT]
        now = max((evaluation.moves.get(name, 0.0) for name in names), default=0.0)
        farthest = max((max(moves) for moves in before), default=0.0)
        return now / farthest if farthest else 1.0


class _First:
    """The first magnitudes of a quantity, of which the largest is the usual one."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._seen = 0

    @property
    def largest(self) -> float:
        """Of a part of them that grows with what has been seen; 0 where nothing is known."""
        return max(self._values[: max(1, min(BEGINNING, self._seen // 2))], default=0.0)

    def add(self, size: float) -> None:
        """The next magnitude."""
        self._seen += 1
        if len(self._values) < BEGINNING and math.isfinite(size):
            self._values.append(size)


class Usual:
    """How large each quantity of a player usually is, from the first evaluations, and since when it is not.

    Args:
        weights: of all players; whoever adds an evaluation here adds it there afterwards.

    Attributes:
        since: the first evaluation of an unbroken row of them with a magnitude out of range, and where in it;
            None while there is none.
        times: the largest factor in that row by which a usual magnitude was exceeded.
        leap: the largest factor by which an update has moved a module farther than those before it, the
            evaluation that met it, and which module; None while none was `LEAP`.
    """

    def __init__(self, weights: Weights) -> None:
        self._first: dict[Key, _First] = {}
        self._harmless: set[Key] = set()  # not finite in evaluations whose loss and gradient are
        self._weights = weights
        self.since: tuple[Evaluation, Birth] | None = None
        self.times = 1.0
        self.leap: tuple[float, Evaluation, Birth] | None = None

    def add(self, evaluation: Evaluation) -> None:
        """Take in the next evaluation, whose loss and gradient are finite."""
        found = dict(sizes(evaluation))
        self._harmless |= {key for key, size in found.items() if not math.isfinite(size)}
        worst = max((self._times(key, size) for key, size in found.items() if key[0] != "batch"), default=1.0)
        moved = self._moved(evaluation, FACTOR, FACTOR)
        if worst < FACTOR and moved is None:
            self.since, self.times = None, 1.0
        else:
            place = moved or place_of(evaluation, self.exploded)
            if self.since is None and place is not None:
                self.since = evaluation, self._cause(evaluation, place)
            self.times = max(self.times, worst, OVERFLOW if moved else 1.0)
        for key, size in found.items():
            self._first.setdefault(key, _First()).add(size)
        leaps = [(self._weights.leap(evaluation, own), name, kind) for name, kind, own in _owners(evaluation)]
        times, name, kind = max(leaps, key=lambda leap: leap[0], default=(1.0, "", ""))
        if times >= max(LEAP, self.leap[0] if self.leap else 0.0):
            self.leap = times, evaluation, Birth("leap", name, kind)

    def lose(self, evaluation: Evaluation) -> None:
        """Take in the first evaluation that is not finite; was anything out of range before that?"""
        if self.times < OVERFLOW:
            place = self._moved(evaluation, FACTOR, FACTOR) or place_of(evaluation, self._outgrown)
            self.since = (evaluation, self._cause(evaluation, place)) if place else None
            self.times = OVERFLOW if place else 1.0

    def born(self, evaluation: Evaluation) -> Birth | None:
        """Where a number of an evaluation first is not finite; None where all that count are."""
        return place_of(evaluation, lambda key, size: not math.isfinite(size) and key not in self._harmless)

    def exploded(self, key: Key, size: float) -> bool:
        """Whether a magnitude is out of range."""
        return self._times(key, size) >= FACTOR

    def _outgrown(self, key: Key, size: float) -> bool:
        return math.isfinite(size) and self._times(key, size) >= OVERFLOW

    def _cause(self, evaluation: Evaluation, place: Birth) -> Birth:
        """The place, or the first module in front of it whose parameters an update has moved out of range."""
        if place.how not in ("forward", "loss"):
            return place
        end = place.name if place.how == "forward" else ""
        return self._moved(evaluation, JUMP, OWN, end) or place

    def _moved(self, evaluation: Evaluation, jump: float, own: float, end: str = "") -> Birth | None:
        """The first module, as far as a named one, whose parameters exceed their last or usual magnitude.

        Args:
            evaluation: to look through.
            jump: by this factor the last one.
            own: by this factor the usual one.
            end: name of the last module to look at; empty = all.
        """
        for name, kind, names in _owners(evaluation):
            last, usual = self._weights.grown(evaluation, names)
            if last >= jump or usual >= own:
                return Birth("update", name, kind)
            if name == end:
                return None
        return None

    def _times(self, key: Key, size: float) -> float:
        """By which factor a magnitude exceeds the usual one; 1 where that is not known, or zero."""
        usual = self._first[key].largest if key in self._first and key not in self._harmless else 0.0
        return size / usual if usual > 0 else 1.0


def _owners(evaluation: Evaluation) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Name, class and own parameters of each module in the order of the calls; a function has none."""
    yield from ((call.name, call.kind, call.own) for call in evaluation.calls)
    if not evaluation.calls:
        yield from ((name, "", (name,)) for name in evaluation.parameters)


def place_of(evaluation: Evaluation, odd: Odd) -> Birth | None:
    """The first of all that was measured in an evaluation that is out of order.

    Args:
        evaluation: to look through: batch, modules forward, losses, modules backward, parameters.
        odd: whether a magnitude is out of order.
    """
    for name, found in evaluation.batch.items():
        if odd(("batch", name), found.largest):
            rows = found.shape[0] if found.shape else 0
            return Birth("batch", name, rows=found.rows, num_rows=found.num_rows, of=rows)
    for call in evaluation.calls:
        fed = odd(("input", call.name), largest(call.inputs))
        if not fed and odd(("output", call.name), largest(call.outputs)):
            return _of_call("forward", call)
    for name, value in evaluation.losses.items():
        if odd(("loss", name), _magnitude(value)):
            return Birth("loss", name)
    if evaluation.error:
        return Birth("loss", "value")
    for place, call in enumerate(evaluation.way_back):
        if odd(("into", call.name), largest(call.into)):
            return _of_call("backward", call) if place else Birth("loss", "gradient")
        own = any(
            odd(("gradient", name), evaluation.gradients[name].largest)
            for name in call.own
            if name in evaluation.gradients
        )
        if own or odd(("out of", call.name), largest(call.out_of)):
            return _of_call("backward", call)
    for name, found in evaluation.gradients.items():
        if odd(("gradient", name), found.largest):
            return Birth("backward", name.rpartition(".")[0] or name)
    return None


def _of_call(how: How, call: Call) -> Birth:
    """A module, with the rows of its tensors that hold the numbers."""
    shown = call.outputs if how != "backward" else [*call.out_of, *call.into]
    found = next((r for r in shown if r.rows), None)
    if found is None:
        return Birth(how, call.name, call.kind)
    return Birth(how, call.name, call.kind, "", found.rows, found.num_rows, found.shape[0])


def _magnitude(value: float) -> float:
    return math.inf if math.isnan(value) else abs(value)


def earlier(evaluations: Iterable[Evaluation], of: Evaluation, count: int) -> list[Evaluation]:
    """The last evaluations of the same player before one, oldest first."""
    before = []
    for evaluation in evaluations:
        if evaluation is of:
            break
        if evaluation.player == of.player:
            before.append(evaluation)
    return before[-count:] if count else []
