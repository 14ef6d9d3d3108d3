"""The command that made a run, and the same with other words, ready to paste."""

import shlex
from collections.abc import Sequence
from html import escape

from core.report.read import Record

COMMANDS = {"core": "descend"}  # where a package is not called by its own name


def command(record: Record, change: Sequence[str] = ()) -> str:
    """One line as HTML; words of `change` take the place of those with the same option and stand out."""
    changed = {_option(word) for word in change}
    kept = [word for word in record.words if _option(word) not in changed]
    parts = [COMMANDS.get(record.package, record.package), *kept]
    line = escape(shlex.join(parts))
    return " ".join([line, *(f"<b>{escape(shlex.quote(word))}</b>" for word in change)])


def _option(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")
