"""Spaces as plain containers and back: a policy can be used where its environment is not installed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from gradrl.envs.observations import described

MOST = 2**27  # elements of a space that is read: a file shall not make this process ask for all its memory

Plain = dict[str, Any]


def to_plain(space: spaces.Space) -> Plain:
    """A space as JSON can hold it; null for a bound stands for none.

    Raises:
        ValueError: it is of no supported kind.
    """
    if isinstance(space, spaces.Box):
        bounds = {name: _bounds(getattr(space, name)) for name in ("low", "high")}
        return {"kind": "Box", "shape": list(space.shape), "dtype": str(space.dtype), **bounds}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        numbers = {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
        return {"kind": "MultiDiscrete", "dtype": str(space.dtype), **numbers}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.shape)}
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "spaces": {key: to_plain(inner) for key, inner in space.spaces.items()}}
    if isinstance(space, spaces.Tuple):
        return {"kind": "Tuple", "spaces": [to_plain(inner) for inner in space.spaces]}
    raise ValueError(f"{described(space)} cannot be written down")


def from_plain(plain: Mapping[str, Any]) -> spaces.Space:
    """The space that `to_plain` wrote down.

    Raises:
        ValueError: it is none; one line.
    """
    try:
        return _space(plain)
    except Exception as error:  # a file may hold anything, and gymnasium asserts
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"no space: {reason[:200]}") from error


def _space(plain: Mapping[str, Any]) -> spaces.Space:
    kind = plain["kind"]
    if kind == "Box":
        shape, dtype = _shape(plain["shape"]), np.dtype(plain["dtype"])
        low, high = (
            _array(plain[name], shape, dtype, none) for name, none in (("low", -math.inf), ("high", math.inf))
        )
        return spaces.Box(low, high, shape, dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(_few(plain["n"]), start=int(plain["start"]))
    if kind == "MultiDiscrete":
        nvec = np.array(plain["nvec"], np.int64)
        _few(int(nvec.sum()))
        return spaces.MultiDiscrete(nvec, dtype=np.dtype(plain["dtype"]).type, start=np.array(plain["start"]))
    if kind == "MultiBinary":
        n = plain["n"]
        return spaces.MultiBinary(_few(n) if isinstance(n, int) else _shape(n))
    if kind == "Dict":
        return spaces.Dict([(str(key), _space(inner)) for key, inner in plain["spaces"].items()])
    if kind == "Tuple":
        return spaces.Tuple([_space(inner) for inner in plain["spaces"]])
    raise ValueError(f"unknown kind {kind!r}")


def _bounds(bound: np.ndarray) -> float | list[float | None] | None:
    """All elements, or the one that all are equal to."""
    numbers = [x if math.isfinite(x) else None for x in bound.reshape(-1).tolist()]
    return numbers[0] if numbers and all(x == numbers[0] for x in numbers) else numbers


def _array(
    bound: float | Sequence[float | None] | None, shape: tuple[int, ...], dtype: np.dtype, none: float
) -> np.ndarray:
    many = bound if isinstance(bound, Sequence) else [bound]
    numbers = np.array([none if x is None else x for x in many], dtype)
    return np.full(shape, numbers[0]) if len(numbers) == 1 else numbers.reshape(shape)


def _shape(shape: Sequence[int]) -> tuple[int, ...]:
    _few(math.prod(shape))
    return tuple(int(size) for size in shape)


def _few(count: int) -> int:
    if not 0 <= count <= MOST:
        raise ValueError(f"{count} elements are more than any space of ours has")
    return count
