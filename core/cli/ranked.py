"""A command that torchrun has started several times: what its processes do differently from one alone."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from core.cli.stopping import end_with
from core.config import ConfigError, Tree

if TYPE_CHECKING:
    from core.cli.job import RootConfig


def num_started() -> int:
    """How many processes train together; 1 without torchrun. It is known before torch is imported."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def as_rank(main: Callable[[], int]) -> int:
    """Call `main` as one of the processes that torchrun has started, or just call it; the exit status."""
    if num_started() == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return main()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with(os.getppid())  # before torch is imported, which takes seconds
        _require_torchrun()
    from core.run.ranks import distributed

    with distributed():
        if status := main():
            sys.exit(status)
    return 0


def _require_torchrun() -> None:
    """End this process where torchrun, which listens before it starts the ranks, died before this one looked.

    Its store would be waited for, for minutes, and cannot be asked who speaks: the first rank does.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        try:
            address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            socket.create_connection(address, timeout=30).close()
        except OSError:
            first = os.environ.get("RANK") == "0"
            sys.exit("error: torchrun has ended before its ranks had started" if first else 1)


def writes() -> bool:
    """Whether this process makes directories and files: the only one, or the first of several."""
    if num_started() == 1:
        return True
    from core.run.ranks import is_first

    return is_first()


def of_first_rank(directory: Path) -> Path:
    """The first rank's directory: of several processes each would name it after its own clock."""
    if num_started() == 1:
        return directory
    from core.run.ranks import told

    return told(directory)


def say_error(line: str, *, lost: bool = False) -> None:
    """Print one line to stderr; of several ranks that have to say the same, one does; see `once`."""
    if num_started() > 1:
        from core.run.ranks import once

        if not once(line, lost=lost):
            return
    print(f"error: {line}", file=sys.stderr, flush=True)


def refuse_ranks(what: str) -> None:
    """Raise ConfigError under several ranks: `what` takes one process."""
    if num_started() > 1:
        raise ConfigError(f"{what}; start it without torchrun (WORLD_SIZE is {num_started()})")


def check_restarts(*, continuing: bool) -> None:
    """Refuse torchrun's restarts of a command that would not go on where it was.

    Raises:
        ConfigError: the command begins a run; or there are several nodes, whose counts of restarts differ.
    """
    number = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if number and not continuing:
        advice = "leave it out, or type resume=DIR of a run that has begun"
        raise ConfigError(f"--max-restarts={number} would begin this run again: {advice}")
    if number and int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1:
        raise ConfigError(f"--max-restarts={number} is for one node; start the command again with resume=DIR")


def check_ranks(cfg: "RootConfig", module: ModuleType, tree: Tree) -> None:
    """Refuse what several ranks cannot train together; the module of a trainer has `check_ranks(cfg, ranks)`.

    Raises:
        ValueError: one line about the first option that does not fit.
    """
    if num_started() == 1:
        return
    if not hasattr(module, "check_ranks"):
        refuse_ranks("this command trains in one process")
    if cfg.on_finding == "rollback":
        raise ConfigError("on_finding must be report or stop for several ranks, got 'rollback'")
    if ":" in str(tree["device"]):
        raise ConfigError(
            f"device must be cuda for several ranks, which then have one each, got {tree['device']}"
        )
    module.check_ranks(cfg, num_started())
