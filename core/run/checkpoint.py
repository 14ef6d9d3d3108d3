"""Checkpoints: dictionaries of state dicts that survive a kill at any moment.

Written to a temporary name, synced and renamed, so that a file under its final name is whole. Sealed with a
digest, so that one that has changed since is not believed. Read with `weights_only=True`: loading a
stranger's file runs no code.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from core.config import ConfigError
from core.errors import ContractError
from core.form import form_of, require_form
from core.gradients import GradientStep
from core.run.directory import read_summary, resumption
from core.run.files import writing
from core.run.seal import seal, unchanged
from core.state import StateDict, Stateful, unreadable

FORMAT = "gradsight-1"
KEPT = ("last.pt", "good.pt", "best.pt")  # of a run


def require_readable(owner: str, state: object) -> None:
    """Raise ContractError where a state holds what `load` would refuse.

    Args:
        owner: whose state it is, for the message.
        state: a state or a part of it.
    """
    if found := unreadable(state):
        raise ContractError(
            f"the state of {owner} cannot be read back from a checkpoint, so this run could not be resumed: "
            f"state{found}"
        )


def require_readable_steps(steps: Sequence[GradientStep]) -> list[GradientStep]:
    """Look at an optimizer's state when its first step has made it; return those that have taken none yet."""
    for step in steps:
        if step.monitor.steps:
            require_readable(type(step.optimizer).__name__, step.optimizer.state_dict())
    return [step for step in steps if not step.monitor.steps]


def save(path: Path, state: StateDict) -> None:
    """Write `state` so that `path` holds either the old file or the new one, whole.

    Raises:
        ContractError: a part could not be read back. The file holds the others, so that a trained network
            can be used without its optimizer.
    """
    whole = {name: part for name, part in state.items() if not unreadable(part)}
    _write(path, whole)
    for name in state.keys() - whole.keys():
        require_readable(repr(name), state[name])


def _write(path: Path, state: StateDict) -> None:
    with writing(path) as file:
        torch.save({"format": FORMAT} | state, file)
        seal(file)


def load(path: Path, device: torch.device | str = "cpu", *, mmap: bool = False) -> StateDict:
    """Read a checkpoint, once it is known to be what was written.

    Args:
        path: of the checkpoint.
        device: where its tensors are wanted.
        mmap: leave them in the file until they are used.

    Raises:
        ConfigError: missing, cut off, changed since, or not a checkpoint of this project; names another
            checkpoint of the run that is whole.
    """
    state = _read(path, device, mmap) if path.is_file() else None
    if state is None:
        other = whole_other(path)
        raise ConfigError(
            (
                f"{path} is not a whole checkpoint: it is cut off, damaged or another program's"
                if path.is_file()
                else f"no checkpoint at {path}"
            )
            + (f"; {other.name} beside it is whole" if other else "")
        )
    if state.get("format") != FORMAT:
        raise ConfigError(f"{path} is not a checkpoint of gradsight (its format is not {FORMAT})")
    return state


def begun(directory: Path) -> bool:
    """Whether a run has a checkpoint to continue from; one that was killed before its first has none.

    Raises:
        ConfigError: its last checkpoint is damaged, or gone although there was one; says how to continue.
    """
    path = directory / "checkpoints" / "last.pt"
    finished = (read_summary(directory) or {}).get("status") == "finished"
    if not (finished or any(os.path.lexists(path.with_name(name)) for name in KEPT)):
        return False
    try:
        load(path, mmap=True)
    except ConfigError as error:
        if other := whole_other(path):
            copy = shlex.join(["cp", str(other), str(path)])
            words = f"to continue from it: {copy} and then {resumption(directory)}"
            raise ConfigError(f"{error}; {words}") from error
        if finished and not os.path.lexists(path):
            raise ConfigError(f"{error}, although this run has finished; begin another one") from error
        raise
    return True


def whole_other(path: Path) -> Path | None:
    """Another checkpoint of the run that this one is of, the latest that is whole."""
    others = (path.with_name(name) for name in KEPT if path.name in KEPT and path.name != name)
    return next((other for other in others if other.is_file() and _read(other, mmap=True) is not None), None)


def _read(path: Path, device: torch.device | str = "cpu", mmap: bool = False) -> StateDict | None:
    """What a file holds, whatever program wrote it; None where it has changed since, or is no checkpoint."""
    try:
        whole = unchanged(path)
        state = torch.load(path, map_location=device, weights_only=True, mmap=mmap) if whole else None
    except Exception:  # a foreign file makes the unpickler raise anything: IndexError, struct.error
        return None
    return state if isinstance(state, dict) else None


def restore(owner: Stateful, state: StateDict, name: str, path: Path) -> None:
    """Load one named state into its owner, as `restore_all` does."""
    restore_all({name: owner}, state, path)


def restore_all(owners: Mapping[str, Stateful], state: StateDict, path: Path) -> None:
    """Load named states into their owners, once all of them have the form that these need.

    Raises:
        ConfigError: the checkpoint lacks one, or it belongs to another network or is not what was saved.
        ContractError: an environment could not be played up to where it was.
    """
    for name, owner in owners.items():
        if name not in state:
            raise ConfigError(
                f"{path} has no state named {name!r}; it holds {', '.join(sorted(map(str, state)))}"
            )
        try:
            require_form(state[name], form_of(owner))
        except ValueError as error:
            raise _other(path, name, error) from error
    for name, owner in owners.items():
        try:
            owner.load_state_dict(state[name])
        except ContractError:
            raise
        except Exception as error:  # owners may be anybody's, and raise what they like
            raise _other(path, name, error) from error


def name_of(gradient_step: str) -> str:
    """How a checkpoint calls a gradient step, of whatever name."""
    return f"{gradient_step}_gradient_step".lstrip("_")


def step_of(state: StateDict, path: Path) -> int:
    """Where on the x-axis the run of a checkpoint was.

    Raises:
        ConfigError: it does not say so.
    """
    run = state.get("run")
    step = run.get("step") if isinstance(run, dict) else None
    if type(step) is not int or step < 0:
        raise ConfigError(f"{path} does not say at which step of a run it was saved")
    return step


def _other(path: Path, name: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())
    if isinstance(error, KeyError):
        reason = f"it lacks {reason}"
    reason = reason or type(error).__name__
    return ConfigError(f"{path}: the state {name!r} is of another network or version: {reason[:300]}")
