"""What the commands call first: Ctrl-C ends them without a trace even while the libraries are imported."""

import gc
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn, TypeVar

Options = TypeVar("Options")


def launch(config_name: str, *, by_id: str | None = None) -> NoReturn:
    """Run a trainer from the command line and exit with its status.

    Args:
        config_name: the root YAML; its `_target_` names the dataclass of all options, whose module also has
            `check(cfg)` (what can be known before a directory is made), `without_effect(cfg)` (options that
            change nothing in this configuration, by dotted name, and why) and `train(cfg, run)`.
        by_id: a group in which `GROUP.id=X` stands for an option without a YAML of its own: it also selects
            `GROUP=by_id`.
    """
    sys.exit(_imported().status_of(config_name, sys.argv[1:], by_id))


def tool(config_name: str, work: Callable[[Options], None]) -> NoReturn:
    """Run a script that makes no run directory: check its configuration, call `work` with it, exit."""
    sys.exit(_imported().status_of_tool(config_name, sys.argv[1:], work))


def outer_tool(
    config_name: str, work: Callable[[Options, list[str], list[Path]], int], refuse: Callable[[], None]
) -> NoReturn:
    """Run a script around a trainer: the words that are no options of its own are the trainer's.

    Args:
        config_name: the root YAML of the script.
        work: called with its options, the trainer's words and the folders of YAML files; returns the status.
        refuse: called before anything is read but flags; raises a ConfigError where a library is missing.
    """
    sys.exit(_imported().status_of_outer(config_name, sys.argv[1:], work, refuse))


def typed_command(arguments: Sequence[str]) -> str:
    """What was typed before these arguments, to be pasted; empty where the process has others.

    `.venv/bin/python scripts/descend.py`, `python -m core.scripts.descend`, or its installed name.
    """
    head = sys.orig_argv[: len(sys.orig_argv) - len(arguments)]
    script = sys.argv[0]
    if list(arguments) != sys.argv[1:] or sys.orig_argv != [*head, *arguments] or script == "-c":
        return ""
    if script.endswith(".py"):  # flags of the interpreter, as torchrun adds them, are left out
        return shlex.join([head[0], *head[-2 if head[-2:-1] == ["-m"] else -1 :]])
    name = os.path.basename(script)
    return shlex.quote(name if shutil.which(name) else script)


def _imported() -> ModuleType:
    """The launcher. A Ctrl-C while it is being imported ends the process at once, nothing has been made."""
    gc.disable()  # until `core.cli.allocator.collect_from_now_on`
    if "" not in sys.path:  # the folder of the command: classes of the user's own are found in it
        sys.path.append("")
    before = signal.signal(signal.SIGINT, lambda number, _: os._exit(128 + number))
    from core.cli import launch as launcher

    signal.signal(signal.SIGINT, before)
    return launcher
