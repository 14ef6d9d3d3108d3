"""What a replay has shown, in lines."""

import math
from collections.abc import Iterator, Sequence

from core.numbers import plain_number
from core.replay.origin import RECENT, Birth, earlier
from core.replay.ranges import Evaluation, Range, largest
from core.replay.replay import BEFORE, Replayed

CALLS = 8  # of modules, in the table


def lines(found: Replayed) -> Iterator[str]:
    """From where to where, whether it came out as it was, where the number was born, and what was before."""
    taken, shown = found.taken, found.shown
    if found.finding is not None:
        yield found.finding.line().partition("; try")[0]
    start = f"from {taken.start}, saved at {taken.begun:,}," if taken.start else "from the beginning"
    yield f"replayed {start} to {taken.step:,} {taken.unit}: {equality(found)}"
    yield from (f"the run said again: {line}" for line in taken.said)
    if taken.raised:
        yield f"the run ended again: {taken.raised}"
    yield f"{place(shown, taken.unit)}: {sentence(found.birth) if found.birth else 'all numbers are finite'}"
    if found.birth and found.birth.how == "update" and found.before:
        yield from moved(found.birth, found.before[-1], shown)
    if found.birth and found.birth.how == "leap":
        yield from leapt(found.birth, earlier(found.course, shown, RECENT), shown)
    if found.birth and found.lost and found.lost[0] is not shown:
        lost, birth = found.lost
        yield f"{place(lost, taken.unit)}: {sentence(birth)}"
    if len(found.before) < BEFORE:
        start = taken.start or "the beginning"
        count = len(found.before)
        yield f"there is {'one' if count == 1 else count or 'nothing'} before it since {start}"
    yield from table([*found.before, shown], found.birth)
    yield losses(shown)


def equality(found: Replayed) -> str:
    """Whether it came out as the run had logged and saved it."""
    taken, compared = found.taken, found.taken.compared
    if not compared.known:
        return "the run had logged and saved nothing in between to compare with"
    parts = []
    if compared.first is not None:
        step, tag = compared.first
        parts.append(f"NOT the run as it was: {tag} at {step:,} is another number")
        if taken.graphs:
            parts.append("and a compiled graph rounds otherwise than the modules that are called here")
    elif compared.points:
        parts.append(f"all {compared.points:,} values logged in between are equal to the bit")
    if compared.checkpoint:
        equal = "equal to the bit" if compared.equal else "NOT equal"
        parts.append(f"networks and optimizers are {equal} to {compared.checkpoint}")
    return ", ".join(parts)


def place(evaluation: Evaluation, unit: str) -> str:
    """Which evaluation it is, in words."""
    who = f"{evaluation.player}, " if evaluation.player else ""
    which = f", evaluation {evaluation.number}" if evaluation.number > 1 else ""
    return f"{who}{unit} {evaluation.step:,}, gradient step {evaluation.update}{which}"


def sentence(birth: Birth) -> str:
    """Where a number was born that should not be."""
    kind = f" ({birth.kind})" if birth.kind else ""
    operation = f", in {birth.operation}" if birth.operation else ""
    rows = _rows(birth)
    text = {
        "batch": f"born in the batch: {birth.name}{rows}",
        "forward": f"born forward, in {birth.name}{kind}{operation}{rows}",
        "loss": f"born in the loss: {birth.name}{operation}{rows}",
        "backward": f"born backward, in {birth.name}{kind}{operation}{rows}",
        "update": f"born in the update before: the parameters of {birth.name}{kind} have left their range",
        "leap": f"nothing is out of range; the update before has moved {birth.name}{kind} by far the most",
    }
    return text[birth.how]


def moved(birth: Birth, before: Evaluation, shown: Evaluation) -> Iterator[str]:
    """What an update has made of the parameters of a module."""
    own = next((c.own for c in shown.calls if c.name == birth.name), ())
    pairs = [(name, before.parameters.get(name), shown.parameters[name]) for name in own]
    for name, was, now in pairs:
        if was is not None:
            yield f"  {name}: the largest weight was {shown_number(was)}, and is {shown_number(now)}"


def leapt(birth: Birth, before: Sequence[Evaluation], shown: Evaluation) -> Iterator[str]:
    """By how much an update has moved the parameters of a module, and those before it."""
    own = next((c.own for c in shown.calls if c.name == birth.name), (birth.name,))
    for name in own:
        usual = max((e.moves.get(name, 0.0) for e in before), default=0.0)
        moved = shown_number(shown.moves.get(name, 0.0))
        yield f"  {name}: moved by {moved} at most, and by {shown_number(usual)} in the {len(before)} before"


def table(evaluations: Sequence[Evaluation], birth: Birth | None) -> Iterator[str]:
    """The largest magnitudes of outputs and gradients, a column for each evaluation; a part of a long one."""
    rows = measured(evaluations)
    names = [name for name, _ in rows]
    at = next((i for i, name in enumerate(names) if birth and name.split(" ")[-1] == birth.name), 0)
    first = max(0, min(at - CALLS // 2, len(rows) - CALLS))
    shown = rows[first : first + CALLS]
    if not shown:
        return
    width = max(len(name) for name, _ in shown)
    heads = [f"{e.step:,}.{e.update}" for e in evaluations]
    yield f"  {'largest magnitude at':<{max(width, 20)}}" + "".join(f"{head:>14}" for head in heads)
    for name, values in shown:
        yield f"  {name:<{max(width, 20)}}" + "".join(f"{value:>14}" for value in values)
    if len(rows) > len(shown):
        yield f"  ({len(rows) - len(shown)} more rows are on the page)"


def measured(evaluations: Sequence[Evaluation]) -> list[tuple[str, list[str]]]:
    """The rows of `table`: the modules of the last evaluation forward, its losses, the modules backward."""
    *_, last = evaluations
    rows: list[tuple[str, list[str]]] = []
    for call in last.calls:
        same = [next((c for c in e.calls if c.name == call.name), None) for e in evaluations]
        rows.append((f"output of {call.name}", [size(c.outputs if c else []) for c in same]))
    for name in last.losses:
        label = f"loss {name}" if name != "loss" else "loss"
        rows.append(
            (label, [shown_number(abs(e.losses[name])) if name in e.losses else "–" for e in evaluations])
        )
    for call in last.way_back:
        same = [next((c for c in e.way_back if c.name == call.name), None) for e in evaluations]
        rows.append((f"gradient at {call.name}", [size(c.into if c else []) for c in same]))
    return rows


def losses(evaluation: Evaluation) -> str:
    """Loss terms and the batch, in one line."""
    terms = ", ".join(f"{name} {shown_number(value)}" for name, value in evaluation.losses.items())
    batch = ", ".join(
        f"{name} {list(r.shape)} in {span(r)}" for name, r in evaluation.batch.items() if r.shape
    )
    return "; ".join(
        part for part in (f"loss: {terms}" if terms else "", f"batch: {batch}" if batch else "") if part
    )


def span(found: Range) -> str:
    """From the smallest to the largest number, and the share that is none."""
    if found.odd == 1:
        return "not finite"
    odd = f", {100 * found.odd:.3g} % not finite" if found.odd else ""
    return f"[{shown_number(found.low)}, {shown_number(found.high)}]{odd}"


def size(ranges: Sequence[Range]) -> str:
    """The largest magnitude of some tensors."""
    return shown_number(largest(ranges)) if ranges else "–"


def shown_number(value: float) -> str:
    """A number with few digits, or what it is not."""
    if not math.isfinite(value):
        return "not finite"
    value += 0.0  # of a negative zero, zero
    return plain_number(value) if abs(value) < 1e7 else f"{value:.3g}"


def _rows(birth: Birth) -> str:
    if not birth.rows or birth.of < 2:
        return ""
    named = ", ".join(map(str, birth.rows)) + (", …" if birth.num_rows > len(birth.rows) else "")
    return (
        f", row{'s' if birth.num_rows > 1 else ''} {named} of {birth.of}"
        if birth.num_rows < birth.of
        else (f", all {birth.of} rows")
    )
