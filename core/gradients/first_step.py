"""What a step's parts keep from step to step, learnt from a first step of a copy.

Optimizers, transforms and what combines losses are anybody's, and begin without a state. A copy of the part
takes one step with a gradient of noise; what it then keeps is what a saved state must look like. Of a part
whose copy takes no such step (sparse gradients, a class that cannot be copied) nothing is known.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from core.form import Anything, Begun, Either, Floats, Many, Maybe, Number, Rows, Scalar, Table
from core.gradients.arguments import step_needs_closure
from core.gradients.norms import GradientView
from core.gradients.transforms.protocol import Combine, Transform
from core.state import StateDict

if TYPE_CHECKING:
    from core.gradients.step import GradientStep

GROUPS = {"state", "param_groups"}  # the state of one of torch's optimizers


def step_form(step: "GradientStep") -> StateDict:
    """The form of the states of a step that has taken none yet."""
    rates: list[object] = [Number(0)] * len(step.base_lrs)
    return {
        "optimizer": optimizer_form(step.optimizer),
        "base_lrs": rates,
        "scaler": step.scaler.state_dict() if step.scaler else None,
        "transforms": Maybe([transform_form(t, step.names, step.parameters) for t in step.transforms]),
        "combine": combine_form(step.combine, step.parameters),
        "monitor": step.monitor.state_form(),
    }


def optimizer_form(optimizer: torch.optim.Optimizer) -> Any:
    """The form of an optimizer's states, and of optimizers inside of it."""
    try:
        first = _copied(optimizer, {})
        for group in first.param_groups:
            for p, noise in zip(group["params"], _noise(group["params"]), strict=True):
                p.grad = noise
        _step(first)
        return _of_optimizer(optimizer.state_dict(), first.state_dict(), optimizer)
    except Exception:  # foreign classes raise what they like
        return _of_optimizer(optimizer.state_dict(), None, optimizer)


def transform_form(transform: Transform, names: Sequence[str], parameters: Sequence[Tensor]) -> Any:
    """The form of a transform's states; a parameter without a gradient may be missing from them."""
    state: StateDict = {}
    try:
        transform(GradientView(list(names), parameters, _noise(parameters)), state)
    except Exception:
        return Anything()
    return Maybe(Begun(Table(_of_transform(state, len(names))))) if state else {}


def combine_form(combine: Combine | None, parameters: Sequence[Tensor]) -> Any:
    """The form of the states of what combines losses."""
    state: StateDict = {}
    if combine is None:
        return state
    try:
        combine.combine({name: _noise(parameters) for name in ("first", "second")}, state)
    except Exception:
        return Anything()
    return Begun(state)


def _of_optimizer(fresh: StateDict, first: StateDict | None, optimizer: torch.optim.Optimizer) -> Any:
    if not fresh.keys() >= GROUPS:
        return {
            key: _of_optimizer(part, first and first[key], optimizer) if isinstance(part, dict) else part
            for key, part in fresh.items()
        }
    return fresh | {
        "state": Anything() if first is None else _of_parameters(first["state"], optimizer),
        "param_groups": [
            {key: _of_option(key, value) for key, value in g.items()} for g in fresh["param_groups"]
        ],
    }


def _of_parameters(first: Mapping[int, StateDict], optimizer: torch.optim.Optimizer) -> dict[int, Maybe]:
    """Of every parameter; one that never had a gradient is missing."""
    total = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    return {
        number: Maybe({name: _of_part(name, value, total) for name, value in kept.items()}, absent=True)
        for number, kept in first.items()
    }


def _of_part(name: str, value: Any, total: int) -> Any:
    """Of one thing that is kept for a parameter.

    LBFGS keeps lists of whole gradients and of numbers, numbers that become tensors, and in `t` either.
    """
    number = Either((Number(), Scalar()))
    if isinstance(value, list):
        return Many(Maybe(Either((Floats((total,)), *number.forms))))
    return number if type(value) in (int, float) or name == "t" else value


def _of_option(name: str, value: Any) -> Any:
    """Of an option of a group; a number written as 1 may have become 0.9."""
    if name == "params" or isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return Number(0 if name == "lr" else float("-inf"))


def _of_transform(state: StateDict, parameters: int) -> StateDict:
    """With any number of rows where there is one for every parameter."""
    return {
        key: Many(value[0]) if isinstance(value, list) and value
        else Rows(value) if isinstance(value, Tensor) and value.dim() and len(value) == parameters
        else value
        for key, value in state.items()
    }  # fmt: skip


def _copied(optimizer: torch.optim.Optimizer, memo: dict[int, Any]) -> torch.optim.Optimizer:
    """A copy over parameters of its own; torch's own way of copying loses what a subclass has added."""
    new = object.__new__(type(optimizer))
    memo[id(optimizer)] = new
    for part in vars(optimizer).values():
        for inside in part.values() if isinstance(part, dict) else [part]:
            if isinstance(inside, torch.optim.Optimizer) and id(inside) not in memo:
                _copied(inside, memo)
            elif isinstance(inside, torch.Generator):
                memo[id(inside)] = inside.clone_state()
    vars(new).update(copy.deepcopy(vars(optimizer), memo))
    return new


def _step(optimizer: torch.optim.Optimizer) -> None:
    if step_needs_closure(type(optimizer)):
        optimizer.step(lambda: 0.0)
    else:
        optimizer.step()


def _noise(parameters: Sequence[Tensor]) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(p.shape, generator=random).to(p.detach()) for p in parameters]
