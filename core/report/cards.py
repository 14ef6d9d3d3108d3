"""Numbers, charts and layers of a run as cards."""

from collections.abc import Mapping, Sequence
from html import escape

from core.report import words
from core.report.curves import MARKS, Mark, Series, draw
from core.report.figures import Figure
from core.report.findings import Finding
from core.report.layers import layer_table
from core.report.numbers import number
from core.report.pictures import GAME_PICTURES, LANDSCAPE, LAYER_PICTURES, caption_of, in_order, picture
from core.report.read import Record


def facts(record: Record) -> str:
    """The big numbers."""
    cards = "".join(
        f'<div class="fact"><b>{escape(fact.value)}</b><span>{escape(fact.label)}</span>'
        f"<small>{escape(fact.note)}</small></div>\n"
        for fact in words.reached(record)
    )
    return f'<div class="facts">{cards}</div>'


def classes(record: Record, name: str = "") -> str:
    """How many generated images fell into each class, as bars."""
    counts = words.class_counts(record)
    if not counts:
        return ""
    top = max(*counts, 1)
    bars = "".join(
        f'<div><em>{count}</em><i style="height:{72 * count / top:.0f}px"></i><span>{label}</span></div>'
        for label, count in enumerate(counts)
    )
    of = f"Run {escape(name)}: g" if name else "G"
    heading = f"{of}enerated images in each class, as the classifier sees them"
    return f'<figure class="card classes"><h3>{heading}</h3><div>{bars}</div></figure>'


def charts(shown: Sequence[Figure], first: str = "", findings: Sequence[Finding] = (), end: int = 0) -> str:
    """Charts side by side, after the cards that are to come first.

    Args:
        shown: what to draw.
        first: cards.
        findings: to be marked on the charts that concern them.
        end: of the run; every chart goes that far.
    """
    cards = first + "".join(
        chart(figure, [f for f in findings if any(map(f.concerns, figure.tags))], end) for figure in shown
    )
    return f'<div class="charts">{cards}</div>' if cards else ""


def chart(figure: Figure, findings: Sequence[Finding] = (), end: int = 0) -> str:
    """One chart with its caption and legend; nothing without a finite point."""
    marks = [Mark(f"{f.title}: {f.what}", f.severity, f.first_step, f.last_step) for f in findings]
    svg = draw(figure.series, title=figure.title, log=figure.log, level=figure.level, marks=marks, end=end)
    if not svg:
        return ""
    keys = "".join(map(_key, figure.series))
    keys += "".join(f'<span class="key mark {f.severity}">{escape(f.title)}</span>' for f in findings[:MARKS])
    caption = f"<p>{escape(figure.caption)}</p>" if figure.caption else ""
    return (
        f'<figure class="card chart" id="{figure.anchor}"><h3>{escape(figure.title)}</h3>{caption}'
        f'<div class="keys">{keys}</div>{svg}</figure>\n'
    )


def layers(record: Record, name: str = "") -> str:
    """Tables and heat maps of all layers."""
    tables = "".join(layer_table(player, record.layers(player), name) for player in record.players)
    maps = sorted((m for m in record.media if m.endswith(LAYER_PICTURES)), reverse=True)
    cards = tables + "".join(picture(record.media[m], m, name) for m in maps)
    return f'<div class="layers">{cards}</div>' if cards else ""


def looks(record: Record, name: str = "") -> str:
    """Samples, films and paths: every picture that has no section of its own."""
    elsewhere = (*LAYER_PICTURES, *GAME_PICTURES)
    own = [m for m in record.media if not m.endswith(elsewhere) and not m.startswith(LANDSCAPE)]
    plane = words.in_plane(record)
    return "".join(picture(record.media[m], m, name, in_plane=plane) for m in in_order(own))


def game(record: Record, name: str = "") -> str:
    """Pictures of two players together."""
    return "".join(picture(record.media[m], m, name) for m in GAME_PICTURES if m in record.media)


def landscape(record: Record, name: str = "") -> str:
    """Pictures of the landscape around the parameters, each with its facts; then facts without a picture."""
    shown = {m: m.removeprefix(LANDSCAPE) for m in record.media if m.startswith(LANDSCAPE)}
    pictures = "".join(
        picture(record.media[media], media, name, told(record.landscape.get(tag, {})))
        for media, tag in shown.items()
    )
    others = [(tag, told(facts)) for tag, facts in record.landscape.items() if tag not in shown.values()]
    lines = "".join(f"<p>{escape(caption_of(tag))} {facts}</p>" for tag, facts in others if facts)
    card = f'<div class="card facts-list">{lines}</div>' if lines else ""
    return (f'<div class="layers">{pictures}</div>' if pictures else "") + card


def told(facts: Mapping[str, object]) -> str:
    """Names and values in one line."""
    pairs = [(key.replace("_", " "), value) for key, value in facts.items()]
    return " · ".join(
        f"{escape(key)} <b>{escape(number(value) if isinstance(value, int | float) else str(value))}</b>"
        for key, value in pairs
    )


def _key(line: Series) -> str:
    style = (" dashed" if line.dashed else "") + (" second" if line.second else "")
    last = number([*line.points.values()][-1]) if line.points else ""
    return f'<span class="key c{line.colour}{style}">{escape(line.label)} <b>{last}</b></span>'
