"""The figures of a suite as JSON, beside the table that it prints."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from core.config import ConfigError
from core.run.directory import jsonable
from core.run.files import write_text
from core.text import listed, shown


def chosen(asked: Iterable[str] | None, known: Iterable[str], healthy: Iterable[str] = ()) -> list[str]:
    """The rows asked for; None = all.

    Args:
        asked: as typed.
        known: what there is.
        healthy: runs without a fault, which are typed with `healthy/` before their name.

    Raises:
        ConfigError: there is no such row.
    """
    rows = [*known, *(f"healthy/{name}" for name in healthy)]
    for name in asked or ():
        if name not in rows:
            raise ConfigError(f"rows must be some of {listed(rows)}, got {shown(name)}")
    return list(asked) if asked else rows


def write_table(folder: Path, suite: str, figures: Mapping[str, object]) -> Path:
    """Write FOLDER/SUITE.json, whole or not at all; a number that is not finite is null."""
    path = folder / f"{suite}.json"
    write_text(path, json.dumps(jsonable(figures), indent=2, allow_nan=False) + "\n")
    return path
