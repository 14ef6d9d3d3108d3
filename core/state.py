"""What a saved state is made of."""

from typing import Any, Protocol

# Tensors, numbers, strings, None, and lists, tuples and dictionaries of them: what
# `torch.load(weights_only=True)` reads. `Any`, because the structure is each owner's own business.
StateDict = dict[str, Any]


class Stateful(Protocol):
    """Anything with memory that a resumed run must have back."""

    def state_dict(self) -> StateDict:
        """Tensors, numbers, strings, None, and lists and dictionaries of them."""
        ...

    def load_state_dict(self, state: StateDict, /) -> object:
        """Continue from `state_dict`."""
        ...
