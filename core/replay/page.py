"""`replay.html`: one step of a run with everything that was measured of it, and the course that led there."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from core.replay.origin import Birth
from core.replay.ranges import Evaluation, Range, largest
from core.replay.replay import Replayed
from core.replay.told import equality, place, sentence, size, span
from core.report import cards
from core.report.curves import Series
from core.report.figures import Figure
from core.report.layout import Page, Section, Table
from core.report.page import render
from core.report.read import read_run
from core.report.record import Fact, KindOf, unknown
from core.report.single import origin
from core.run.files import write_text

NAME = "replay.html"
LINES = 4  # curves in one chart
HERE = "▶ "  # in front of the row where a number was born
WORDS = {
    "batch": "born in the batch",
    "forward": "born forward",
    "loss": "born in the loss",
    "backward": "born backward",
    "update": "born in the update before",
    "leap": "moved by far the most by the update before",
}


def write_page(found: Replayed, kind_of: KindOf = unknown) -> Path:
    """Write the page into the run's directory; where it is."""
    record = read_run(found.directory, kind_of)
    sections = [_answer(found), *_course(found), *_player(found, found.shown, found.birth)]
    for other in found.others:
        sections += _player(found, other, None)
    page = Page(
        brand="replay",
        title=f"{record.kind.title(record)} at {found.shown.step:,} {found.taken.unit}",
        origins=[origin(record)],
        notice="" if found.taken.compared.exact else f"This is {equality(found)}.",
        sections=sections,
    )
    path = found.directory / NAME
    write_text(path, render(page))
    return path


def _answer(found: Replayed) -> Section:
    """Where it began, in words and as facts."""
    taken, shown, birth = found.taken, found.shown, found.birth
    start = f"{taken.start}, saved at {taken.begun:,}" if taken.start else "the beginning of the run"
    said = [f"Replayed from {start}, to {taken.step:,} {taken.unit}: {equality(found)}."]
    if birth is not None:
        said.append(f"A number was {sentence(birth)}." if birth.how != "leap" else f"Here {sentence(birth)}.")
    if birth and found.lost and found.lost[0] is not shown:
        said.append(
            f"It was no longer finite at {place(found.lost[0], taken.unit)}: {sentence(found.lost[1])}."
        )
    facts = [Fact(f"{shown.step:,}", taken.unit, place(shown, taken.unit).partition(", ")[2])]
    if birth is None:
        facts.insert(0, Fact("finite", "all numbers", "of this step, forward and backward"))
    else:
        note = " · ".join(part for part in (birth.kind, birth.operation) if part)
        facts.insert(0, Fact(birth.name, WORDS[birth.how], note))
        if birth.rows and birth.of > 1:
            rows = ", ".join(map(str, birth.rows)) if birth.num_rows < birth.of else "all"
            facts.append(Fact(rows, "rows", f"{birth.num_rows:,} of {birth.of:,}"))
    return Section(heading="Where it began" if birth else "This step", lead=" ".join(said), facts=facts)


def _player(found: Replayed, shown: Evaluation, birth: Birth | None) -> Iterator[Section]:
    """All tables of one evaluation, with the largest magnitudes in those before it."""
    before = found.before if shown is found.shown else []
    whose = f" of the {shown.player}" if shown.player else ""
    heads = [f"{e.step:,}, step {e.update}" for e in before]

    def mark(name: str, *hows: str) -> str:
        return HERE + name if birth and birth.how in hows and birth.name == name.partition(" (")[0] else name

    def of_calls(get: Callable[[Evaluation, str], list[Range]], name: str) -> list[str]:
        return [size(get(e, name)) for e in before]

    def outputs(e: Evaluation, name: str) -> list[Range]:
        return next((c.outputs for c in e.calls if c.name == name), [])

    def into(e: Evaluation, name: str) -> list[Range]:
        return next((c.into for c in e.way_back if c.name == name), [])

    forward = [
        [
            mark(c.name, "forward", "update", "leap"),
            c.kind,
            _span(c.inputs),
            _span(c.outputs),
            *of_calls(outputs, c.name),
        ]
        for c in shown.calls
    ]
    backward = [
        [mark(c.name, "backward"), _span(c.into), _span(c.out_of), *of_calls(into, c.name)]
        for c in shown.way_back
    ]
    losses = [
        [mark(name, "loss"), size([Range(v, v, abs(v))]), *(size(_loss(e, name)) for e in before)]
        for name, v in shown.losses.items()
    ]
    gradients = [
        [name, span(r), _mean(r), f"{shown.parameters.get(name, 0.0):.4g}"]
        for name, r in shown.gradients.items()
    ]
    batch = [[mark(n, "batch"), str(list(r.shape)), span(r), _mean(r)] for n, r in shown.batch.items()]
    rows = [
        [f"row {row}", name, span(r), _mean(r)]
        for row, parts in shown.broken_rows.items()
        for name, r in parts.items()
    ]
    tables = {
        "Forward": (["module", "class", "input", "output", *heads], forward, FORWARD),
        "Losses": (["loss", "now", *heads], losses, ""),
        "Backward": (
            ["module", "gradient at its output", "gradient at its input", *heads],
            backward,
            BACKWARD,
        ),
        "Parameters": (["parameter", "gradient", "mean |gradient|", "largest |weight|"], gradients, ""),
        "Batch": (["tensor", "shape", "numbers", "mean magnitude"], batch, ""),
        "Rows": (["row", "tensor", "numbers", "mean magnitude"], rows, ""),
    }
    for heading, (head, table, lead) in tables.items():
        if table:
            yield Section(heading=heading + whose, lead=lead, table=Table(head, table))


FORWARD = (
    "Every module in the order in which they ended: the smallest and the largest finite number of its input "
    "and of its output, and the largest magnitude of the output in the gradient steps before."
)
BACKWARD = (
    "The same on the way back, from the loss to the input: the gradient that reached a module's output, and "
    "the one that it passed on."
)


def _course(found: Replayed) -> Iterator[Section]:
    """Curves of the evaluations of this player that are kept."""
    course = [e for e in found.course if e.player == found.shown.player]
    at = {id(e): i + 1 for i, e in enumerate(course)}
    last = at[id(found.shown)]
    end = f"Gradient steps of the replay; the one shown is number {last:,} of {len(course):,}."
    names = [c.name for c in found.shown.calls]
    near = _near(names, found.birth.name if found.birth else "")

    def figure(title: str, labels: Sequence[str], value: Callable[[Evaluation, str], float]) -> Figure:
        series = []
        for i, label in enumerate(labels[:LINES]):
            points = {at[id(e)]: value(e, label) for e in course}
            series.append(Series(label, points, 1 + i))
        return Figure(title, end, tuple(series), True)

    def output(e: Evaluation, name: str) -> float:
        return next((largest(c.outputs) for c in e.calls if c.name == name), float("nan"))

    def into(e: Evaluation, name: str) -> float:
        return next((largest(c.into) for c in e.way_back if c.name == name), float("nan"))

    def loss(e: Evaluation, name: str) -> float:
        return abs(e.losses.get(name, float("nan")))

    own = found.shown.gradients or found.shown.parameters
    weights = sorted(own, key=lambda name: -found.shown.parameters.get(name, 0.0))
    figures = [
        figure("Losses, magnitudes", list(found.shown.losses), loss),
        figure("Largest output of a module", near, output),
        figure("Largest gradient at a module", near, into),
        figure("Largest weight", weights, lambda e, name: e.parameters.get(name, float("nan"))),
    ]
    charts = cards.charts(figures)
    if charts:
        yield Section(heading="The course of ranges", lead=COURSE, charts=charts)


COURSE = (
    "Largest magnitudes, logarithmic; a gap is a number that is not finite. The modules are those around the "
    "place."
)


def _near(names: Sequence[str], name: str) -> list[str]:
    """The modules around a place in the order of the forward pass."""
    place = next((i for i, each in enumerate(names) if each.partition(" (")[0] == name), len(names) - 1)
    first = max(0, min(place - 1, len(names) - LINES))
    return list(names[first : first + LINES])


def _loss(evaluation: Evaluation, name: str) -> list[Range]:
    value = evaluation.losses.get(name)
    return [] if value is None else [Range(value, value, abs(value), float(value != value))]


def _mean(found: Range) -> str:
    return "–" if found.odd == 1 else f"{found.mean:.3g}"


def _span(ranges: Sequence[Range]) -> str:
    return "; ".join(map(span, ranges)) or "–"
