"""One self-contained HTML page about a run: no script, no network, readable on a phone and on paper."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from core.checks import require
from core.report import figures, words
from core.report.curves import draw
from core.report.layers import LAYER_WORDS, layer_table
from core.report.numbers import number
from core.report.pictures import LAYER_PICTURES, picture
from core.report.read import Record, read_run
from core.run.files import write_text

COMMANDS = {"core": "descend"}  # where a package is not called by its own name


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Which run to write about.

    Attributes:
        run: its directory.
    """

    run: str | None

    def __post_init__(self) -> None:
        require(self.run is not None, "run", self.run, "a run directory")


def write_page(directory: Path) -> Path:
    """Write `report.html` into a run directory, of a finished run or one under way; returns its path.

    Raises:
        ConfigError: there is no run, or its files are damaged.
    """
    path = directory / "report.html"
    write_text(path, render(read_run(directory)))
    return path


def render(record: Record) -> str:
    """The page as one string."""
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    looks = "".join(picture(p) for name, p in record.media.items() if not name.endswith(LAYER_PICTURES))
    body = "".join(
        [
            _header(record),
            _section("What was reached", _facts(record) + _classes(record)),
            _section("The outcome", _charts(figures.outcome_figures(record), looks)),
            _section(
                "Gradients", _charts(figures.gradient_figures(record)), " ".join(words.gradients(record))
            ),
            _section("Layer by layer", _layers(record), LAYER_WORDS),
            _section("Losses", _charts(figures.loss_figures(record))),
            _section("What ran", _options(record)),
            _folded("All other curves", _charts(figures.other_figures(record))),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(words.title(record))} · gradsight</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def _header(record: Record) -> str:
    seed = record.options.get("seed")
    device = str(record.summary.get("device", ""))
    facts = [record.kind, f"seed {seed}" if seed is not None else "", device, record.started]
    line = " · ".join(escape(fact) for fact in facts if fact)
    status = escape(words.STATUS.get(record.status, record.status))
    return (
        '<header><p class="brand">gradsight <span>run report</span></p>\n'
        f"<h1>{escape(words.title(record))}</h1>\n"
        f'<p class="meta"><span class="status {escape(record.status)}">{status}</span> {line}</p>'
        f"{_incomplete(record)}</header>\n"
    )


def _incomplete(record: Record) -> str:
    """What a reader must know of a run that did not reach its end."""
    if record.status == "finished":
        return ""
    of = f" of {number(record.total)}" if record.total and record.step < record.total else ""
    why = "It was interrupted and left no summary. " if record.status == "unfinished" else ""
    then = f"Continue it with <code>resume={escape(str(record.directory))}</code>."
    if record.status == "running":
        then = "Write the report again when it is done."
    return (
        f'<p class="warning">{why}This run has come to {number(record.step)}{of} {escape(record.unit)}: '
        f"what follows is of that moment, not of its end. {then}</p>"
    )


def _facts(record: Record) -> str:
    cards = "".join(
        f'<div class="fact"><b>{escape(fact.value)}</b><span>{escape(fact.label)}</span>'
        f"<small>{escape(fact.note)}</small></div>\n"
        for fact in words.reached(record)
    )
    return f'<div class="facts">{cards}</div>'


def _classes(record: Record) -> str:
    counts = words.class_counts(record)
    if not counts:
        return ""
    top = max(*counts, 1)
    bars = "".join(
        f'<div><em>{count}</em><i style="height:{72 * count / top:.0f}px"></i><span>{label}</span></div>'
        for label, count in enumerate(counts)
    )
    heading = "Generated images in each class, as the classifier sees them"
    return f'<figure class="card classes"><h3>{heading}</h3><div>{bars}</div></figure>'


def _charts(shown: Sequence[figures.Figure], first: str = "") -> str:
    """Charts side by side, after the cards that are to come first."""
    cards = first + "".join(map(_chart, shown))
    return f'<div class="charts">{cards}</div>' if cards else ""


def _chart(figure: figures.Figure) -> str:
    svg = draw(figure.series, title=figure.title, log=figure.log)
    if not svg:
        return ""
    keys = "".join(
        f'<span class="key c{s.colour}{" dashed" if s.dashed else ""}">{escape(s.label)} '
        f"<b>{number([*s.points.values()][-1]) if s.points else ''}</b></span>"
        for s in figure.series
    )
    caption = f"<p>{escape(figure.caption)}</p>" if figure.caption else ""
    return (
        f'<figure class="card chart"><h3>{escape(figure.title)}</h3>{caption}'
        f'<div class="keys">{keys}</div>{svg}</figure>\n'
    )


def _layers(record: Record) -> str:
    tables = "".join(layer_table(player, record.layers(player)) for player in record.players)
    maps = sorted((name for name in record.media if name.endswith(LAYER_PICTURES)), reverse=True)
    cards = tables + "".join(picture(record.media[name]) for name in maps)
    return f'<div class="layers">{cards}</div>' if cards else ""


def _options(record: Record) -> str:
    command = shlex.join([COMMANDS.get(record.package, record.package), *record.words])
    every = _rows(list(_flat(record.options)))
    made_with = _rows(words.made_with(record)) or "<p>Known when the run ends.</p>"
    return (
        f'<p class="command"><code>{escape(command)}</code></p>'
        f'<div class="columns"><div class="card"><h3>Main options</h3>{_rows(words.chosen(record))}</div>'
        f'<div class="card"><h3>Made with</h3>{made_with}'
        f'<h3>Directory</h3><p class="path">{escape(str(record.directory.resolve()))}</p></div></div>'
        f'<details><summary>Every option</summary><div class="card">{every}</div></details>'
    )


def _flat(tree: Mapping[str, object], path: str = "") -> Iterator[tuple[str, str]]:
    """Options by dotted name."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", "null" if value is None else str(value)


def _rows(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in rows)
    return f"<dl>{cells}</dl>" if cells else ""


def _section(heading: str, content: str, lead: str = "") -> str:
    if not content:
        return ""
    lead = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f"<section><h2>{escape(heading)}</h2>{lead}\n{content}</section>\n"


def _folded(heading: str, content: str) -> str:
    return f"<details><summary>{escape(heading)}</summary>{content}</details>\n" if content else ""
