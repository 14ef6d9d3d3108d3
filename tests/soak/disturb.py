"""Ways in which a run comes to its end before its time, and a command that meets one of them."""

import errno
import importlib
import itertools
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

LIMIT = 120.0  # seconds of one command, after which it hangs
GONE = 10.0  # seconds that processes of a dead run may still need
TOUCHES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.fsync"}  # audited, fsync by us
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
PROGRAMS = {"gradrl": "train_rl", "gradgan": "train_gan", "descend": "descend"}


@dataclass(frozen=True)
class Disturbance:
    """What happens to a run.

    Attributes:
        kind: `killed`, `interrupted` (as Ctrl-C does it, all processes), `terminated`, `twice` (two signals)
            after `at` seconds; `crash` (dies), `failing` (one error of the disk) or `full` (errors from then
            on) at the `at`-th touch of a file or folder; `cut` (dies within a write) where a file would be
            longer than `at` bytes; `none`.
    """

    kind: str
    at: float = 0.0


# How often each is drawn.
KINDS = {
    "killed": 6, "interrupted": 2, "terminated": 2, "twice": 1, "crash": 6, "failing": 2, "full": 2, "cut": 2,
}  # fmt: skip
SIGNALS = {
    "killed": (signal.SIGKILL,),
    "interrupted": (signal.SIGINT,),
    "terminated": (signal.SIGTERM,),
    "twice": (signal.SIGTERM, signal.SIGTERM),
}


@dataclass(frozen=True)
class Ended:
    """How a command ended: its status, what it said, its seconds, and how often it touched the disk.

    Attributes:
        status: as multiprocessing has it; None where it hung.
        left: processes that were still there seconds later.
    """

    status: int | None
    said: str
    seconds: float
    touches: int
    left: int


def draw(random: Random, whole: Ended, size: int) -> Disturbance:
    """One at random, for a run that takes as long as `whole`, whose largest file has `size` bytes."""
    (kind,) = random.choices(list(KINDS), list(KINDS.values()))
    if kind in ("crash", "failing", "full"):
        return Disturbance(kind, random.randint(1, whole.touches))
    if kind == "cut":
        return Disturbance(kind, random.randint(1, size))
    return Disturbance(kind, random.uniform(0.0, whole.seconds))


def command(words: Sequence[str], place: Path, log: Path, disturbance: Disturbance, random: Random) -> Ended:
    """Call a command in `place`, in a process group of its own, and disturb it."""
    child = multiprocessing.get_context("fork").Process(
        target=call, args=(list(words), place, log, disturbance)
    )
    began = time.monotonic()
    child.start()
    assert child.pid is not None
    for count, number in enumerate(SIGNALS.get(disturbance.kind, ())):
        child.join(random.uniform(0.0, 0.3) if count else disturbance.at)
        send(child.pid, number, together=disturbance.kind == "interrupted")
    child.join(LIMIT)
    status = child.exitcode
    seconds = time.monotonic() - began
    while (left := members(child.pid)) and status is not None and time.monotonic() - began - seconds < GONE:
        time.sleep(0.01)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    child.join()
    counted = log.with_suffix(".touches")
    touches = int(counted.read_text() or 0) if counted.exists() else 0  # it may be killed here, too
    return Ended(status, log.read_text(errors="replace") if log.exists() else "", seconds, touches, len(left))


def send(pid: int, number: int, *, together: bool) -> None:
    """Send a signal to a process, or to all of its group, if it is still there."""
    try:
        if together and os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        pass


def members(group: int) -> list[int]:
    """The living processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its = path.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(its) == group and state not in "ZX":
            found.append(int(path.parent.name))
    return found


def call(words: list[str], place: Path, log: Path, disturbance: Disturbance) -> None:
    """The command in this process, its output in a file."""
    os.setsid()
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(place)
    # A clock that ticks when it is read: pictures that show seconds are equal, too.
    ticks = itertools.count()
    time.perf_counter = lambda: next(ticks) / 1024
    if disturbance.kind == "cut":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(disturbance.at), resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    touches = Touches(place, disturbance)
    sys.addaudithook(touches)
    os.fsync = touches.fsync
    sys.argv = words
    try:
        importlib.import_module(f"core.scripts.{PROGRAMS[words[0]]}").main()
    finally:
        log.with_suffix(".touches").write_text(str(touches.count))


class Touches:
    """Counts what changes the files below a folder, and is the end of one of them.

    Attributes:
        count: so far.
    """

    def __init__(self, place: Path, disturbance: Disturbance) -> None:
        self.place, self.disturbance, self.count, self.owner = f"{place}/", disturbance, 0, os.getpid()
        self._fsync = os.fsync

    def fsync(self, descriptor: int) -> None:
        """As the system's."""
        self.touch("os.fsync")
        self._fsync(descriptor)

    def __call__(self, event: str, arguments: tuple) -> None:
        """An audit hook, called before what it hears of."""
        if event not in TOUCHES or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITES):
            return
        if os.path.abspath(os.fsdecode(arguments[0])).startswith(self.place):
            self.touch(event)

    def touch(self, event: str) -> None:
        """One more."""
        if os.getpid() != self.owner:  # a copy of an environment
            return
        self.count += 1
        kind, at = self.disturbance.kind, self.disturbance.at
        if kind == "crash" and self.count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        if event in ("os.remove", "os.rmdir"):  # a full disk lets go
            return
        if kind == "failing" and self.count == at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if kind == "full" and self.count >= at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
