"""From what a policy chooses to what an environment's action space takes.

The policy counts actions from 0 and lives in [-1, 1]; each class maps that to the environment's own numbers.
"""

import math
from dataclasses import dataclass

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from gradrl.envs.observations import described


@dataclass(frozen=True)
class DiscreteAction:
    """One of `size` actions; the policy counts from 0, the environment from `start`.

    Attributes:
        size: A, number of actions.
        start: number of the first in the environment.
    """

    size: int
    start: int

    @property
    def outputs(self) -> int:
        """Numbers that a policy gives: one logit per action."""
        return self.size

    @property
    def limits(self) -> dict[str, float]:
        """entropy_max: the largest entropy of a policy, nats."""
        return {"entropy_max": math.log(self.size)}

    def storage(self, *lead: int) -> NDArray[np.int64]:
        """Room for actions of shape [*lead]."""
        return np.zeros(lead, np.int64)

    def decode(self, action: NDArray[np.int64]) -> NDArray[np.int64]:
        """The policy's actions [N] as the environment's."""
        return action + self.start if self.start else action


class MultiDiscreteAction:
    """Several choices at once; choice k has sizes[k] options.

    Args:
        space: the environment's action space.

    Attributes:
        sizes: number of options of each choice.
        size: K, number of choices.
        outputs: numbers that a policy gives: one logit per option of every choice.
        limits: entropy_max, the largest entropy of a policy, nats.
    """

    def __init__(self, space: spaces.MultiDiscrete) -> None:
        self.sizes: tuple[int, ...] = tuple(space.nvec.reshape(-1).tolist())
        self.size = len(self.sizes)
        self.shape = space.nvec.shape
        self.start = space.start.reshape(-1)
        self.dtype = space.dtype
        self.outputs = sum(self.sizes)
        self.limits = {"entropy_max": sum(math.log(size) for size in self.sizes)}

    def storage(self, *lead: int) -> NDArray[np.int64]:
        """Room for actions of shape [*lead, K]."""
        return np.zeros((*lead, self.size), np.int64)

    def decode(self, action: NDArray[np.int64]) -> NDArray[np.generic]:
        """The policy's actions [N, K] as the environment's [N, *shape]."""
        return (action + self.start).astype(self.dtype).reshape(len(action), *self.shape)


class MultiBinaryAction:
    """Several switches, each 0 or 1.

    Args:
        space: the environment's action space.

    Attributes:
        size: K, number of switches.
        outputs: numbers that a policy gives: one logit per switch.
        limits: entropy_max, the largest entropy of a policy, nats.
    """

    def __init__(self, space: spaces.MultiBinary) -> None:
        self.shape = space.shape
        self.size = int(np.prod(space.shape))
        self.dtype = space.dtype
        self.outputs = self.size
        self.limits = {"entropy_max": self.size * math.log(2)}

    def storage(self, *lead: int) -> NDArray[np.int64]:
        """Room for actions of shape [*lead, K]."""
        return np.zeros((*lead, self.size), np.int64)

    def decode(self, action: NDArray[np.int64]) -> NDArray[np.generic]:
        """The policy's actions [N, K] as the environment's [N, *shape]."""
        return action.astype(self.dtype).reshape(len(action), *self.shape)


class BoxAction:
    """A vector whose bounded elements span [-1, 1] for the policy, so that std 1 fits every environment.

    A bounded element maps linearly to [low, high] and is clipped there: the policy may mean more than
    the environment can do. An element without a bound on one side or both keeps the environment's unit, and
    so does one whose bounds only stand for infinity: the largest of its dtype, or what float32 cannot square.

    Args:
        space: the environment's action space.

    Attributes:
        size: A, numbers per action.
        bounded: whether every element has both bounds.
        outputs: numbers that a policy gives: one mean per element.
        limits: action_size, numbers per action.
    """

    def __init__(self, space: spaces.Box) -> None:
        low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
        largest = min(np.finfo(str(space.dtype)).max, np.sqrt(np.finfo(np.float32).max))
        bounded = (low > -largest) & (high < largest)
        self.size = int(low.size)
        self.shape = space.shape
        self.dtype = space.dtype
        self.bounded = bool(bounded.all())
        self.low, self.high = space.low.reshape(-1), space.high.reshape(-1)
        span = np.subtract(high, low, out=np.full_like(low, 2.0), where=bounded)
        self.scale = (span / 2).astype(np.float32)
        self.centre = np.where(bounded, low + span / 2, 0.0).astype(np.float32)
        self.outputs = self.size
        self.limits = {"action_size": float(self.size)}

    def storage(self, *lead: int) -> NDArray[np.float32]:
        """Room for actions of shape [*lead, A]."""
        return np.zeros((*lead, self.size), np.float32)

    def decode(self, action: NDArray[np.float32]) -> NDArray[np.generic]:
        """The policy's actions [N, A] as the environment's [N, *shape]."""
        scaled = (action * self.scale + self.centre).clip(self.low, self.high)
        return scaled.astype(self.dtype).reshape(len(scaled), *self.shape)


Action = DiscreteAction | MultiDiscreteAction | MultiBinaryAction | BoxAction


def action_decoder(space: spaces.Space) -> Action:
    """What turns the policy's actions into this space's.

    Raises:
        ValueError: the space is not supported; one line that names it.
    """
    if isinstance(space, spaces.Discrete):
        return DiscreteAction(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        return MultiDiscreteAction(space)
    if isinstance(space, spaces.MultiBinary):
        return MultiBinaryAction(space)
    if isinstance(space, spaces.Box):
        if not np.issubdtype(space.dtype, np.floating):
            raise ValueError(f"Box actions must be floating point, this space has dtype {space.dtype}")
        if np.prod(space.shape) == 0:
            raise ValueError("the action space Box has no elements")
        return BoxAction(space)
    raise ValueError(
        f"action spaces must be Discrete, MultiDiscrete, MultiBinary or Box, this one is {described(space)}"
    )
