"""What a run was and what it reached, in a few numbers and sentences: those of any run."""

import math
import statistics
from collections.abc import Iterator

from core.config import Tree, flat
from core.numbers import number, percent, seconds
from core.report.record import Curve, Fact, Record
from core.run.directory import count_field

STATUS = {
    "finished": "finished",
    "stopped": "stopped before its end",
    "failed": "failed",
    "running": "not finished, still running",
    "unfinished": "not finished",
}
UNLISTED = ("_target_", "logging", "monitor", "evaluation", "resume")  # of the main options
# Options that change nothing of what is learnt.
FREE = ("_target_", "logging", "logger", "name", "tags", "num_threads", "pictures")


def status(name: str) -> str:
    """A status as text."""
    return STATUS.get(name, name)


def reached(record: Record) -> list[Fact]:
    """The numbers of the result, from `summary.json`, else from the curves so far; then the effort."""
    summary, kind = record.summary, record.kind
    rate, notes = summary.get(f"{count_field(str(summary.get('unit')))}_per_s"), []
    if isinstance(rate, int | float):
        notes.append(f"{rate:,.0f} a second")
    if summary.get("updates") is not None:
        notes.append(f"{number(summary['updates'])} gradient steps")
    if summary.get("wall_s") is not None:
        notes.append(f"{seconds(summary['wall_s'])} in all")
    effort = Fact(f"{number(record.step)}{_of_total(record)}", record.unit, ", ".join(notes), record.step)
    return [*kind.facts(record), effort]


def efforts(record: Record) -> Iterator[Fact]:
    """What the run has cost, number by number."""
    labels = {
        "updates": "gradient steps",
        **record.kind.efforts,
        "wall_s": "seconds in all",
        "cpu_s": "CPU seconds",
    }
    for key, label in labels.items():
        value = record.summary.get(key)
        if isinstance(value, int | float):
            yield Fact(number(value), label, "", float(value))


def summary_fact(record: Record, name: str, label: str, note: str = "") -> Iterator[Fact]:
    """A number of `summary.json` as a fact; nothing where it is not there."""
    value = record.summary.get(name)
    if isinstance(value, int | float):
        yield Fact(number(value), label, note, float(value))


def incomplete(record: Record) -> str:
    """What a reader must know of a run that has not reached its end."""
    if record.status == "finished":
        return ""
    then = " Write the report again when it is done." if record.status == "running" else ""
    why = "It was interrupted and left no summary. " if record.status == "unfinished" else ""
    return (
        f"{why}This run has reached {number(record.step)}{_of_total(record)} {record.unit}. The numbers and "
        f"charts show that moment, not its end.{then}"
    )


def gradient_sentences(record: Record) -> str:
    """What the gradients did, a sentence for each player."""
    sentences = []
    for player in record.players:
        tag = f"{player}/gradient/".lstrip("/")
        norms = [v for v in record.curves[f"{tag}norm"].values() if math.isfinite(v)]
        middle = number(statistics.median(norms)) if norms else "no finite value"
        clipped, skipped = (_mean_share(record.curves.get(f"{tag}{what}")) for what in ("clipped", "skipped"))
        who = f"The {player}'s gradient" if player else "The gradient"
        sentences.append(
            f"{who} had a median norm of {middle}; clipped: {clipped}; skipped as not finite: {skipped}."
        )
    return " ".join(sentences)


def made_with(record: Record) -> list[tuple[str, str]]:
    """Versions and the commit, as the summary has them."""
    found = record.summary.get("versions")
    rows = [(str(k), str(v)) for k, v in found.items()] if isinstance(found, dict) else []
    git = record.summary.get("git")
    if isinstance(git, dict):
        changed = ", with uncommitted changes" if git.get("dirty") else ""
        rows.append(("git commit", f"{str(git.get('commit'))[:12]}{changed}"))
    return rows


def main_options(record: Record) -> list[tuple[str, str]]:
    """The main options; a component is its class, with its options where they are few."""
    rows = [(k.replace("_", " "), described(v)) for k, v in record.options.items() if k not in UNLISTED]
    return [(name, value) for name, value in rows if value]


def every_option(record: Record) -> list[tuple[str, str]]:
    """All options by dotted name."""
    return [
        (key, "null" if value is None else str(value))
        for key, value in flat(record.options, empty=True).items()
    ]


def learning_options(record: Record) -> dict[str, str]:
    """The options that change what is learnt, by dotted name; a component by its class."""
    tree = {key: value for key, value in record.options.items() if key not in FREE}
    return {
        key.removesuffix("._target_"): str(value).rpartition(".")[2]
        if key.endswith("_target_")
        else str(value)
        for key, value in flat(tree).items()
    }


def described(value: object) -> str:
    """The value of an option as text; an empty string for what is left out."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    if not isinstance(value, dict):
        return str(value)
    if "id" in value:
        return str(value["id"])
    options = [(k, v) for k, v in value.items() if k != "_target_" and v is not None and v != {}]
    if len(options) > 3 and "_target_" in value:
        options = [(k, v) for k, v in options if k in ("lr", "hidden_sizes")]
    parts = ", ".join(f"{k.replace('_', ' ')} {described(v)}" for k, v in options)
    return ": ".join(part for part in (class_name(value) if "_target_" in value else "", parts) if part)


def option(options: Tree, *path: str) -> object:
    """The option at a path; None where there is none."""
    node: object = options
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    return node


def class_name(value: object) -> str:
    """The class that a component names."""
    if isinstance(value, dict) and "_target_" in value:
        return str(value["_target_"]).split(".")[-1]
    return str(value)


def _of_total(record: Record) -> str:
    return f" of {number(record.total)}" if record.total and record.step < record.total else ""


def _mean_share(curve: Curve | None) -> str:
    """The mean of a share over the run, as text."""
    values = [v for v in (curve or {}).values() if math.isfinite(v)]
    mean = sum(values) / len(values) if values else math.nan
    return "not measured" if math.isnan(mean) else "never" if mean == 0 else f"{percent(mean)} of the steps"
