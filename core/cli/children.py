"""Runs inside a run: each in its own run directory, which is begun, continued, or left alone if finished."""

import signal
import sys
from pathlib import Path

from core.cli.job import execute
from core.config import ConfigError, Tree
from core.run.directory import already_finished, holds_run


def run_child(options: Tree, directory: Path, total: int) -> int:
    """Run one child to its end, then give the signals back to the run around it.

    Args:
        options: the child's own, resolved.
        directory: where it lives, whatever it has reached so far.
        total: on its x-axis.

    Returns:
        The child's exit status; 0 for one that had ended before, 2 for one whose options cannot be.
    """
    if already_finished(directory, total):
        return 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return execute(options, directory, continuing=holds_run(directory))
    except ConfigError as error:  # the others go on
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        return 2
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
