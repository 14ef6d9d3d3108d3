"""A comparison as numbers for other programs, and which method is the better one on all tasks together."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.compare.groups import SeedGroup
from core.compare.statistics import Estimate, estimate, improvement, interquartile_mean, mean
from core.numbers import plain_number
from core.run.directory import jsonable
from core.run.files import write_text

FORMS = (".csv", ".json")


@dataclass(frozen=True)
class Improvement:
    """How likely a run of one method is to score better than one of the first method.

    Attributes:
        label: of the method.
        over: label of the first method.
        tasks: that both were trained on.
        probability: averaged over these tasks.
    """

    label: str
    over: str
    tasks: tuple[str, ...]
    probability: Estimate


def improvements(
    groups: Sequence[SeedGroup], resamples: int, seed: int, *, falls: bool = False
) -> list[Improvement]:
    """Every method beside the first one, on the tasks that both have scores on; none for a method without.

    Args:
        groups: to compare.
        resamples: bootstrap samples.
        seed: of the bootstrap samples.
        falls: whether the lower score is the better one.
    """
    scores = {(group.label, group.task): group.scores for group in groups if group.scores}
    labels = list(dict.fromkeys(label for label, _ in scores))
    found = []
    for label in labels[1:]:
        tasks = tuple(task for one, task in scores if one == labels[0] and (label, task) in scores)
        if tasks:
            pairs = [(scores[label, task], scores[labels[0], task]) for task in tasks]
            pairs = [(first, own) for own, first in pairs] if falls else pairs
            found.append(Improvement(label, labels[0], tasks, improvement(pairs, resamples, seed)))
    return found


def improvement_table(found: Sequence[Improvement]) -> str:
    """Probabilities of improvement as a Markdown table."""
    rows = [[f"better than {found[0].over}", "probability of improvement", "tasks"]]
    rows += [[each.label, shown_estimate(each.probability), str(len(each.tasks))] for each in found]
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its header first, padded so that it can be read as it is."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def shown_estimate(found: Estimate) -> str:
    """A value, and its interval in brackets."""
    if found.interval is None:
        return plain_number(found.value)
    low, high = found.interval
    return f"{plain_number(found.value)} [{plain_number(low)}, {plain_number(high)}]"


def write_numbers(
    path: Path,
    score: str,
    groups: Sequence[SeedGroup],
    better: Sequence[Improvement],
    resamples: int,
    seed: int,
) -> None:
    """Write all numbers: as JSON, or as CSV with a row for each group.

    Args:
        path: its ending says which.
        score: what is compared.
        groups: that are compared.
        better: probabilities of improvement, which stand in the row of each group of that method.
        resamples: bootstrap samples behind every interval.
        seed: of them.
    """
    rows = [_row(group, score, resamples, seed) for group in groups]
    if path.suffix.lower() == ".json":
        pairs = [
            {"label": b.label, "over": b.over, "tasks": [*b.tasks], **_numbers("probability", b.probability)}
            for b in better
        ]
        content = jsonable({"groups": rows, "probability_of_improvement": pairs})
        write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
        return
    found = {each.label: each for each in better}
    for row in rows:
        each = found.get(str(row["label"]))
        row |= {"over": each.over if each else None}
        row |= _numbers("probability_of_improvement", each.probability if each else None)
        row["scores"] = " ".join(map(str, row["scores"]))  # pyright: ignore[reportArgumentType]  # a list
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _row(group: SeedGroup, score: str, resamples: int, seed: int) -> dict[str, object]:
    """What is known of a group."""
    row: dict[str, object] = {"task": group.task, "label": group.label, "runs": len(group.runs)}
    row |= {
        "score": score,
        "scores": group.scores,
        "steps": max((r.steps for r in group.runs if r.steps is not None), default=None),
    }
    for name, statistic in (("mean", mean), ("interquartile_mean", interquartile_mean)):
        row |= _numbers(name, estimate(group.scores, statistic, resamples, seed) if group.scores else None)
    return row


def _numbers(name: str, found: Estimate | None) -> dict[str, object]:
    """A value and its ends, by name; nothing where there is none."""
    low, high = (found.interval if found else None) or (None, None)
    return {name: found and found.value, f"{name}_low": low, f"{name}_high": high}
