"""Checkpoints: dictionaries of state dicts that survive a kill at any moment.

Written to a temporary name, synced and renamed, so that a file under its final name is whole. Sealed with a
digest, so that one that has changed since is not believed. Read with `weights_only=True`: loading a
stranger's file runs no code.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from core.config import ConfigError
from core.errors import ContractError
from core.gradients import GradientStep
from core.run.files import writing
from core.run.seal import seal, unchanged
from core.state import StateDict, Stateful, unreadable

FORMAT = "gradsight-1"
KEPT = ("last.pt", "best.pt")  # of a run


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


def load(path: Path, device: torch.device | str = "cpu") -> StateDict:
    """Read a checkpoint, once it is known to be what was written.

    Raises:
        ConfigError: missing, cut off, changed since, or not a checkpoint of this project; names another
            checkpoint of the run that is whole.
    """
    if not path.is_file():
        raise ConfigError(f"no checkpoint at {path}")
    state = _read(path, device)
    if state is None:
        other = whole_other(path)
        raise ConfigError(
            f"{path} is not a whole checkpoint: it is cut off, damaged or another program's"
            + (f"; {other.name} beside it is whole" if other else "")
        )
    if state.get("format") != FORMAT:
        raise ConfigError(f"{path} is not a checkpoint of gradsight (its format is not {FORMAT})")
    return state


def whole_other(path: Path) -> Path | None:
    """The other checkpoint of the run that this one is of, if it is whole."""
    others = (path.with_name(name) for name in KEPT if path.name in KEPT and path.name != name)
    return next((other for other in others if _read(other) is not None), None)


def _read(path: Path, device: torch.device | str = "cpu") -> StateDict | None:
    """What a file holds, whatever program wrote it; None where it has changed since, or is no checkpoint."""
    try:
        state = torch.load(path, map_location=device, weights_only=True) if unchanged(path) else None
    except Exception:  # a foreign file makes the unpickler raise anything: IndexError, struct.error
        return None
    return state if isinstance(state, dict) else None


def restore(owner: Stateful, state: StateDict, name: str, path: Path) -> None:
    """Load one named state into its owner.

    Raises:
        ConfigError: the checkpoint lacks it, or it belongs to another network.
    """
    if name not in state:
        raise ConfigError(f"{path} has no state named {name!r}; it holds {', '.join(sorted(state))}")
    try:
        owner.load_state_dict(state[name])
    except ContractError:  # an environment that is played up to where it was
        raise
    except (RuntimeError, KeyError, ValueError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{path}: the state {name!r} is of another network or version: {reason[:300]}"
        ) from error
