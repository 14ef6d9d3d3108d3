"""Runs inside a run: each in its own run directory, which is begun, continued, or left alone if finished."""

import sys
from pathlib import Path

import yaml

from core.cli.job import execute
from core.cli.saved import saved_overrides
from core.cli.stopping import answering
from core.config import ConfigError, Tree
from core.run.checkpoint import begun
from core.run.directory import already_finished, holds_run
from core.run.files import write_text
from core.seeding import global_state, set_global_state


def run_child(options: Tree, directory: Path, total: int) -> int:
    """Run one child to its end, then give signals and global generators back to the run around it.

    Args:
        options: the child's own, resolved.
        directory: where it lives, whatever it has reached so far.
        total: on its x-axis.

    Returns:
        The child's exit status; 0 for one that had ended before, 2 for one whose options cannot be.
    """
    if already_finished(directory, total):
        return 0
    generators = global_state()
    try:
        with answering():
            return execute(options, directory, continuing=begun(directory) or holds_run(directory))
    except ConfigError as error:  # the others go on
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        return 2
    finally:
        set_global_state(generators)


def note_start(parent: Path, name: str, several: str, one: str) -> None:
    """Note in a child's directory how it would be started alone: its report and its remedies say it.

    Args:
        parent: directory of the run around it.
        name: of the child, whose directory is below that.
        several: the option that names the children, `optimizers`.
        one: what it is for one of them, `optimizer`.
    """
    noted = parent / ".hydra" / "hydra.yaml"
    if not noted.exists():
        return
    overrides = []
    for typed in saved_overrides(parent):
        key, _, value = typed.partition("=")
        option = key.lstrip("+")
        if option == several:
            overrides.append(f"{one}={name}")
        elif option.startswith(f"{several}.{name}."):
            overrides.append(f"{key.replace(f'{several}.{name}.', f'{one}.', 1)}={value}")
        elif not option.startswith(f"{several}."):
            overrides.append(typed)
    folder = parent / name / ".hydra"
    write_text(folder / "hydra.yaml", noted.read_text(encoding="utf-8"))
    write_text(folder / "overrides.yaml", yaml.safe_dump(overrides, allow_unicode=True))
