"""From gymnasium's observation spaces to flat rows, one per environment.

Everything between an environment and the network is one row of numbers, so that rollouts, replay and
normalisation know nothing of spaces; the network knows which columns are an image, which a vector, and which
say what actions are allowed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from core.errors import ContractError

IMAGE_SIDE = 36  # a uint8 array of rank 3 is an image if its middle axis and one other are at least this
MASK = "action_mask"  # key of a Dict whose value says which actions are allowed

Row = NDArray[Any]


@dataclass(frozen=True)
class Part:
    """Columns of a row that belong together.

    Attributes:
        kind: "image" or "vector".
        shape: (C, H, W) of an image, (size,) of a vector.
        start: first column.
        stop: behind the last.
    """

    kind: Literal["vector", "image"]
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Leaf:
    """One space without parts: where it is found, and how it becomes columns.

    Attributes:
        path: keys and positions that lead to it through Dict and Tuple.
        kind: "image", "vector" or "mask".
        shape: of the part, (C, H, W) or (size,).
        encode: batched values [N, *shape] to rows [N, size].
        dtype: the smallest that holds it: uint8 for images and masks, else float32, or float64 where float32
            would round (float64, integers of 32 and 64 bits).
        space: the space itself.
    """

    path: tuple[str | int, ...]
    kind: Literal["vector", "image", "mask"]
    shape: tuple[int, ...]
    encode: Callable[[NDArray[Any]], Row]
    dtype: np.dtype
    space: spaces.Space

    @property
    def size(self) -> int:
        """Columns."""
        return int(np.prod(self.shape))


class Observation:
    """Encodes the observations of one space.

    `Box` becomes a vector (an image stays one, channels first), `Discrete` and `MultiDiscrete` one-hot,
    `MultiBinary` a vector of 0 and 1; `Dict` and `Tuple`, nested too, the parts of the above side by side.
    The entry `action_mask` of a Dict, 1 for every action that is allowed, is kept apart from what the network
    sees.

    Args:
        space: the environment's, of one copy.

    Attributes:
        size: D, columns of a row.
        dtype: what the network sees: uint8 where every part is an image of bytes, else float32.
        raw_dtype: of the encoded rows; float64 where float32 would round. Seconds since 1970 differ by less
            than float32 can tell, so rows are normalised first and rounded then.
        parts: what the network sees.
        mask: columns of the mask of allowed actions; None without one.

    Raises:
        ValueError: the space, or one inside it, is not supported; one line that names it.
    """

    def __init__(self, space: spaces.Space) -> None:
        leaves = sorted(_leaves(space), key=lambda leaf: leaf.kind == "mask")  # stable: the mask comes last
        seen = [leaf for leaf in leaves if leaf.kind != "mask"]
        if not seen or any(leaf.size == 0 for leaf in leaves):
            raise ValueError(f"the observation space {described(space)} has no elements")
        stops = np.cumsum([leaf.size for leaf in leaves]).tolist()
        columns = [slice(stop - leaf.size, stop) for leaf, stop in zip(leaves, stops, strict=True)]
        self.leaves = list(zip(leaves, columns, strict=True))
        self.size = int(stops[-1])
        self.raw_dtype = max((leaf.dtype for leaf in leaves), key=lambda dtype: dtype.itemsize)
        self.dtype = min(self.raw_dtype, np.dtype(np.float32), key=lambda dtype: dtype.itemsize)
        self.parts = tuple(
            Part(leaf.kind, leaf.shape, c.start, c.stop) for leaf, c in self.leaves if leaf.kind != "mask"
        )
        self.mask = columns[-1] if leaves[-1].kind == "mask" else None
        self._only = leaves[0] if len(leaves) == 1 and not leaves[0].path else None

    def encode(self, obs: Any) -> Row:
        """Observations of N copies (an array [N, ...], or a dict or tuple of such) as rows [N, D].

        Raises:
            ContractError: an integer is outside its Discrete or MultiDiscrete space.
        """
        if self._only is not None:
            return self._only.encode(np.asarray(obs))
        return self.join([np.asarray(find(obs, leaf.path)) for leaf, _ in self.leaves])

    def join(self, values: Sequence[NDArray[Any]]) -> Row:
        """Batched values of all leaves, [N, *shape] each, as rows [N, D]; errors as `encode`."""
        if self._only is not None:
            return self._only.encode(values[0])
        rows = np.empty((len(values[0]), self.size), self.raw_dtype)
        for (leaf, columns), value in zip(self.leaves, values, strict=True):
            rows[:, columns] = leaf.encode(value)
        return rows

    def encode_one(self, obs: Any) -> Row:
        """The observation of one copy as a row [D]."""
        return self.encode(_batch_of_one(obs))[0]


def _leaves(space: spaces.Space, path: tuple[str | int, ...] = ()) -> Iterator[Leaf]:
    """The spaces inside a space, in their own order."""
    if isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for i, inner in enumerate(space.spaces):
            yield from _leaves(inner, (*path, i))
    elif path == (MASK,):
        yield _mask(space)
    else:
        yield _leaf(space, path)


def unscaled_images(space: spaces.Space) -> bool:
    """Whether there are images of numbers up to 255 among the observations that are no bytes.

    Only bytes are taken as images and scaled.
    """
    inner = space.spaces if isinstance(space, (spaces.Dict, spaces.Tuple)) else None
    if inner is not None:
        return any(map(unscaled_images, inner.values() if isinstance(inner, Mapping) else inner))
    if not isinstance(space, spaces.Box) or len(space.shape) != 3 or space.dtype == np.uint8:
        return False
    first, middle, last = space.shape
    return min(middle, max(first, last)) >= IMAGE_SIDE and bool((space.high == 255).all())


def _leaf(space: spaces.Space, path: tuple[str | int, ...]) -> Leaf:
    float32 = np.dtype(np.float32)
    if isinstance(space, spaces.Box):
        kind = float32 if np.can_cast(space.dtype, float32) else np.dtype(np.float64)
        if space.dtype == np.uint8 and len(space.shape) == 3:
            first, middle, last = space.shape
            if min(middle, max(first, last)) >= IMAGE_SIDE:
                return _image(space, path)
        flat = _flat if kind == float32 else _flat_wide
        return Leaf(path, "vector", (int(np.prod(space.shape)),), flat, kind, space)
    if isinstance(space, spaces.Discrete):
        one_hot = _one_hot([int(space.n)], [int(space.start)])
        return Leaf(path, "vector", (int(space.n),), one_hot, float32, space)
    if isinstance(space, spaces.MultiDiscrete):
        one_hot = _one_hot(space.nvec.reshape(-1).tolist(), space.start.reshape(-1).tolist())
        return Leaf(path, "vector", (int(space.nvec.sum()),), one_hot, float32, space)
    if isinstance(space, spaces.MultiBinary):
        return Leaf(path, "vector", (int(np.prod(space.shape)),), _flat, float32, space)
    where = f" at {'.'.join(map(str, path))}" if path else ""
    hint = "; gymnasium.wrappers.FilterObservation in env.wrappers leaves it out" if len(path) == 1 else ""
    raise ValueError(
        "observation spaces must be Box, Discrete, MultiDiscrete, MultiBinary, or Dict or Tuple of these; "
        f"this one{where} is {described(space)}{hint}"
    )


def _mask(space: spaces.Space) -> Leaf:
    if not isinstance(space, spaces.Box | spaces.MultiBinary):
        raise ValueError(f"{MASK} must be a Box or MultiBinary of 0 and 1, this one is {described(space)}")
    return Leaf((MASK,), "mask", (int(np.prod(space.shape)),), _flags, np.dtype(np.uint8), space)


def _image(space: spaces.Box, path: tuple[str | int, ...]) -> Leaf:
    """Channels are the shortest of first and last axis; rows hold them first."""
    shape = space.shape
    first = shape[0] <= shape[2]
    channels_first = shape if first else (shape[2], *shape[:2])
    encode = _bytes if first else _bytes_channels_last
    return Leaf(path, "image", channels_first, encode, np.dtype(np.uint8), space)


def _flat(value: NDArray[Any]) -> Row:
    return value.reshape(len(value), -1).astype(np.float32, copy=False)


def _flat_wide(value: NDArray[Any]) -> Row:
    return value.reshape(len(value), -1).astype(np.float64, copy=False)


def _flags(value: NDArray[Any]) -> Row:
    return value.reshape(len(value), -1) != 0


def _bytes(value: NDArray[Any]) -> Row:
    return value.reshape(len(value), -1)


def _bytes_channels_last(value: NDArray[Any]) -> Row:
    return value.transpose(0, 3, 1, 2).reshape(len(value), -1)


def _one_hot(sizes: list[int], starts: list[int]) -> Callable[[NDArray[Any]], Row]:
    """Integers [N, K] as one-hot columns; integer k has sizes[k] values, counted from starts[k]."""
    first, count, offsets = np.array(starts), np.array(sizes), np.cumsum([0, *sizes[:-1]])
    width = sum(sizes)

    def encode(value: NDArray[Any]) -> Row:
        chosen = value.reshape(len(value), -1).astype(np.int64) - first
        if ((chosen < 0) | (chosen >= count)).any():  # it would be another state's row
            row, column = np.argwhere((chosen < 0) | (chosen >= count))[0]
            raise ContractError(
                f"the environment gave the observation {chosen[row, column] + first[column]}, outside its"
                f" space: {first[column]} to {first[column] + count[column] - 1}"
            )
        columns = chosen + offsets
        rows = np.zeros((len(value), width), np.float32)
        rows[np.arange(len(value))[:, None], columns] = 1.0
        return rows

    return encode


def find(obs: Any, path: tuple[str | int, ...]) -> Any:
    """The part of an observation that keys and positions lead to."""
    for key in path:
        obs = obs[key]
    return obs


def _batch_of_one(obs: Any) -> Any:
    if isinstance(obs, dict):
        return {key: _batch_of_one(value) for key, value in obs.items()}
    if isinstance(obs, tuple):
        return tuple(_batch_of_one(value) for value in obs)
    return np.asarray(obs)[None]


def described(space: spaces.Space) -> str:
    """A space's kind and, briefly, its content: spaces print over many lines."""
    text = " ".join(str(space).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
