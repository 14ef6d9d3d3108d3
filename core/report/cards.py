"""A page as plain values: sections of cards, made from records. `page.html.jinja` lays them out."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from core.diagnosis.findings import SEVERITIES, Finding
from core.numbers import number
from core.report import facts
from core.report.curves import MARKS, Mark, Series, draw
from core.report.figures import Figure, concerns, slug
from core.report.pictures import LANDSCAPE, MIME, WIDE, caption_of, picture_size, shows_layers
from core.report.record import Bars, Fact, Record

SIGNS = {"error": "■", "warning": "▲", "note": "●"}  # told apart without colour
BAR_HEIGHT = 72  # pixels of the highest bar

Pairs = Sequence[tuple[str, str]]  # names and values
Anchors = Mapping[str, tuple[str, str]]  # {tag: (id, title)} of charts on the same page


@dataclass(frozen=True)
class Table:
    """Rows of cells below a head; the first cell names the row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class BarsCard:
    """Counts as bars: (count, height in pixels) of each class."""

    heading: str
    bars: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class ChartCard:
    """A chart: its SVG, its curves with their last values, and (title, severity) of findings marked on it."""

    figure: Figure
    svg: Markup
    keys: Sequence[tuple[Series, str]]
    marks: Pairs


@dataclass(frozen=True)
class PictureCard:
    """A picture as a data URI; `look` holds classes of the style sheet, `inverted` asks for a remark."""

    uri: str
    size: tuple[int, int]
    caption: str
    look: str
    inverted: bool
    facts: Pairs


@dataclass(frozen=True)
class LayerTable:
    """Rows (layer, gradient norm, update ratio); a cell is a text and a bar in percent, None for no bar."""

    title: str
    rows: Sequence[tuple[str, tuple[str, float | None], tuple[str, float | None]]]


@dataclass(frozen=True)
class Command:
    """A command to paste: the words that were typed, and those that are new."""

    kept: Sequence[str]
    new: Sequence[str] = ()


@dataclass(frozen=True)
class FindingCard:
    """A finding with its stretch of the x-axis in percent, its evidence, and the charts that show it."""

    finding: Finding
    sign: str
    title: str
    place: str
    what: str
    command: Command | None
    left: float
    width: float
    extent: str
    rest: str
    evidence: Pairs
    links: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class FindingCards:
    """All findings of one run; `quiet` is a sentence in place of cards."""

    run: str
    cards: Sequence[FindingCard]
    quiet: str = ""


@dataclass(frozen=True)
class RunCard:
    """How one run was made."""

    run: str
    command: Command
    main: Pairs
    made_with: Pairs
    directory: str
    every: Pairs


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page; whatever it has is laid out in the order of these fields.

    Attributes:
        heading: above it.
        lead: a paragraph below the heading.
        quiet: a sentence in place of what might be here.
        facts: big numbers.
        table: one table.
        bars: counts.
        findings: of each run.
        pictures: beside the charts.
        charts: charts.
        layers: tables of layers.
        wide_pictures: pictures that need half of the page.
        notes: (caption, names and values), a line each.
        runs: how each run was made.
        links: (address, text), or ("", command) where there is no page yet.
        folded: it opens on a click.
    """

    heading: str
    lead: str = ""
    quiet: str = ""
    facts: Sequence[Fact] = ()
    table: Table | None = None
    bars: Sequence[BarsCard] = ()
    findings: Sequence[FindingCards] = ()
    pictures: Sequence[PictureCard] = ()
    charts: Sequence[ChartCard] = ()
    layers: Sequence[LayerTable] = ()
    wide_pictures: Sequence[PictureCard] = ()
    notes: Sequence[tuple[str, Pairs]] = ()
    runs: Sequence[RunCard] = ()
    links: Sequence[tuple[str, str]] = ()
    folded: bool = False

    @property
    def anchor(self) -> str:
        """Its id on the page."""
        return slug(self.heading)

    @property
    def empty(self) -> bool:
        """Whether there is nothing but a heading and a lead."""
        return not any(
            value for name, value in vars(self).items() if name not in ("heading", "lead", "folded")
        )


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A line at the head of the page: the name of a run on the page, its status, what it is, where it is."""

    name: str = ""
    status: str
    known: str
    directory: str = ""
    second: bool = False


@dataclass(frozen=True, kw_only=True)
class Page:
    """The whole page.

    Attributes:
        title: of the window.
        brand: what kind of page it is.
        heading: at its top.
        origins: a line for each run, or for all of them.
        counted: how many findings there are.
        notice: what a reader has to know first.
        resume: the directory of a run that can be continued; the notice ends with how.
        sections: in order; empty ones are left out.
    """

    title: str
    brand: str
    heading: str
    origins: Sequence[Origin]
    counted: str = ""
    notice: str = ""
    resume: str = ""
    sections: Sequence[Section]


def bars(record: Record, run: str = "") -> list[BarsCard]:
    """The counts of a run, if its kind has any."""
    found: Bars | None = record.kind.bars(record)
    if found is None:
        return []
    heading = f"Run {run}: {found.heading[:1].lower()}{found.heading[1:]}" if run else found.heading
    top = max(*found.counts, 1)
    return [BarsCard(heading, [(count, round(BAR_HEIGHT * count / top)) for count in found.counts])]


def charts(shown: Iterable[Figure], findings: Sequence[Finding] = (), end: int = 0) -> list[ChartCard]:
    """Charts as cards; those without a finite point are left out.

    Args:
        shown: what to draw.
        findings: to be marked on the charts that concern them.
        end: of the run; every chart goes that far.
    """
    cards = []
    for figure in shown:
        found = [f for f in findings if any(concerns(f, tag) for tag in figure.tags)]
        marks = [Mark(f"{title_of(f)}: {f.what}", f.severity, f.first_step, f.last_step) for f in found]
        svg = draw(
            figure.series, title=figure.title, log=figure.log, level=figure.level, marks=marks, end=end
        )
        if svg:
            lasts = [number([*line.points.values()][-1]) if line.points else "" for line in figure.series]
            keys = [*zip(figure.series, lasts, strict=True)]
            cards.append(
                ChartCard(figure, Markup(svg), keys, [(title_of(f), f.severity) for f in found[:MARKS]])
            )
    return cards


def picture(record: Record, name: str, run: str = "", path: Path | None = None) -> PictureCard:
    """One picture or video of a run, with what is known about it.

    Args:
        record: the run, or one of several.
        name: of the picture.
        run: name of the run, where there are several.
        path: the file, if it is not the run's own.
    """
    path = path or record.media[name]
    data = path.read_bytes()
    width, height = picture_size(data)
    look = ["wide"] if height and width / height >= WIDE else []
    look = ["large"] if name.endswith("path") and not run else look  # fine lines, and labels on them
    photograph = name in record.kind.photographs(record)
    return PictureCard(
        uri=f"data:{MIME[path.suffix]};base64,{base64.b64encode(data).decode('ascii')}",
        size=(width, height),
        caption=(f"Run {run}. " if run else "") + caption_of(name, record.kind.captions),
        look=" ".join(["picture", *look, *([] if photograph else ["diagram"])]),
        inverted=not photograph and (shows_layers(name) or name.startswith(LANDSCAPE)),
        facts=_told(record.landscape.get(name.removeprefix(LANDSCAPE), {})),
    )


def layer_tables(record: Record, run: str = "") -> list[LayerTable]:
    """A table of the layers of each player."""
    tables = []
    for player in record.players:
        rows = record.layers(player)
        norms, ratios = _scale(row[1] for row in rows), _scale(row[2] for row in rows)
        title = " · ".join(part for part in (f"Run {run}" if run else "", player.capitalize()) if part)
        cells = [(name, _cell(norm, norms), _cell(ratio, ratios)) for name, norm, ratio in rows]
        tables += [LayerTable(title, cells)] if cells else []
    return tables


def bar_width(value: float, scale: tuple[float, float]) -> float:
    """Width of a bar in percent: 100 for the column's largest, 4 for its smallest, logarithmic between."""
    low, high = scale
    return 100.0 if high == low else 4 + 96 * (math.log10(value) - low) / (high - low)


def finding_cards(record: Record, anchors: Anchors, run: str = "") -> FindingCards:
    """All findings of a run, or one sentence.

    Args:
        record: the run.
        anchors: of the charts on this page.
        run: name of the run, where there are several; it stands above.
    """
    if record.findings is None:
        return FindingCards(run, (), "No diagnosis was made of this run.")
    if not record.findings:
        return FindingCards(run, (), "The diagnosis found nothing to remark.")
    return FindingCards(run, [_finding_card(finding, record, anchors) for finding in record.findings])


def counted(findings: Sequence[Finding]) -> str:
    """How many findings there are of each severity: "1 error, 2 warnings"."""
    counts = [(sum(f.severity == s for f in findings), s) for s in reversed(SEVERITIES)]
    return ", ".join(f"{n} {severity}{'s' if n > 1 else ''}" for n, severity in counts if n)


def title_of(finding: Finding) -> str:
    """The name of a finding in words."""
    return finding.name.replace("_", " ").capitalize().replace(" kl", " KL")


def command(record: Record, new: Sequence[str] = ()) -> Command:
    """The command that made a run; new words take the place of those with the same option."""
    changed = {_option(word) for word in new}
    kept = [word for word in record.overrides if _option(word) not in changed]
    return Command([record.kind.command or record.package, *kept], new)


def run_card(record: Record, run: str = "") -> RunCard:
    """The command, the options, and what the run was made with."""
    return RunCard(
        run=run,
        command=command(record),
        main=facts.main_options(record),
        made_with=facts.made_with(record),
        directory=str(record.directory.resolve()),
        every=facts.every_option(record),
    )


def landscape_notes(record: Record, run: str = "") -> list[tuple[str, Pairs]]:
    """Facts about the landscape that have no picture to stand below."""
    others = {
        tag: _told(facts) for tag, facts in record.landscape.items() if LANDSCAPE + tag not in record.media
    }
    name = f"Run {run}. " if run else ""
    return [(name + caption_of(tag), pairs) for tag, pairs in others.items() if pairs]


def _finding_card(finding: Finding, record: Record, anchors: Anchors) -> FindingCard:
    first, last = finding.first_step, finding.last_step
    end = max(record.total or 0, record.step, last, 1)
    width = max(100 * (last - first) / end, 1.5)
    links = dict.fromkeys(chart for tag, chart in anchors.items() if concerns(finding, tag))
    return FindingCard(
        finding=finding,
        sign=f"{SIGNS[finding.severity]} {finding.severity}",
        title=title_of(finding),
        place=" · ".join(part for part in (finding.player, finding.layer) if part),
        what=finding.what[:1].upper() + finding.what[1:],
        command=command(record, finding.remedy) if finding.remedy else None,
        left=min(100 * first / end, 100 - width),
        width=width,
        extent=f"at {first:,}" if first == last else f"{first:,} to {last:,}",
        rest=f"of {end:,} {record.unit}, {'still so at the last look' if finding.active else 'over'}",
        evidence=[(tag, number(None if math.isnan(v) else v)) for tag, v in finding.evidence.items()],
        links=list(links),
    )


def _told(named: Mapping[str, object]) -> list[tuple[str, str]]:
    """Names and values as text."""
    return [
        (name.replace("_", " "), number(value) if isinstance(value, int | float) else str(value))
        for name, value in named.items()
    ]


def _scale(values: Iterable[float | None]) -> tuple[float, float]:
    """Exponents of ten of the smallest and the largest positive value."""
    logs = [math.log10(v) for v in values if v is not None and v > 0]
    return (min(logs), max(logs)) if logs else (0.0, 0.0)


def _cell(value: float | None, scale: tuple[float, float]) -> tuple[str, float | None]:
    return number(value), None if value is None or value <= 0 else bar_width(value, scale)


def _option(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")
