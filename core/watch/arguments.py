"""What a Watch is made of, and one clear error for each way in which it does not fit together."""

import os
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn

Kind = TypeVar("Kind", nn.Module, torch.optim.Optimizer)


def by_name(argument: str, given: Kind | Mapping[str, Kind], kind: type[Kind]) -> dict[str, Kind]:
    """One thing under an empty name, or several by their own.

    Raises:
        TypeError: it is of another kind.
        ValueError: there are none.
    """
    found = dict(given) if isinstance(given, Mapping) else {"": given}
    wrong = [type(each).__name__ for each in found.values() if not isinstance(each, kind)]
    if wrong:
        raise TypeError(
            f"{argument} must be a {kind.__name__}, or several by name in a dictionary; got {wrong[0]}"
        )
    if not found:
        raise ValueError(f"{argument} is an empty dictionary: there is nothing to watch")
    return {name: _hooked(each) for name, each in found.items()}


def _hooked(thing: Any) -> Any:
    """The optimizer inside of one that has no hooks, as accelerate's; anything else itself."""
    inner = getattr(thing, "optimizer", None)
    bare = isinstance(thing, torch.optim.Optimizer) and not hasattr(thing, "_optimizer_step_pre_hooks")
    return _hooked(inner) if bare and isinstance(inner, torch.optim.Optimizer) else thing


def status_after(error: BaseException | None, otherwise: str) -> str:
    """How a training has ended."""
    if error is None:
        return otherwise
    return "stopped" if isinstance(error, KeyboardInterrupt) else "failed"


def uncaught() -> BaseException | None:
    """The error that ends the interpreter, if one does."""
    return getattr(sys, "last_value", None)


def refuse_strangers(
    models: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> None:
    """Raise ValueError where models have nothing to train, or an optimizer has nothing of theirs."""
    own = {id(p): p for model in models.values() for p in model.parameters()}
    if not any(p.requires_grad for p in own.values()):
        state = "are all frozen (requires_grad=False)" if own else "are none"
        raise ValueError(f"the parameters of the model {state}: there is no gradient to watch")
    for name, optimizer in optimizers.items():
        held = [p for group in optimizer.param_groups for p in group["params"]]
        if not any(id(p) in own for p in held):
            who = f"the optimizer {name!r}" if name else "the optimizer"
            raise ValueError(
                f"{who} holds {len(held)} tensors, and none of them is a parameter of the model: make it "
                "from this model's parameters(), after the last of its parts has been replaced"
            )


def first_rank() -> bool:
    """Whether this process is the one that writes."""
    return torch.distributed.get_rank() == 0 if _in_group() else os.environ.get("RANK", "0") == "0"


def num_ranks() -> int:
    """Processes whose gradients are averaged."""
    return torch.distributed.get_world_size() if _in_group() else 1


def _in_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
