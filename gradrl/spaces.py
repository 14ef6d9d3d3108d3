"""From gymnasium's spaces to the float vectors a network sees and the actions it chooses, and back.

Observations: `Box` (flattened, float32) and `Discrete` (one-hot). Actions: `Discrete` and floating `Box`.
Anything else is refused by name.
"""

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

IMAGE_SIDE = 36  # a uint8 array of rank 3 with sides of at least this is an image


@dataclass(frozen=True)
class BoxObservation:
    """A vector of `size` numbers; arrays of higher rank are flattened.

    Attributes:
        size: D, numbers per observation.
    """

    size: int

    def encode(self, obs: NDArray[np.generic]) -> NDArray[np.float32]:
        """Observations [N, *shape] as [N, D]."""
        return obs.reshape(len(obs), self.size).astype(np.float32, copy=False)


@dataclass(frozen=True)
class DiscreteObservation:
    """One of `size` states numbered from `start`, one-hot.

    Attributes:
        size: number of states.
        start: number of the first.
    """

    size: int
    start: int

    def encode(self, obs: NDArray[np.generic]) -> NDArray[np.float32]:
        """State numbers [N] as one-hot rows [N, size]."""
        encoded = np.zeros((len(obs), self.size), np.float32)
        encoded[np.arange(len(obs)), obs.astype(np.int64) - self.start] = 1.0
        return encoded


@dataclass(frozen=True)
class DiscreteAction:
    """One of `size` actions; the policy counts from 0, the environment from `start`.

    Attributes:
        size: A, number of actions.
        start: number of the first in the environment.
    """

    size: int
    start: int

    def storage(self, *lead: int) -> NDArray[np.int64]:
        """Room for actions of shape [*lead]."""
        return np.zeros(lead, np.int64)

    def decode(self, action: NDArray[np.int64]) -> NDArray[np.int64]:
        """The policy's actions [N] as the environment's."""
        return action + self.start if self.start else action


class BoxAction:
    """A vector whose bounded elements span [-1, 1] for the policy, so that std 1 fits every environment.

    A bounded element maps linearly to [low, high] and is clipped there: the policy may mean more than
    the environment can do. An element without a bound on one side or both keeps the environment's unit.

    Args:
        space: the environment's action space.

    Attributes:
        size: A, numbers per action.
    """

    def __init__(self, space: spaces.Box) -> None:
        low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
        bounded = np.isfinite(low) & np.isfinite(high)
        self.size = int(low.size)
        self.shape = space.shape
        self.dtype = space.dtype
        self.low, self.high = space.low.reshape(-1), space.high.reshape(-1)
        span = np.subtract(high, low, out=np.full_like(low, 2.0), where=bounded)
        self.scale = (span / 2).astype(np.float32)
        self.centre = np.where(bounded, low + span / 2, 0.0).astype(np.float32)

    def storage(self, *lead: int) -> NDArray[np.float32]:
        """Room for actions of shape [*lead, A]."""
        return np.zeros((*lead, self.size), np.float32)

    def decode(self, action: NDArray[np.float32]) -> NDArray[np.generic]:
        """The policy's actions [N, A] as the environment's [N, *shape]."""
        scaled = (action * self.scale + self.centre).clip(self.low, self.high)
        return scaled.astype(self.dtype).reshape(len(scaled), *self.shape)


def observation_encoder(space: spaces.Space) -> BoxObservation | DiscreteObservation:
    """What turns this space's observations into vectors.

    Raises:
        ValueError: the space is not supported; one line that names it.
    """
    if isinstance(space, spaces.Discrete):
        return DiscreteObservation(int(space.n), int(space.start))
    if isinstance(space, spaces.Box):
        if space.dtype == np.uint8 and len(space.shape) == 3 and min(sorted(space.shape)[1:]) >= IMAGE_SIDE:
            raise ValueError(
                f"images of shape {space.shape} need a convolutional policy; policy=mlp takes vectors"
            )
        size = int(np.prod(space.shape))
        if size == 0:
            raise ValueError("the observation space Box has no elements")
        return BoxObservation(size)
    raise ValueError(f"observation spaces must be Box or Discrete, this one is {_name(space)}")


def action_decoder(space: spaces.Space) -> DiscreteAction | BoxAction:
    """What turns the policy's actions into this space's.

    Raises:
        ValueError: the space is not supported; one line that names it.
    """
    if isinstance(space, spaces.Discrete):
        return DiscreteAction(int(space.n), int(space.start))
    if isinstance(space, spaces.Box):
        if not np.issubdtype(space.dtype, np.floating):
            raise ValueError(f"Box actions must be floating point, this space has dtype {space.dtype}")
        if np.prod(space.shape) == 0:
            raise ValueError("the action space Box has no elements")
        return BoxAction(space)
    raise ValueError(f"action spaces must be Discrete or Box, this one is {_name(space)}")


def _name(space: spaces.Space) -> str:
    """A space's kind and, briefly, its content: spaces print over many lines."""
    text = " ".join(str(space).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
