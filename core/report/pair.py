"""A second run beside the first: what differs, what came of it, the same charts with both curves."""

from functools import partial
from html import escape

from core.config import ConfigError
from core.report import beside, cards, figures, words
from core.report.finding_cards import finding_cards
from core.report.html import document, folded, section
from core.report.layers import LAYER_WORDS
from core.report.read import Record
from core.report.single import charted, gradient_words, meta, options

LUCK = "One run each: a difference may be the luck of the seed. Over several seeds, compare tells (runs=[…])."


def check_pair(first: Record, second: Record) -> None:
    """Whether two runs can stand on one page.

    Raises:
        ConfigError: they are the same run, or of different kinds.
    """
    if first.directory.resolve() == second.directory.resolve():
        raise ConfigError(f"against={second.directory} is the run itself; name another one")
    if first.package != second.package:
        kinds = f"{second.kind}, not {first.kind} like {first.directory}"
        raise ConfigError(f"against={second.directory} is a run of another kind: {kinds}")


def render_pair(first: Record, second: Record) -> str:
    """The page as one string."""
    pair = (first, second)
    found = [finding for record in pair for finding in record.findings or ()]
    outcome, gradients, game, noise, curvature, losses, others = (
        beside.pair_figures(*(plan(record) for record in pair))
        for plan in (
            figures.outcome_figures,
            partial(figures.gradient_figures, findings=found),
            figures.game_figures,
            figures.noise_figures,
            figures.curvature_figures,
            figures.loss_figures,
            figures.other_figures,
        )
    )
    charts = partial(cards.charts, end=max(record.step for record in pair))
    links = charted([*outcome, *gradients, *game, *noise, *curvature, *losses, *others])

    def both(part) -> str:
        return "".join(part(record, name) for record, name in zip(pair, beside.NAMES, strict=True))

    differing = beside.options_table(pair, beside.NAMES)
    body = "".join(
        [
            _header(first, second),
            section("What differs", differing or '<p class="quiet">No option: all are the same.</p>'),
            section("What was reached", beside.outcomes(first, second) + both(cards.classes), LUCK),
            section("Findings", both(lambda record, name: finding_cards(record, links, name))),
            section("The outcome", charts(outcome, both(cards.looks))),
            section("Gradients", charts(gradients), both(_told)),
            section("Layer by layer", both(cards.layers), LAYER_WORDS),
            section("The game", charts(game, both(cards.game))),
            section("Noise", charts(noise)),
            section("Curvature", charts(curvature)),
            section("Landscape", both(cards.landscape)),
            section("Losses", charts(losses)),
            section("What ran", both(options)),
            folded("All other curves", charts(others)),
        ]
    )
    return document(f"{words.title(first)} against {words.title(second)}", body)


def _header(first: Record, second: Record) -> str:
    a, b = words.title(first), words.title(second)
    title = a if a == b else f"{a} against {b}"
    lines = "".join(
        f'<p class="meta"><span class="key c1{look}"><b>{name}</b></span> '
        f"<code>{escape(str(record.directory))}</code> {meta(record)}</p>"
        for name, record, look in zip(beside.NAMES, (first, second), ("", " second"), strict=True)
    )
    return (
        '<header><p class="brand">gradsight <span>two runs side by side</span></p>\n'
        f"<h1>{escape(title)}</h1>\n{lines}{_notice(first, second)}</header>\n"
    )


def _notice(first: Record, second: Record) -> str:
    """A warning where the two were given different tasks."""
    a, b = words.subject(first), words.subject(second)
    if a == b:
        return ""
    return (
        f'<p class="notice">Different tasks: A is on {escape(a)}, B on {escape(b)}. Scores, losses and '
        "gradients of one say nothing against those of the other.</p>"
    )


def _told(record: Record, name: str) -> str:
    return f"{name}: {gradient_words(record)} "
