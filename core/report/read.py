"""Reading a run directory into one record. Nothing here knows of HTML."""

import time
from pathlib import Path
from typing import Any, cast

from core.cli.saved import saved_command, saved_options, saved_overrides
from core.config import ConfigError, flat
from core.diagnosis.findings import FILE, Finding, ordered
from core.report.record import KindOf, Record, unknown
from core.run.directory import state_of
from core.run.files import read_json
from core.run.tensorboard import read_scalars


def read_run(directory: Path, kind_of: KindOf = unknown, option: str = "run") -> Record:
    """Read everything that a report needs; `option` named the directory.

    Raises:
        ConfigError: there is no such directory, no run in it, or its files are damaged.
    """
    if not directory.is_dir():
        raise ConfigError(f"{option}={directory}: there is no such directory")
    options = saved_options(directory)
    status, summary = state_of(directory)
    kind = kind_of(str(options["_target_"]))
    return Record(
        directory=directory,
        kind=kind,
        status=status,
        options=options,
        command=saved_command(directory) or kind.command or str(options["_target_"]).partition(".")[0],
        overrides=saved_overrides(directory),
        summary=summary or {},
        curves=read_scalars(directory),
        media=read_media(directory),
        findings=read_findings(directory),
        landscape=_read_landscape(directory),
        started=_started(directory),
    )


def read_media(directory: Path) -> dict[str, Path]:
    """Pictures and videos of a directory, by name."""
    found = {p.stem: p for p in sorted(directory.glob("media/*"))}
    found |= {f"landscape/{p.stem}": p for p in sorted(directory.glob("media/landscape/*"))}
    return {name: path for name, path in found.items() if path.suffix in (".png", ".gif")}


def read_findings(directory: Path) -> tuple[Finding, ...] | None:
    """All findings of a run directory, causes before their consequences; None where no diagnosis was made.

    Raises:
        ConfigError: the file is damaged.
    """
    path = directory / FILE
    if not path.exists() or not path.stat().st_size:  # it has been made, and not yet been written
        return None
    content = cast(Any, read_json(path))
    try:
        found = [Finding.from_json(entry) for entry in content["findings"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ConfigError(f"{path} is damaged: it holds no findings ({reason})") from error
    return tuple(ordered(found))


def _read_landscape(directory: Path) -> dict[str, dict[str, object]]:
    """Numbers and texts about the landscape; lists are left out, because the pictures show them."""
    path = directory / "landscape.json"
    if not path.exists():
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
