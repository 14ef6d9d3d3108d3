"""List the runs below a folder, newest first: `runs.py runs/rl`, for programs `runs.py --json`."""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn, cast

import yaml

from core.cli.command import typed_command
from core.cli.guard import guarded
from core.cli.headline import headline, no_numbers
from core.config import ConfigError
from core.numbers import plain_number, seconds
from core.run.directory import jsonable, state_of
from core.run.listing import RUNS, newest_first
from core.run.yaml_text import safe_text
from core.text import printable, shortened

EXAMPLES = """\
examples:
  runs.py                 all runs below runs/
  runs.py runs/rl/SWEEP   those of a sweep
  runs.py --json          every word that was typed, and numbers in full"""


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        directory: as it can be typed.
        status: finished, stopped, failed, running, unfinished (killed), or damaged.
        headline: name and value of what it reached; None while that is not known.
        begun: when it was begun or continued last, a POSIX time in seconds.
        typed: what started it.
        notes: lines about what its summary should not have.
    """

    directory: str
    status: str
    headline: tuple[str, float] | None
    begun: float
    typed: tuple[str, ...]
    notes: tuple[str, ...] = ()


def row(begun: float, directory: Path) -> Row:
    """What is known of a run without any library that trains."""
    try:
        status, summary = state_of(directory)
    except (ConfigError, OSError):
        status, summary = "damaged", None
    found = summary or {}
    notes = [os.path.join(directory, text) for text in no_numbers(found)]
    return Row(os.fspath(directory), status, headline(found), begun, _typed(directory), tuple(notes))


def line(row: Row, now: float) -> str:
    """A run on one line."""
    name, value = row.headline or ("", 0.0)
    reached = f"{name} {plain_number(value)}" if name else "–"
    age = (
        seconds(max(now - row.begun, 0.0))
        if now - row.begun < 172_800
        else f"{(now - row.begun) / 86_400:.0f} d"
    )
    typed = shortened(" ".join(row.typed))
    text = f"{shortened(row.status, 10):<10}  {reached:<14}  {age:>6}  {row.directory}  {typed}"
    return printable(text.rstrip())


def entry(row: Row) -> dict[str, object]:
    """A run as `--json` gives it; a number that is not finite is null."""
    named = row.headline and dict(zip(("name", "value"), row.headline, strict=True))
    known = {name: value for name, value in asdict(row).items() if name != "notes"}
    return cast(dict[str, object], jsonable({**known, "headline": named}))


def main() -> None:
    sys.exit(guarded(_list))


def _list() -> int:
    parser = argparse.ArgumentParser(
        prog="runs.py",
        description="List the runs below a folder, newest first.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="?", default=os.fspath(RUNS), metavar="FOLDER", help="default: runs")
    parser.add_argument("--json", action="store_true", help="one JSON object for each run")
    parser.add_argument("--version", action="store_true", help="what is installed")
    parser.error = _refuse
    args = parser.parse_args()
    if args.version:
        from core.cli.version import print_version

        print_version()
        return 0
    if not os.path.isdir(args.folder):
        raise ConfigError(f"there is no folder {shortened(args.folder)}")
    rows = [row(begun, directory) for begun, directory in newest_first(Path(args.folder))]
    for note in (note for each in rows for note in each.notes):
        print(f"note: {printable(note)}", file=sys.stderr)
    if args.json:
        print(json.dumps([entry(each) for each in rows], indent=2, allow_nan=False))
        return 0
    for each in rows:
        print(line(each, time.time()))
    if not rows:
        print(f"there is no run in {args.folder}")
    else:
        from core.cli.follow_up import follow_up

        for text in follow_up("runs", Path(rows[0].directory), typed_command(sys.argv[1:])):
            print(text)
    return 0


def _typed(directory: Path) -> tuple[str, ...]:
    """The overrides that Hydra noted; none where the note is damaged or there is none."""
    path = directory / ".hydra" / "overrides.yaml"
    try:
        noted = yaml.safe_load(safe_text(path)) if path.is_file() else None
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return ()
    words = noted if isinstance(noted, list) else []
    return tuple(str(word) for word in words if not str(word).startswith("hydra."))


def _refuse(message: str) -> NoReturn:
    raise ConfigError(message)


if __name__ == "__main__":
    main()
