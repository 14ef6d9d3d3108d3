"""The figures of a suite as JSON, beside the table that it prints."""

import json
from collections.abc import Mapping
from pathlib import Path

from core.run.directory import jsonable
from core.run.files import write_text


def write_table(folder: Path, suite: str, figures: Mapping[str, object]) -> Path:
    """Write FOLDER/SUITE.json, whole or not at all; a number that is not finite is null."""
    path = folder / f"{suite}.json"
    write_text(path, json.dumps(jsonable(figures), indent=2, allow_nan=False) + "\n")
    return path
