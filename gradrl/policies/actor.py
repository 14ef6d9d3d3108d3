"""What chooses the actions while experience is collected or a policy is evaluated.

An actor may have a state (a recurrent state, exploration noise); it is told which observations start an
episode, and its state is saved with the run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from core.state import StateDict, Stateful
from gradrl.experience.normalize import ObservationNormalizer, as_seen
from gradrl.policies.distributions import Policy
from gradrl.policies.numpy_policy import Array, NumpyPolicy


class Actor(Stateful, Protocol):
    """Chooses actions for N environments that step together."""

    def begin(self, num_envs: int) -> None:
        """Take over the model's parameters as they now are; called before every rollout.

        Args:
            num_envs: N, the same every time; the state of each environment is kept.
        """
        ...

    def __call__(self, obs: Array, episode_start: NDArray[np.bool_]) -> np.ndarray:
        """One action per environment.

        Args:
            obs: encoded observations, [N, D].
            episode_start: the observation is the first of an episode, [N].

        Returns:
            The policy's actions, [N] or [N, A].
        """
        ...

    @property
    def recurrent_state(self) -> Array:
        """The recurrent state of each environment, [N, M]; M = 0 for a policy without one."""
        ...


@dataclass(frozen=True)
class Acting:
    """A policy as it now is, as a function: its state goes in and comes out, so threads may share it.

    Attributes:
        state_size: M, numbers of the recurrent state; 0 without one.
        step: rows as the network sees them [N, D], states [N, M] and what draws the actions (None = the most
            likely ones) to actions [N] or [N, A] and the next states.
    """

    state_size: int
    step: Callable[[Array, Array, np.random.Generator | None], tuple[np.ndarray, Array]]


def acting_by(
    mode: Callable[[Array], np.ndarray], sample: Callable[[Array, np.random.Generator], np.ndarray]
) -> Acting:
    """A policy whose actions follow from the observation alone: the most likely one, or a drawn one."""
    return Acting(
        0, lambda rows, state, random: (mode(rows) if random is None else sample(rows, random), state)
    )


class StatelessActor:
    """Each action follows from its observation alone.

    Args:
        numpy_policy: gives the policy as it now is.
        generator: draws the actions.
        deterministic: the most likely action instead of a random one.
        distribution: the same policy for tensors, from rows [N, D] on the network's device to pi(.|s); None =
            it acts in NumPy alone.
    """

    def __init__(
        self,
        numpy_policy: Callable[[], NumpyPolicy],
        generator: np.random.Generator,
        *,
        deterministic: bool = False,
        distribution: Callable[[Tensor], Policy] | None = None,
    ) -> None:
        self.numpy_policy = numpy_policy
        self.generator = generator
        self.deterministic = deterministic
        self.distribution = distribution

    def begin(self, num_envs: int) -> None:
        """Take over the parameters."""
        self.policy = self.numpy_policy()
        self.recurrent_state: Array = np.zeros((num_envs, 0), np.float32)

    def __call__(self, obs: Array, episode_start: NDArray[np.bool_]) -> np.ndarray:
        """Sampled or most likely actions, [N] or [N, A]."""
        return self.policy.mode(obs) if self.deterministic else self.policy.sample(obs, self.generator)

    def state_dict(self) -> StateDict:
        """Nothing: the generator is saved by its owner."""
        return {}

    def load_state_dict(self, state: StateDict) -> None:
        """Nothing to do."""


def distribution_of(actor: Actor) -> Callable[[Tensor], Policy] | None:
    """The policy of an actor for tensors; None where it has a state, or noise, or acts in NumPy alone."""
    if not isinstance(actor, StatelessActor) or actor.deterministic:
        return None
    return actor.distribution


class RawObservationActor:
    """An actor that sees raw encoded observations as a training does.

    Args:
        actor: chooses.
        normalizer: used, not moved; None where the training had none.
    """

    def __init__(self, actor: Actor, normalizer: ObservationNormalizer | None) -> None:
        self.actor = actor
        self.normalizer = normalizer

    def begin(self, num_envs: int) -> None:
        """Take over the parameters."""
        self.actor.begin(num_envs)

    def __call__(self, obs: Array, episode_start: NDArray[np.bool_]) -> np.ndarray:
        """Actions for raw encoded observations."""
        return self.actor(as_seen(obs, self.normalizer), episode_start)

    @property
    def recurrent_state(self) -> Array:
        """That of the actor."""
        return self.actor.recurrent_state

    def state_dict(self) -> StateDict:
        """That of the actor."""
        return self.actor.state_dict()

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.actor.load_state_dict(state)
