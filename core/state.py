"""What a saved state is made of."""

import copy
import io
from collections import OrderedDict
from typing import Any, Protocol

import torch
from torch import Tensor

# Tensors, numbers, strings, None, and lists, tuples and dictionaries of them: what
# `torch.load(weights_only=True)` reads. `Any`, because the structure is each owner's own business.
StateDict = dict[str, Any]

UNCHANGING = (bool, int, float, str, bytes, type(None))


class Stateful(Protocol):
    """Anything with a state that a resumed run must restore."""

    def state_dict(self) -> StateDict:
        """Tensors, numbers, strings, None, and lists and dictionaries of them."""
        ...

    def load_state_dict(self, state: StateDict, /) -> object:
        """Continue from `state_dict`."""
        ...


def copied(state: Any, device: torch.device | None = None) -> Any:
    """A copy of a state or of a part of it; its tensors on `device`, or where they are.

    What `copy.deepcopy` gives, in a tenth of its time. Objects that a state of ours never holds (a third
    party's optimizer may keep a deque) are left to it, on the device where they are.
    """
    kind = type(state)
    if kind in UNCHANGING:
        return state
    if isinstance(state, Tensor):
        return state.detach().to(device or state.device, copy=True)
    if kind in (dict, OrderedDict):
        return kind((key, copied(value, device)) for key, value in state.items())
    if kind in (list, tuple):
        return kind(copied(value, device) for value in state)
    return copy.deepcopy(state)


def unreadable(state: Any, place: str = "") -> str | None:
    """Where a state holds something that `torch.load(weights_only=True)` does not read; None = nowhere.

    Args:
        state: a state or a part of it.
        place: the keys that lead to it, as in "['state'][0]".

    Returns:
        The first such place, and the class of what is there: "['state'][0] is a collections.deque".
    """
    kind = type(state)
    if kind in UNCHANGING or kind is Tensor:
        return None
    if kind in (dict, OrderedDict):
        inside = [(key, key) for key in state] + list(state.items())
    elif kind in (list, tuple):
        inside = list(enumerate(state))
    else:
        return None if _reads_back(state) else f"{place} is a {kind.__module__}.{kind.__qualname__}"
    found = (unreadable(value, f"{place}[{key!r}]") for key, value in inside)
    return next((each for each in found if each), None)


def _reads_back(part: object) -> bool:
    file = io.BytesIO()
    try:
        torch.save(part, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # the pickler and the unpickler raise many kinds of errors
        return False
    return True
