"""Several runs in one picture and one table: figures over each other, numbers and options side by side."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from core.config import flat
from core.report import words
from core.report.figures import Figure
from core.report.html import table
from core.report.numbers import number, percent
from core.report.read import Record

NAMES = ("A", "B")  # of two runs; long names would not fit a legend
PLACES = (
    "logging",
    "num_threads",
    "pictures",
)  # options that change nothing of what is learnt
COLOURS = 4


def pair_figures(first: Sequence[Figure], second: Sequence[Figure]) -> list[Figure]:
    """The same charts of two runs, the second one's lines in long dashes; references only of the first."""
    other = {figure.title: figure for figure in second}
    own = {figure.title for figure in first}
    pairs = [_joined(figure, other.get(figure.title)) for figure in first]
    return pairs + [_joined(None, figure) for figure in second if figure.title not in own]


def family_figures(families: Sequence[Sequence[Figure]], names: Sequence[str]) -> list[Figure]:
    """Charts of many runs, a colour each: of every chart its main line, the first in colour 1, by name."""
    titles = dict.fromkeys(figure.title for figures in families for figure in figures)
    joined = []
    for title in titles:
        found = [(i, f) for i, figures in enumerate(families) for f in figures if f.title == title]
        series, mains = [], []
        for i, figure in found:
            main = next((line for line in figure.series if line.colour == 1), figure.series[0])
            mains += [main.label] if len(figure.series) > 1 else []
            look = {"colour": 1 + i % COLOURS, "second": i >= COLOURS}
            series.append(replace(main, label=names[i], deviation=None, dashed=False, **look))
        log = all(figure.log for _, figure in found)
        title = f"{title}: {mains[0]}" if mains else title
        joined.append(replace(found[0][1], title=title, series=tuple(series), log=log))
    return joined


def outcomes(first: Record, second: Record) -> str:
    """What both reached, and the difference."""
    here, there = ({fact.label: fact for fact in _facts(record)} for record in (first, second))
    lines = []
    for label in dict.fromkeys([*here, *there]):
        a, b = here.get(label), there.get(label)
        values = [fact.value if fact else "–" for fact in (a, b)]
        lines.append([label, *values, _difference(a and a.amount, b and b.amount)])
    return table(["", *NAMES, "B − A"], lines)


def options_table(records: Sequence[Record], names: Sequence[str]) -> str:
    """The options in which the runs differ, a row each; nothing where they do not."""
    trees = [_named(record) for record in records]
    keys = dict.fromkeys(key for tree in trees for key in tree)
    lines = []
    for key in keys:
        values = [tree.get(key, "–") for tree in trees]
        if len(set(values)) > 1:
            lines.append([key.removesuffix("._target_"), *values])
    return table(["option", *names], lines)


def family_table(records: Sequence[Record], names: Sequence[str]) -> str:
    """What each of many runs reached, a row each."""
    found = [{fact.label: fact.value for fact in words.reached(record)} for record in records]
    labels = list(dict.fromkeys(label for facts in found for label in facts))
    lines = [
        [name, words.STATUS.get(record.status, record.status), *(facts.get(label, "–") for label in labels)]
        for name, record, facts in zip(names, records, found, strict=True)
    ]
    return table(["run", "status", *labels], lines)


def _joined(first: Figure | None, second: Figure | None) -> Figure:
    series = [replace(line, label=f"A: {line.label}") for line in (first.series if first else ())]
    if second:
        lines = [line for line in second.series if not line.dashed or not first]
        series += [replace(s, label=f"B: {s.label}", second=True, deviation=None) for s in lines]
    figure = first or second
    assert figure is not None
    log = all(f.log for f in (first, second) if f)
    return replace(figure, series=tuple(series), log=log)


def _facts(record: Record) -> Iterable[words.Fact]:
    yield from words.reached(record)
    yield from words.speed(record)


def _difference(a: float | None, b: float | None) -> str:
    if a is None or b is None:
        return ""
    change = b - a
    sign = "+" if change > 0 else ""
    share = f" ({sign}{percent(change / abs(a)).replace('-', '−')})" if a else ""
    return f"{sign}{number(change)}{share}" if change else "none"


def _named(record: Record) -> dict[str, str]:
    """Options in words, by dotted name; a component by its class."""
    tree = {key: value for key, value in record.options.items() if key not in (*PLACES, "_target_")}
    return {
        key: str(value).rpartition(".")[2] if key.endswith("_target_") else str(value)
        for key, value in flat(tree).items()
    }
