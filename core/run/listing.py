"""The runs below a folder, newest first. Any may be damaged or still running: nothing in them is trusted."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from core.run.directory import is_run

RUNS = Path("runs")  # where the trainers make their directories


def newest_first(folder: Path) -> list[tuple[float, Path]]:
    """When each run at or below a folder was begun or continued last, as a POSIX time, and its directory.

    Runs inside of a run (those of `optimizers=[A,B]`) belong to it and are left out, as are links to folders.
    """
    return sorted(((_begun(path), path) for path in _runs(folder)), reverse=True)


def target_of(directory: Path) -> str | None:
    """The class of a run's options, as its `config.yaml` names it; None where that cannot be read."""
    path = directory / "config.yaml"
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, ValueError):
        return None
    found = re.search(r"^_target_: (\S+)$", text, re.M)
    return found[1] if found else None


def _runs(folder: Path) -> Iterator[Path]:
    for place, folders, _ in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        with suppress(OSError):
            if is_run(Path(place)):
                folders.clear()
                yield Path(place)


def _begun(directory: Path) -> float:
    """`config.yaml` is written whenever a run begins or goes on; before that there is only Hydra's note."""
    for name in ("config.yaml", ".hydra/overrides.yaml", "checkpoints/last.pt"):
        with suppress(OSError):
            return (directory / name).stat().st_mtime
    return 0.0
