"""The sections of a page about one run or two, from the findings to the options."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain, zip_longest
from typing import TypeVar

from core.landscape.page import NAME as WALK
from core.report import cards, facts, figures
from core.report.charts import Chart
from core.report.layout import PictureCard, Section, Table
from core.report.pictures import LANDSCAPE, LAYERS, in_order, shows_layers
from core.report.record import Record

T = TypeVar("T")

LAYERS_LEAD = (
    "Each row is a weight or a bias, the network's input on top: the length of its gradient, then how far "
    "one step moves it relative to its own size. About 10⁻³ is common; far above, the layer changes too "
    "fast; far below, it hardly learns. These are the last values of the run; the bars are logarithmic."
)
OTHERS = "All other curves"


def run_sections(runs: Mapping[str, Record]) -> list[Section]:
    """All sections but those about the result; at last the curves that no other section shows.

    Args:
        runs: one run without a name, {"": record}, or two, {"A": first, "B": second}.
    """
    records = list(runs.values())
    kind, alone = records[0].kind, len(records) == 1
    found = [finding for record in records for finding in record.findings or ()]

    def drawn(make: Callable[[Record], list[figures.Figure]]) -> list[figures.Figure]:
        made = [make(record) for record in records]
        return made[0] if alone else figures.pair_figures(*made)

    def chosen(charts: Sequence[Chart]) -> list[figures.Figure]:
        return drawn(partial(figures.chart_figures, charts=charts))

    def each(make: Callable[..., T]) -> list[T]:
        return [make(record, run=name) for name, record in runs.items()]

    def both(make: Callable[..., Sequence[T]]) -> list[T]:
        return list(chain(*each(make)))

    outcome, losses = chosen(kind.outcome), chosen(kind.losses)
    gradients = drawn(partial(figures.gradient_figures, findings=found))
    topics = [chosen(topic.charts) for topic in kind.topics]
    noise, curvature = drawn(figures.noise_figures), drawn(figures.curvature_figures)
    others = drawn(figures.other_figures)
    shown = chain(outcome, gradients, *topics, noise, curvature, losses, others)
    anchors = figures.anchors(shown)
    end = max(record.step for record in records)
    charts = partial(cards.charts, findings=found if alone else (), end=end)
    rest = Section(heading=OTHERS, charts=charts(others), folded=bool(kind.outcome))
    ran = Section(heading="What ran", runs=each(cards.run_card))
    return [
        Section(heading="Findings", findings=each(partial(cards.finding_cards, anchors=anchors))),
        Section(heading="The outcome", pictures=both(_outcome_pictures), charts=charts(outcome)),
        Section(heading="Gradients", lead=" ".join(each(_gradients)), charts=charts(gradients)),
        Section(
            heading="Layer by layer",
            lead=LAYERS_LEAD,
            layers=_in_turn(each(cards.layer_tables)),
            layer_pictures=_in_turn(each(_layer_pictures)),
        ),
        *(
            Section(
                heading=topic.heading,
                pictures=both(partial(_pictures, names=topic.pictures)),
                charts=charts(topic_figures),
            )
            for topic, topic_figures in zip(kind.topics, topics, strict=True)
        ),
        Section(heading="Noise", charts=charts(noise)),
        Section(heading="Curvature", charts=charts(curvature)),
        Section(
            heading="Landscape",
            pictures=both(_landscape_pictures),
            notes=both(cards.landscape_notes),
            links=both(_walk) if alone else (),
        ),
        Section(heading="Losses", charts=charts(losses)),
        *([ran, rest] if rest.folded else [rest, ran]),
    ]


def options_section(runs: Mapping[str, Record]) -> Section:
    """The options in which runs differ, a row each; a sentence where they do not."""
    trees = [facts.learning_options(record) for record in runs.values()]
    keys = dict.fromkeys(key for tree in trees for key in tree)
    rows = [[key, *(tree.get(key, "–") for tree in trees)] for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    if rows:
        return Section(heading="What differs", table=Table(["option", *runs], rows))
    return Section(heading="What differs", quiet="The runs do not differ in any option.")


def _gradients(record: Record, run: str) -> str:
    return f"{run}: {facts.gradient_sentences(record)}" if run else facts.gradient_sentences(record)


def _pictures(record: Record, names: Sequence[str], run: str) -> list[PictureCard]:
    """Those of the named pictures that a run has."""
    return [cards.picture(record, name, run) for name in names if name in record.media]


def _outcome_pictures(record: Record, run: str) -> list[PictureCard]:
    """Samples, videos and paths: every picture that has no section of its own."""
    elsewhere = {name for topic in record.kind.topics for name in topic.pictures}
    names = in_order(record.media, record.kind.captions)
    own = [n for n in names if n not in elsewhere and not shows_layers(n) and not n.startswith(LANDSCAPE)]
    return _pictures(record, own, run)


def _layer_pictures(record: Record, run: str) -> list[PictureCard]:
    """Heat maps of all layers, player by player."""
    names = [f"{player}_{end}".lstrip("_") for player in record.players for end in LAYERS]
    return _pictures(record, list(dict.fromkeys([*names, *filter(shows_layers, record.media)])), run)


def _landscape_pictures(record: Record, run: str) -> list[PictureCard]:
    """Pictures of the landscape around the parameters."""
    return _pictures(record, [name for name in record.media if name.startswith(LANDSCAPE)], run)


def _walk(record: Record, run: str) -> list[tuple[str, str]]:
    """The page in which the landscape can be turned, if the run has it."""
    return [(WALK, "turn it, and walk along the path")] if (record.directory / WALK).is_file() else []


def _in_turn(runs: Sequence[Sequence[T]]) -> list[T]:
    """Cards of all runs in turn, so that the same layers are side by side."""
    return [card for card in chain.from_iterable(zip_longest(*runs)) if card is not None]
