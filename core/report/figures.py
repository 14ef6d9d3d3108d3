"""The charts of one run, of two, or of several, as curves ready to draw."""

import math
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from core.diagnosis.findings import Finding
from core.report.charts import CURVATURE, GRADIENTS, NOISE, Chart, Line
from core.report.curves import Series
from core.report.record import Curve, Record

COLOURS = 4  # of the style sheet
NAMED = 3  # layers in one chart
RARE = ("Clipped", "Skipped")  # left out where it never happened
CLIPPED = ", before clipping and (dotted) after it"


@dataclass(frozen=True)
class Figure:
    """A chart with its curves, and the tags that they have."""

    title: str
    caption: str
    series: tuple[Series, ...]
    log: bool = False
    tags: tuple[str, ...] = ()
    level: float | None = None

    @property
    def anchor(self) -> str:
        """Its id on the page."""
        return f"chart-{slug(self.title)}"


def slug(text: str) -> str:
    """A name that an address can end in."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def chart_figures(record: Record, charts: Iterable[Chart]) -> list[Figure]:
    """Charts of the whole run."""
    return [figure for chart in charts for figure in _figure(record, chart)]


def gradient_figures(record: Record, findings: Sequence[Finding] = ()) -> list[Figure]:
    """The gradients of all players, the layers with findings, and the charts of this kind of run."""
    figures = _player_figures(record, GRADIENTS)
    figures = [f for f in figures if f.title not in RARE or any(any(s.points.values()) for s in f.series)]
    if figures and figures[0].title == GRADIENTS[0].title:
        clipped = tuple(_after_clipping(record))
        caption = figures[0].caption.format(clipped=CLIPPED if clipped else "")
        figures[0] = replace(figures[0], caption=caption, series=figures[0].series + clipped)
    figures[1:1] = _layers_with_findings(record, findings)  # next to the norm of the whole gradient
    return figures + chart_figures(record, record.kind.gradients)


def noise_figures(record: Record) -> list[Figure]:
    """What single samples say about the gradient."""
    return _player_figures(record, NOISE)


def curvature_figures(record: Record) -> list[Figure]:
    """Second derivatives."""
    return _player_figures(record, CURVATURE)


def other_figures(record: Record) -> list[Figure]:
    """Every curve that no other chart shows, one by one; curves of single layers have their table."""
    kind = record.kind
    own = [*kind.outcome, *kind.gradients, *kind.losses, *(c for topic in kind.topics for c in topic.charts)]
    charted = {line.tag for chart in own for line in chart.lines}
    probed = {line.tag for chart in (*NOISE, *CURVATURE) for line in chart.lines}
    charted |= {_of(player, tag) for player in record.players for tag in probed}
    elsewhere = ("/layer/", "/gradient/", "/final/")
    rest = [
        tag for tag in sorted(record.curves)
        if tag not in charted and not any(part in f"/{tag}" for part in elsewhere)
    ]  # fmt: skip
    return [Figure(t, "", (Series(t.split("/")[-1], record.curves[t]),), tags=(t,)) for t in rest]


def pair_figures(first: Sequence[Figure], second: Sequence[Figure]) -> list[Figure]:
    """The same charts of two runs, the second run's lines in long dashes; references of the first only."""
    other = {figure.title: figure for figure in second}
    own = {figure.title for figure in first}
    pairs = [_joined(figure, other.get(figure.title)) for figure in first]
    return pairs + [_joined(None, figure) for figure in second if figure.title not in own]


def comparison_figures(runs: Sequence[Sequence[Figure]], names: Sequence[str]) -> list[Figure]:
    """Charts of several runs, a colour each: the main line of every chart, which is its first in colour 1."""
    titles = dict.fromkeys(figure.title for figures in runs for figure in figures)
    joined = []
    for title in titles:
        found = [(i, f) for i, figures in enumerate(runs) for f in figures if f.title == title]
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


def anchors(figures: Iterable[Figure]) -> dict[str, tuple[str, str]]:
    """{tag: (id, title)} of the first chart that shows a tag."""
    found: dict[str, tuple[str, str]] = {}
    for figure in figures:
        for tag in figure.tags:
            found.setdefault(tag, (figure.anchor, figure.title))
    return found


def concerns(finding: Finding, tag: str) -> bool:
    """Whether a curve shows what a finding is about: it is evidence, or a norm that contains the layer's."""
    player, rest = _player(tag)
    if player and finding.player and player != finding.player:
        return False
    if rest.startswith("layer/") and not rest.startswith(f"layer/{finding.layer}/"):
        return False
    if finding.layer and rest in ("gradient/norm", f"layer/{finding.layer}/gradient_norm"):
        return True
    return any(f"/{tag}".endswith(f"/{name}") for name in finding.evidence)


def _player_figures(record: Record, charts: Iterable[Chart]) -> list[Figure]:
    """A chart with one line shows all players; with several lines there is a chart for each player."""
    figures = []
    for chart in charts:
        if len(chart.lines) == 1:
            (line,) = chart.lines
            lines = [
                Line(player or line.label, _of(player, line.tag), record.colour(player))
                for player in record.players
            ]
            figures += _figure(record, replace(chart, lines=tuple(lines)))
            continue
        for player in record.players:
            lines = [replace(line, tag=_of(player, line.tag)) for line in chart.lines]
            title = f"{chart.title} ({player})" if player else chart.title
            figures += _figure(record, replace(chart, title=title, lines=tuple(lines)))
    return figures


def _figure(record: Record, chart: Chart) -> Iterator[Figure]:
    """The chart with its curves; nothing where it has none."""
    there = [line for line in chart.lines if record.curves.get(line.tag)]
    if there:
        series = tuple(_series(record.curves, line) for line in there)
        log = chart.log and not any(value < 0 for line in series for value in line.points.values())
        yield Figure(chart.title, chart.caption, series, log, tuple(line.tag for line in there), chart.level)


def _series(curves: Mapping[str, Curve], line: Line) -> Series:
    """A line with its points; the mean of several values has a band of their deviation."""
    band = curves.get(line.tag.replace("_mean", "_std")) if line.tag.endswith("_mean") else None
    return Series(line.label, curves[line.tag], line.colour, line.dashed, deviation=band)


def _layers_with_findings(record: Record, findings: Sequence[Finding]) -> Iterator[Figure]:
    """The gradient norms of the layers that findings are about."""
    for player in record.players:
        layers = dict.fromkeys(f.layer for f in findings if f.layer and f.player == player)
        curves = {name: _of(player, f"layer/{name}/gradient_norm") for name in layers}
        drawn = [(name, tag) for name, tag in curves.items() if tag in record.curves][:NAMED]
        series = [Series(name, record.curves[tag], 1 + i) for i, (name, tag) in enumerate(drawn)]
        if series:
            series.append(Series("median of all layers", _median_layer(record, player), 4, dashed=True))
            title = "Layers with findings" + (f" ({player})" if player else "")
            caption = "Length of the gradient of each of them, and of a typical layer. Logarithmic."
            yield Figure(title, caption, tuple(series), True, tuple(tag for _, tag in drawn))


def _median_layer(record: Record, player: str) -> Curve:
    """The median over the layers of their gradient norms, at every step."""
    values: dict[int, list[float]] = {}
    for tag, curve in record.curves.items():
        if tag.startswith(_of(player, "layer/")) and tag.endswith("/gradient_norm"):
            for step, value in curve.items():
                if math.isfinite(value):
                    values.setdefault(step, []).append(value)
    return {step: statistics.median(found) for step, found in sorted(values.items())}


def _after_clipping(record: Record) -> Iterator[Series]:
    """The norms after clipping, of those players whose gradients clipping changed at all."""
    for player in record.players:
        before, after = (
            record.curves.get(_of(player, f"gradient/{name}")) for name in ("norm", "norm_clipped")
        )
        if after and after != before:
            label = f"{player} after clipping".strip()
            yield Series(label, after, record.colour(player) if player else 2, dashed=True)


def _joined(first: Figure | None, second: Figure | None) -> Figure:
    series = [replace(line, label=f"A: {line.label}") for line in (first.series if first else ())]
    if second:
        lines = [line for line in second.series if not line.dashed or not first]
        series += [replace(s, label=f"B: {s.label}", second=True, deviation=None) for s in lines]
    figure = first or second
    assert figure is not None
    return replace(figure, series=tuple(series), log=all(f.log for f in (first, second) if f))


def _of(player: str, tag: str) -> str:
    """A player's tag."""
    return f"{player}/{tag}" if player else tag


def _player(tag: str) -> tuple[str, str]:
    """The player that a tag begins with, empty without one, and the rest of the tag."""
    measured = ("gradient", "layer", "noise", "curvature")  # what a player's name can precede
    first, _, rest = tag.partition("/")
    return (first, rest) if rest.split("/")[0] in measured and first not in measured else ("", tag)
