"""What a call depends on, taken apart: the tensors among its arguments, and all that is fixed."""

import dataclasses
from collections.abc import Hashable, Iterator
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor


def leaves(call: "partial[Any]") -> tuple[list[Tensor], list[object], Hashable]:
    """The parts of a `functools.partial` of a function or method.

    Returns:
        Its tensors, in order, a float (the value of a schedule) being a 0-d float64 one; what else is known
        by identity alone; and a key, equal for calls that differ in the tensors' elements and sizes only.
    """
    tensors: list[Tensor] = []
    fixed: list[object] = []
    owner = getattr(call.func, "__self__", None)
    fixed += [call.func, owner]
    key = (
        getattr(call.func, "__func__", call.func),
        id(owner),
        _key((call.args, call.keywords), tensors, fixed),
    )
    return tensors, fixed, key


def with_leaves(call: "partial[Any]", tensors: Iterator[Tensor]) -> "partial[Any]":
    """The same call with other tensors in the place of those that `leaves` has found."""
    return partial(call.func, *_replaced(call.args, tensors), **_replaced(call.keywords, tensors))


def _key(value: object, tensors: list[Tensor], fixed: list[object]) -> Hashable:
    if isinstance(value, Tensor):
        tensors.append(value)
        layout = value.is_contiguous() or value.stride()
        return value.ndim, layout, value.dtype, value.device
    if type(value) is float:
        tensors.append(torch.tensor(value, dtype=torch.float64))
        return float
    if value is None or isinstance(value, bool | int | str):
        return type(value), value
    if isinstance(value, MethodType):  # a new object each time that it is asked for
        fixed.append(value)
        return value.__func__, id(value.__self__)
    parts = _parts(value)
    if parts is None:
        fixed.append(value)
        return id(value)
    return type(value), *((name, _key(part, tensors, fixed)) for name, part in parts.items())


def _replaced(value: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(value, Tensor) or type(value) is float:
        return next(tensors)
    parts = _parts(value)
    if parts is None:
        return value
    new = {name: _replaced(part, tensors) for name, part in parts.items()}
    if isinstance(value, dict):
        return new
    if isinstance(value, tuple | list):
        made = new.values()
        return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
    return dataclasses.replace(value, **new)


def _parts(value: object) -> dict[Any, object] | None:
    """Elements of a container or a dataclass by name; None for all else."""
    if isinstance(value, dict):
        return value
    if isinstance(value, tuple | list):
        return dict(enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None
