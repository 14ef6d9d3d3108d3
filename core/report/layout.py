"""A page as plain values: sections of cards. `page.html.jinja` lays them out."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from core.diagnosis.findings import Finding
from core.report.figures import Figure, slug
from core.report.record import Bars, Fact

Pairs = Sequence[tuple[str, str]]  # names and values
Cell = tuple[str, float | None]  # a number, and its bar in percent; None for no bar


@dataclass(frozen=True)
class Table:
    """Rows of cells below a head; the first cell names the row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class ChartCard:
    """A chart as SVG, the last value of each curve, and (title, severity) of the findings marked on it."""

    figure: Figure
    svg: Markup
    lasts: Sequence[str]
    marks: Pairs


@dataclass(frozen=True)
class PictureCard:
    """A picture as a data URI, and as rendered for a dark page; empty where one serves both."""

    uri: str
    dark: str
    size: tuple[int, int]
    caption: str
    facts: Pairs


@dataclass(frozen=True)
class LayerTable:
    """Rows of (layer, gradient norm, update ratio)."""

    title: str
    rows: Sequence[tuple[str, Cell, Cell]]


@dataclass(frozen=True)
class Command:
    """A command to paste: its name and the overrides that were typed, and those that are new."""

    kept: Sequence[str]
    new: Sequence[str] = ()


@dataclass(frozen=True)
class FindingCard:
    """A finding with its remedy, its stretch of the x-axis in percent, its evidence, and its charts.

    An error has the command that shows where it was born.
    """

    finding: Finding
    command: Command | None
    advice: Sequence[str]
    left: float
    width: float
    axis: str
    evidence: Pairs
    links: Sequence[tuple[str, str]]
    replay: str = ""


@dataclass(frozen=True)
class FindingCards:
    """All findings of one run; `quiet` is a sentence in place of cards."""

    run: str
    cards: Sequence[FindingCard]
    quiet: str = ""


@dataclass(frozen=True)
class RunCard:
    """How one run was made: its command, its main options, versions, directory, and every option."""

    run: str
    command: Command | None
    main: Pairs
    made_with: Pairs
    directory: str
    every: Pairs


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page. What it has is laid out in the order of these fields; without any it is left out.

    Attributes:
        heading: above it.
        lead: a paragraph below the heading.
        folded: it opens on a click.
        quiet: a sentence in place of what might be here.
        facts: big numbers.
        table: one table.
        bars: (name of the run, counts).
        findings: of each run.
        pictures: two columns of them above the charts.
        charts: charts.
        layers: tables of layers.
        layer_pictures: in one grid with the tables.
        notes: (caption, names and values), a line each.
        runs: how each run was made.
        links: (address, text), or ("", command) where there is no page yet.
    """

    heading: str
    lead: str = ""
    folded: bool = False
    quiet: str = ""
    facts: Sequence[Fact] = ()
    table: Table | None = None
    bars: Sequence[tuple[str, Bars]] = ()
    findings: Sequence[FindingCards] = ()
    pictures: Sequence[PictureCard] = ()
    charts: Sequence[ChartCard] = ()
    layers: Sequence[LayerTable] = ()
    layer_pictures: Sequence[PictureCard] = ()
    notes: Sequence[tuple[str, Pairs]] = ()
    runs: Sequence[RunCard] = ()
    links: Sequence[tuple[str, str]] = ()

    @property
    def anchor(self) -> str:
        """Its id on the page."""
        return slug(self.heading)

    @property
    def empty(self) -> bool:
        """Whether there is nothing but a heading and a lead."""
        return not any(v for name, v in vars(self).items() if name not in ("heading", "lead", "folded"))


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
        brand: what kind of page it is.
        title: of the window, and above the page.
        origins: a line for each run, or for all of them.
        counted: how many findings there are.
        notice: what a reader has to know first.
        resume: the override that continues the run; the notice ends with it.
        sections: in order.
    """

    brand: str
    title: str
    origins: Sequence[Origin]
    counted: str = ""
    notice: str = ""
    resume: str = ""
    sections: Sequence[Section]
