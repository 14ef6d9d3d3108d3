"""A run in a process that another has started: it stops when that one dies, or when it is told to."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.run.interrupts import SIGNALS

POLL_S = 0.5
LEFT_S = 30.0  # between the death of the other process and the end of this one, whatever it does

_bound = False  # `end_with` watches over this process


def end_with(parent: int) -> None:
    """Bind this process to the one that has started it: it gets a SIGTERM when that one dies, and ends.

    A run answers with a checkpoint. To be called early: what dies before is not seen by its child.

    Args:
        parent: the other process.
    """
    global _bound
    _bound = True

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_S)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(LEFT_S)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def answering(answer: Callable[[int, object], None] | None = None) -> Iterator[None]:
    """SIGINT and SIGTERM are answered so; afterwards they go where they went before.

    Args:
        answer: takes the number and the frame; None = as before, until somebody inside takes them over.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        if answer is not None:
            for number in SIGNALS:
                signal.signal(number, answer)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stops_with(marker: Path | None = None) -> Iterator[None]:
    """Send this process one SIGTERM as soon as its parent has died, or a file appears.

    A run answers it with a checkpoint. Ctrl-C in a terminal is then the parent's alone.

    Args:
        marker: the file; None = none.
    """
    parent, over = os.getppid(), threading.Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            orphaned = os.getppid() != parent and not _bound  # which would be told twice
            if orphaned or (marker is not None and marker.exists()):
                os.kill(os.getpid(), signal.SIGTERM)
                return

    with suppress(OSError):  # it leads a group of its own already
        os.setsid()
    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
