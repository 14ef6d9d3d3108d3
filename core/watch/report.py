"""What the report and `compare` know about watched loops."""

from collections.abc import Iterator

from core.compare.find import Score
from core.report.charts import Chart, Line
from core.report.facts import class_name, option, summary_fact
from core.report.record import Fact, Kind, Record


def title(record: Record) -> str:
    """The script, and what it trains."""
    model = option(record.options, "model")
    what = f": {class_name(model)}" if model else ""
    return f"{record.options.get('script') or 'A training loop'}{what}"


def facts(record: Record) -> Iterator[Fact]:
    """The last losses."""
    yield from summary_fact(record, "loss", "loss", "mean of the last logged point")
    yield from summary_fact(record, "loss_without_gradient", "loss without gradient", "the last evaluation")


WATCHED = Kind(
    name="Watched loop",
    command=None,
    title=title,
    facts=facts,
    outcome=(
        Chart(
            "Loss",
            "What was minimised, averaged between two points; dotted, the loss where it was computed without "
            "a gradient, as in an evaluation.",
            (Line("training", "loss/train"), Line("without gradient", "loss/no_grad", 2, dashed=True)),
        ),
    ),
)

SCORE = Score(
    package="core.watch",
    command="core.Watch",
    runs="watched loops",
    label="training loss",
    unit="steps",
    long_unit="optimizer steps",
    entries=("loss",),
    curves=("loss/train",),
    task=("script",),
    task_options=("script",),
    method="optimizer",
    falls=True,
)
