"""The run directory: one process at a time, and a record of where the run came from."""

import fcntl
import importlib.metadata
import json
import math
import os
import platform
import shlex
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from core.config import ConfigError
from core.run.files import read_json, unwritable, write_text
from core.text import shown

NOT_FINITE = "not_finite"  # entry of a summary: names of those that were measured and are no finite number
COLLECTIONS = {"sweep.yaml": "sweep", "study.db": "study"}  # of runs, by what their folders are known by
ENDED = ("finished", "stopped", "failed")  # statuses of a summary
LOCK_WAIT_S = 0.5  # a reader that asks `in_use` holds the lock for a moment


class Lock:
    """Holds a directory for this process; the system drops it when the process dies, however it dies.

    Raises:
        ConfigError: another process holds it, or it cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / ".lock"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+")
        except (OSError, ValueError) as error:  # the latter of a NUL
            reason = getattr(error, "strerror", None) or error  # a pipe under that name cannot be sought in
            raise ConfigError(f"{directory} cannot hold a run: {reason}; choose another") from error
        if not _wait_for(self._file.fileno(), time.monotonic() + LOCK_WAIT_S):
            self._file.close()
            raise _busy(directory)

    @property
    def held(self) -> bool:
        """Whether the directory is held, and still the one that was: not removed, moved, or made anew."""
        with suppress(OSError, ValueError):  # the latter once it is released
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path))
        return False

    def release(self) -> None:
        """Release the directory; a second call does nothing."""
        self._file.close()


def in_use(directory: Path) -> bool:
    """Whether a run holds this directory; any number of readers may ask at once, and nothing is written."""
    try:
        file = os.open(directory / ".lock", os.O_RDONLY | os.O_NONBLOCK)  # or a pipe would wait for a writer
    except OSError:  # no lock, or one that nobody here may read
        return False
    try:
        return not _locked(file, fcntl.LOCK_SH)
    finally:
        os.close(file)


def holds_run(directory: Path) -> bool:
    """Whether a run has left options or a checkpoint here; Hydra's own copy of the options does not count."""
    return (directory / "config.yaml").exists() or os.path.lexists(directory / "checkpoints" / "last.pt")


def is_run(directory: Path) -> bool:
    """Whether a run has begun here.

    Hydra notes the options first and what was typed last: one that was killed in between has nothing to lose.
    """
    noted = (directory / ".hydra" / name for name in ("config.yaml", "overrides.yaml"))
    return holds_run(directory) or all(path.exists() for path in noted)


def used(directory: Path) -> ConfigError:
    """The error for a directory that already holds a run."""
    return ConfigError(
        f"{directory} already holds a run; continue it with {resumption(directory)} or choose another"
    )


def resumption(directory: Path) -> str:
    """What continues the run in a directory, to be pasted into a shell."""
    return shlex.quote(f"resume={directory}")


def refuse_used(directory: Path) -> None:
    """Check that a new run may begin in a directory; makes nothing.

    Raises:
        ConfigError: a run is or was at work in it, or no file can be made there.
    """
    if in_use(directory):
        raise _busy(directory)
    if is_run(directory):
        raise used(directory)
    refuse_collection(directory)
    reason = unwritable(directory)
    if reason:
        raise ConfigError(f"{directory} cannot hold a run: {reason}; choose another")


def collection_of(directory: Path) -> str | None:
    """Of what this folder holds the runs: a sweep, or a study; None where it is of neither."""
    return next((what for name, what in COLLECTIONS.items() if os.path.lexists(directory / name)), None)


def refuse_collection(directory: Path) -> None:
    """Check that a folder holds no runs of a sweep or a study, which a run in it would hide.

    Raises:
        ConfigError: it does.
    """
    if what := collection_of(directory):
        raise ConfigError(f"{directory} is the folder of a {what}, whose runs are in it; choose another")


def abandon(directory: Path) -> None:
    """Remove what a start that came to nothing has left, so that another may begin there."""
    shutil.rmtree(directory / ".hydra", ignore_errors=True)
    (directory / ".lock").unlink(missing_ok=True)
    with suppress(OSError):  # somebody else's files are in it
        directory.rmdir()


def read_summary(directory: Path) -> dict[str, object] | None:
    """The content of `summary.json`; None before the run has ended.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    path = directory / "summary.json"
    if not os.path.lexists(path):
        return None
    summary = read_json(path)
    if not isinstance(summary, dict):
        raise ConfigError(f"{path} is damaged: it holds no summary")
    for name in ("status", "unit"):
        if not isinstance(summary.get(name, ""), str):
            raise ConfigError(f"{path} is damaged: its {name} is {shown(summary[name])}, and no text")
    return summary


def state_of(directory: Path) -> tuple[str, dict[str, object] | None]:
    """The status of a run and its summary, None while there is none.

    Returns:
        finished, stopped, failed, running, or unfinished (it was killed and wrote no summary).

    Raises:
        ConfigError: the summary is damaged.
    """
    summary = read_summary(directory)
    if in_use(directory):  # a summary, if there is one, is of an earlier end of a run that has been resumed
        return "running", None
    return ("unfinished" if summary is None else str(summary.get("status", "finished"))), summary


def already_finished(directory: Path, total: int) -> bool:
    """Whether the run in `directory` ended, by reaching `total` (or more) on its x-axis or by a callback.

    Raises:
        ConfigError: the summary is damaged.
    """
    summary, step = read_summary(directory) or {}, reached(directory)
    if summary.get("status") != "finished" or step is None:
        return False
    return step >= total or "stopped_early" in summary


def reached(directory: Path) -> int | None:
    """Where on its x-axis the run in `directory` ended; None where no summary says it.

    Raises:
        ConfigError: the summary is damaged.
    """
    summary = read_summary(directory) or {}
    field = count_field(str(summary.get("unit")))
    step = summary.get(field)
    if step is None or type(step) is int:
        return step
    raise ConfigError(
        f"{directory / 'summary.json'} is damaged: its {field} is {shown(step)}, and no whole number"
    )


def count_field(unit: str) -> str:
    """The field of `summary.json` that holds the x-axis value reached, named by what the x-axis counts."""
    return unit.replace(" ", "_")


def write_summary(directory: Path, summary: dict[str, object]) -> None:
    """Write `summary.json`; numbers that are not finite become null, which JSON can hold, and are named."""
    lost = [name for name, v in summary.items() if isinstance(v, float) and not math.isfinite(v)]
    summary = summary | ({NOT_FINITE: lost} if lost else {})
    text = json.dumps(jsonable(summary), indent=2, allow_nan=False)
    write_text(directory / "summary.json", text + "\n")


def versions() -> dict[str, str]:
    """Versions of Python and of what the results depend on."""
    names = (
        "gradsight", "torch", "torchvision", "gymnasium", "hydra-core", "tensorboard", "torchmetrics",
        "numpy",
    )  # fmt: skip
    found = {"python": platform.python_version()}
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def git_state() -> dict[str, object] | None:
    """Commit of the checkout this code runs from and whether it is changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", os.fspath(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (subprocess.SubprocessError, OSError):
        return None


def _busy(directory: Path) -> ConfigError:
    return ConfigError(f"{directory} is in use by another run; wait for it or choose another")


def _wait_for(file: int, deadline: float) -> bool:
    """Try to lock an open file until `deadline`; whether that succeeded."""
    while not _locked(file, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _locked(file: int, kind: int) -> bool:
    """Try once to lock an open file, LOCK_SH (readers) or LOCK_EX; held until the file is closed."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def jsonable(value: object) -> object:
    """The same value with null for numbers that are not finite, which JSON cannot hold."""
    if isinstance(value, dict):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
