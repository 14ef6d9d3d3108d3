"""The page about one run, from its record: the parts in order, and those that other pages share."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from html import escape

from core.report import cards, figures, words
from core.report.commands import command
from core.report.finding_cards import counted, finding_cards
from core.report.html import document, folded, rows, section
from core.report.layers import LAYER_WORDS
from core.report.numbers import number
from core.report.read import Record


def render(record: Record) -> str:
    """The page as one string."""
    found = record.findings or ()
    outcome, gradients = figures.outcome_figures(record), figures.gradient_figures(record, found)
    noise, curvature = figures.noise_figures(record), figures.curvature_figures(record)
    game = figures.game_figures(record)
    losses, others = figures.loss_figures(record), figures.other_figures(record)
    links = charted([*outcome, *gradients, *game, *noise, *curvature, *losses, *others])
    charts = partial(cards.charts, findings=found, end=record.step)
    body = "".join(
        [
            _header(record),
            section("What was reached", cards.facts(record) + cards.classes(record)),
            section("Findings", finding_cards(record, links)),
            section("The outcome", charts(outcome, cards.looks(record))),
            section("Gradients", charts(gradients), gradient_words(record)),
            section("Layer by layer", cards.layers(record), LAYER_WORDS),
            section("The game", charts(game, cards.game(record))),
            section("Noise", charts(noise)),
            section("Curvature", charts(curvature)),
            section("Landscape", cards.landscape(record)),
            section("Losses", charts(losses)),
            section("What ran", options(record)),
            folded("All other curves", charts(others)),
        ]
    )
    return document(words.title(record), body)


def charted(shown: Sequence[figures.Figure]) -> dict[str, tuple[str, str]]:
    """By tag: id and title of the first chart that shows it."""
    found: dict[str, tuple[str, str]] = {}
    for figure in shown:
        for tag in figure.tags:
            found.setdefault(tag, (figure.anchor, figure.title))
    return found


def meta(record: Record) -> str:
    """Status, kind, seed, device and date in one line."""
    seed = record.options.get("seed")
    facts = [
        record.kind,
        f"seed {seed}" if seed is not None else "",
        str(record.summary.get("device", "")),
        record.started,
    ]
    status = escape(words.STATUS.get(record.status, record.status))
    line = " · ".join(escape(fact) for fact in facts if fact)
    return f'<span class="status {escape(record.status)}">{status}</span> {line}'


def gradient_words(record: Record) -> str:
    """What the gradients did, in sentences."""
    return " ".join(words.gradients(record))


def options(record: Record, name: str = "") -> str:
    """The command, the options and what it ran on."""
    heading = f"<h3>Run {escape(name)}</h3>" if name else ""
    every = rows(list(_flat(record.options)))
    made_with = rows(words.made_with(record)) or "<p>Known when the run ends.</p>"
    return (
        f'{heading}<pre class="command"><code>{command(record)}</code></pre>'
        f'<div class="columns"><div class="card"><h3>Main options</h3>{rows(words.chosen(record))}</div>'
        f'<div class="card"><h3>Made with</h3>{made_with}'
        f'<h3>Directory</h3><p class="path">{escape(str(record.directory.resolve()))}</p></div></div>'
        f'<details><summary>Every option</summary><div class="card">{every}</div></details>'
    )


def _header(record: Record) -> str:
    return (
        '<header><p class="brand">gradsight <span>run report</span></p>\n'
        f"<h1>{escape(words.title(record))}</h1>\n"
        f'<p class="meta">{meta(record)}{_counted(record)}</p>'
        f"{_incomplete(record)}</header>\n"
    )


def _counted(record: Record) -> str:
    told = counted(record.findings or ())
    return f' · <a href="#findings">{told}</a>' if told else ""


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
        f'<p class="notice">{why}This run has come to {number(record.step)}{of} {escape(record.unit)}: '
        f"what follows is of that moment, not of its end. {then}</p>"
    )


def _flat(tree: Mapping[str, object], path: str = "") -> Iterator[tuple[str, str]]:
    """Options by dotted name."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", "null" if value is None else str(value)
