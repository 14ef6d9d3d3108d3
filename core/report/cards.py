"""The cards of a page, made from records."""

import base64
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from core.cli.follow_up import in_form
from core.diagnosis import remedies
from core.diagnosis.findings import SEVERITIES, Finding, is_sentence
from core.numbers import number
from core.report import facts
from core.report.curves import MARKS, Mark, draw
from core.report.figures import Figure, concerns
from core.report.layout import (
    Cell,
    ChartCard,
    Command,
    FindingCard,
    FindingCards,
    LayerTable,
    Pairs,
    PictureCard,
    RunCard,
)
from core.report.pictures import LANDSCAPE, MIME, caption_of, picture_size
from core.report.record import Record

Anchors = Mapping[str, tuple[str, str]]  # {tag: (id, title)} of charts on the same page


def charts(shown: Iterable[Figure], findings: Sequence[Finding] = (), end: int = 0) -> list[ChartCard]:
    """Charts as cards; those without a finite point are left out.

    Findings are marked on the charts that concern them. Every chart goes as far as the end of the run.
    """
    cards = []
    for figure in shown:
        left = (f for f in findings if not f.rolled_back)  # of the others, no curve has the points any more
        found = [f for f in left if any(concerns(f, tag) for tag in figure.tags)]
        marks = [Mark(f"{title_of(f)}: {f.what}", f.severity, f.first_step, f.last_step) for f in found]
        svg = draw(
            figure.series, title=figure.title, log=figure.log, level=figure.level, marks=marks, end=end
        )
        if svg:
            lasts = [number([*line.points.values()][-1]) if line.points else "" for line in figure.series]
            marked = [(title_of(f), f.severity) for f in found[:MARKS]]
            cards.append(ChartCard(figure, Markup(svg), lasts, marked))
    return cards


def picture(record: Record, name: str, run: str = "", path: Path | None = None) -> PictureCard:
    """One picture or video of a run, with what is known about it.

    The run has a name where there are several, the picture a path where it is not the run's own.
    """
    path = path or record.media[name]
    dark = path.parent / "dark" / path.name
    return PictureCard(
        uri=_data_uri(path),
        dark=_data_uri(dark) if dark.is_file() else "",
        size=picture_size(path.read_bytes()),
        caption=(f"Run {run}. " if run else "") + caption_of(name, record.kind.captions),
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
    """All findings of a run, or one sentence; where there are several runs, its name is the heading."""
    if record.findings is None:
        return FindingCards(run, (), "No diagnosis was made of this run.")
    if not record.findings:
        return FindingCards(run, (), "The diagnosis has no findings.")
    return FindingCards(run, [_finding_card(finding, record, anchors) for finding in record.findings])


def counted(findings: Sequence[Finding]) -> str:
    """How many findings there are of each severity: "1 error, 2 warnings"."""
    left = [f.severity for f in findings if not f.rolled_back]
    counts = [(left.count(s), s) for s in reversed(SEVERITIES)]
    return ", ".join(f"{n} {severity}{'s' if n > 1 else ''}" for n, severity in counts if n)


def title_of(finding: Finding) -> str:
    """The name of a finding as a heading."""
    named = finding.name.replace("_", " ").capitalize().replace(" kl", " KL")
    return f"{named}, rolled back" if finding.rolled_back else named


def command(record: Record, new: Sequence[str] = ()) -> Command | None:
    """The command that made a run, new overrides in place of those of the same options; None without one."""
    if record.kind.command is None:
        return None
    kept = remedies.kept(record.overrides, new)
    return Command([*shlex.split(record.command), *record.flags, *kept], new)


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
    """Facts about the landscape that belong to no picture."""
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
    advice = [text for text in finding.remedy if is_sentence(text)]
    return FindingCard(
        finding=finding,
        command=command(record, finding.remedy) if finding.remedy and not advice else None,
        advice=advice,
        left=min(100 * first / end, 100 - width),
        width=width,
        axis=f"{end:,} {record.unit}",
        evidence=[
            (_readable(name, anchors), number(None if math.isnan(v) else v))
            for name, v in finding.evidence.items()
        ],
        links=list(links),
        replay=_replay(record) if finding.severity == "error" else "",
    )


def _replay(record: Record) -> str:
    """The command that shows where an error was born; empty for a loop that nothing but itself can run."""
    if record.kind.command is None:
        return ""
    return in_form("replay", [str(record.directory)], record.command)


def _readable(name: str, anchors: Anchors) -> str:
    """What the chart of this quantity alone calls it; else the name itself."""
    charts = {chart for tag, chart in anchors.items() if f"/{tag}".endswith(f"/{name}")}
    alone = [
        c for c in charts if all(f"/{t}".endswith(f"/{name}") for t, other in anchors.items() if other == c)
    ]
    titles = {title for _, title in alone if "/" not in title}
    title = titles.pop() if len(titles) == 1 else name.replace("_", " ")
    return title if title[:2].isupper() else title[:1].lower() + title[1:]


def _data_uri(path: Path) -> str:
    return f"data:{MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


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


def _cell(value: float | None, scale: tuple[float, float]) -> Cell:
    return number(value), None if value is None or value <= 0 else bar_width(value, scale)
