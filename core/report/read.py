"""Reading a run directory into one record. Nothing here knows of HTML."""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from core.cli.headline import no_numbers
from core.cli.saved import lacking, options_path, saved_command, saved_flags, saved_options, saved_overrides
from core.config import ConfigError, Tree, flat
from core.diagnosis.findings import FILE, Finding, ordered
from core.report.record import KindOf, Record, unknown
from core.run.directory import ENDED, state_of
from core.run.event_file import cut_off, cut_off_line
from core.run.files import read_json
from core.run.tensorboard import read_events


def read_run(directory: Path, kind_of: KindOf = unknown, option: str = "run") -> Record:
    """Read everything that a report needs; `option` named the directory.

    Raises:
        ConfigError: it is no directory, there is no run in it, or its files are damaged.
    """
    if not directory.is_dir():
        why = "a file, and a run is a directory" if directory.is_file() else "there is no such directory"
        raise ConfigError(f"{option}={directory}: {why}")
    options = saved_options(directory)
    status, summary = state_of(directory)
    kind = kind_of(str(options["_target_"]))
    curves, damaged = read_events(directory)
    for line in _damages(directory, status, options, damaged, summary or {}):
        print(f"warning: {line}", file=sys.stderr, flush=True)
    return Record(
        directory=directory,
        kind=kind,
        status=status,
        options=options,
        command=saved_command(directory) or kind.command or str(options["_target_"]).partition(".")[0],
        flags=saved_flags(directory),
        overrides=saved_overrides(directory),
        summary=summary or {},
        curves=curves,
        media=read_media(directory),
        findings=read_findings(directory),
        landscape=_read_landscape(directory),
        started=_started(directory),
    )


def read_media(directory: Path) -> dict[str, Path]:
    """Pictures and videos of a directory, by name."""
    found = {p.stem: p for p in sorted(directory.glob("media/*"))}
    found |= {f"landscape/{p.stem}": p for p in sorted(directory.glob("media/landscape/*"))}
    return {name: path for name, path in found.items() if path.suffix in (".png", ".gif") and path.is_file()}


def read_findings(directory: Path) -> tuple[Finding, ...] | None:
    """All findings of a run directory, causes before their consequences; None where no diagnosis was made.

    Raises:
        ConfigError: the file is damaged.
    """
    path = directory / FILE
    if not os.path.lexists(path) or (
        path.is_file() and not path.stat().st_size
    ):  # it has been made, and not yet been written
        return None
    content = cast(Any, read_json(path))
    try:
        found = [Finding.from_json(entry) for entry in content["findings"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ConfigError(f"{path} is damaged: it holds no findings ({reason})") from error
    return tuple(ordered(found))


def _damages(
    directory: Path, status: str, options: Tree, events: Sequence[Path], summary: Mapping[str, object]
) -> Iterator[str]:
    """Files of which a part is lost, in whose absence a report is still worth having, and what is missing."""
    if missing := lacking(options):
        yield f"{options_path(directory)} is cut off or of another version: it lacks {', '.join(missing)}"
    for path in events:
        yield f"{path} is damaged: the curves lack what follows"
    cut = cut_off(directory) if status in ENDED else None
    if cut is not None and cut not in events:
        yield cut_off_line(cut)
    yield from (os.path.join(directory, text) for text in no_numbers(summary))


def _read_landscape(directory: Path) -> dict[str, dict[str, object]]:
    """Numbers and texts about the landscape; lists are left out, because the pictures show them."""
    path = directory / "landscape.json"
    if not os.path.lexists(path):
        return {}
    tree = read_json(path)
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} is damaged: it holds no facts")
    tree = {"": {name: v for name, v in tree.items() if not isinstance(v, dict)}} | tree
    facts = {tag: flat(part) for tag, part in tree.items() if isinstance(part, dict)}
    return {tag: {n: v for n, v in part.items() if not isinstance(v, list)} for tag, part in facts.items()}


def _started(directory: Path) -> str:
    stamps = [p.name.split(".")[3] for p in directory.glob("events.out.tfevents.*")]
    times = [int(stamp) for stamp in stamps if stamp.isdigit()]
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(min(times))) if times else ""
