"""The one number that stands for a run on one line, as the root file of its trainer names it."""

import math
import re
from collections.abc import Mapping
from functools import cache

import yaml

from core.config import config_dir
from core.run.directory import NOT_FINITE
from core.text import shown

WATCHED = {"loss": "loss"}  # of a loop of the user's own


def headline(summary: Mapping[str, object]) -> tuple[str, float] | None:
    """Name and value of the first of these entries that a summary has; None where it has none.

    One that was measured and is no finite number is NaN; one that was not measured is none.
    """
    lost = summary.get(NOT_FINITE)
    for entry, name in _names().items():
        value = math.nan if isinstance(lost, list) and entry in lost else summary.get(entry)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return name, float(value)
    return None


def no_numbers(summary: Mapping[str, object]) -> list[str]:
    """What is said of entries that stand for a run, where a summary has something else than a number."""
    found = {name: summary.get(name) for name in _names()}
    odd = {n: v for n, v in found.items() if isinstance(v, bool) or not isinstance(v, int | float | None)}
    return [f"summary.json: {name} is {shown(value)}, and no number" for name, value in odd.items()]


@cache
def _names() -> dict[str, str]:
    """What lines call the entries of summaries; of a root file only this line is read, it takes no time."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(config_dir().glob("*.yaml")))
    lines = (re.search(r"^headline: ({.*?})", text, re.M) for text in texts)
    return {k: v for line in lines if line for k, v in yaml.safe_load(line[1]).items()} | WATCHED
