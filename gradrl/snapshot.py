"""Saving environments in the middle of an episode, bit for bit, and bringing them back.

gymnasium has no way to save an environment. But an environment whose randomness comes from its
`np_random` is a function of that generator's state at the last reset and of the actions since; so a
thin wrapper remembers both, and restoring plays the episode again up to the present. Where that does
not lead to the saved observation (a clock, a global generator, a remote game), the caller learns it.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from core.state import StateDict


class Snapshots(Protocol):
    """Saves and restores all sub-environments of one vector environment."""

    def save(self) -> list[object]:
        """Plain data: tensors, numbers, strings, lists and dicts."""
        ...

    def restore(self, saved: Sequence[object]) -> tuple[np.ndarray, list[int]]:
        """Bring every environment back.

        Returns:
            The present observations [N, *shape], and the numbers of the environments that could not be
            brought back and have begun a fresh episode instead.
        """
        ...


class Outcome(NamedTuple):
    """What the last reset or step returned."""

    obs: Any
    reward: float
    terminated: bool
    truncated: bool


class Replayable(gym.Wrapper):
    """Remembers how the current episode came about, so that it can be played again.

    Setting `episode` restores: it replays, and from then on the next `reset` and `step` only repeat the
    last outcome without touching the environment. So a vector environment driven once through both
    arrives at the saved moment too, its own autoreset flags included, in whichever process it runs.

    Attributes:
        exact: the last restored episode came out as it was saved.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.exact = True
        self._begin: dict[str, Any] = {}
        self._actions: list[Any] = []
        self._outcome = Outcome(None, 0.0, False, False)
        self._repeat: set[str] = set()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode and note what it starts from."""
        if "reset" in self._repeat:
            self._repeat.discard("reset")
            return copy.deepcopy(self._outcome.obs), {}
        generator = copy.deepcopy(self.unwrapped.np_random.bit_generator.state)
        self._begin, self._actions = {"seed": seed, "options": options, "generator": generator}, []
        obs, info = self.env.reset(seed=seed, options=options)
        self._outcome = Outcome(copy.deepcopy(obs), 0.0, False, False)
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step and note its action."""
        if "step" in self._repeat:
            self._repeat.discard("step")
            return copy.deepcopy(self._outcome.obs), *self._outcome[1:], {}
        self._actions.append(copy.copy(action))
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._outcome = Outcome(obs, float(reward), bool(terminated), bool(truncated))
        return obs, reward, terminated, truncated, info

    @property
    def episode(self) -> StateDict:
        """What the episode started from, its actions, and what they led to."""
        return to_plain(self._begin | self._outcome._asdict() | {"actions": np.array(self._actions)})

    @episode.setter
    def episode(self, saved: StateDict) -> None:
        state = from_plain(saved)
        wanted = Outcome(**{name: state[name] for name in Outcome._fields})
        self._repeat = set()
        self.unwrapped.np_random.bit_generator.state = state["generator"]
        self.reset(seed=state["seed"], options=state["options"])
        for action in state["actions"]:
            if self._outcome.terminated or self._outcome.truncated:
                break  # it ended early: not the same episode
            self.step(action)
        self.exact = (
            len(self._actions) == len(state["actions"])
            and np.array_equal(self._outcome.obs, wanted.obs, equal_nan=True)
            and self._outcome[1:] == wanted[1:]
        )
        if not self.exact:
            self.reset()
        self._repeat = {"reset", "step"}


class ReplaySnapshots:
    """Snapshots of a Sync- or AsyncVectorEnv whose sub-environments are `Replayable`.

    Args:
        envs: the vector environment.
    """

    def __init__(self, envs: SyncVectorEnv | AsyncVectorEnv) -> None:
        self.envs = envs

    def save(self) -> list[object]:
        """One episode per environment."""
        return list(self.envs.get_attr("episode"))

    def restore(self, saved: Sequence[object]) -> tuple[np.ndarray, list[int]]:
        """Replay every episode; one that comes out differently is replaced by a fresh one."""
        self.envs.set_attr("episode", list(saved))
        self.envs.reset()
        obs = self.envs.step(self.envs.action_space.sample())[0]  # repeats the outcome; the action is ignored
        return obs, [i for i, exact in enumerate(self.envs.get_attr("exact")) if not exact]


class CartPoleSnapshots:
    """Snapshots of gymnasium's native CartPoleVectorEnv: its arrays and its generator.

    Args:
        envs: the vector environment, unwrapped.
    """

    NAMES = ("state", "steps", "prev_done")

    def __init__(self, envs: CartPoleVectorEnv) -> None:
        self.envs = envs

    def save(self) -> list[object]:
        """One entry: the environments share their arrays."""
        arrays = {name: np.array(getattr(self.envs, name)) for name in self.NAMES}
        return [to_plain(arrays | {"generator": self.envs.np_random.bit_generator.state})]

    def restore(self, saved: Sequence[object]) -> tuple[np.ndarray, list[int]]:
        """Never fails."""
        self.envs.reset()
        state = from_plain(cast(StateDict, saved[0]))
        for name in self.NAMES:
            setattr(self.envs, name, state[name])
        self.envs.np_random.bit_generator.state = state["generator"]
        return state["state"].T.astype(np.float32), []


class NoSnapshots:
    """For vector environments that cannot be saved: every restore starts fresh episodes.

    Args:
        envs: the vector environment.
    """

    def __init__(self, envs: VectorEnv) -> None:
        self.envs = envs

    def save(self) -> list[object]:
        """Nothing."""
        return []

    def restore(self, saved: Sequence[object]) -> tuple[np.ndarray, list[int]]:
        """Reset all; none could be restored."""
        obs, _ = self.envs.reset()
        return obs, list(range(self.envs.num_envs))


def snapshots(envs: VectorEnv) -> Snapshots:
    """The way to save this vector environment."""
    if isinstance(envs, CartPoleVectorEnv):
        return CartPoleSnapshots(envs)
    if isinstance(envs, (SyncVectorEnv, AsyncVectorEnv)):
        return ReplaySnapshots(envs)
    return NoSnapshots(envs)


def to_plain(value: Any) -> Any:
    """Arrays as tensors and numpy's numbers as Python's, all the way down: what `torch.load` reads safely."""
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return {"array": torch.from_numpy(np.ascontiguousarray(value).copy()), "shape": list(value.shape)}
    return value.item() if isinstance(value, np.generic) else value


def from_plain(value: Any) -> Any:
    """The inverse of `to_plain`, up to tuples and numpy's numbers."""
    if isinstance(value, Mapping):
        if value.keys() == {"array", "shape"}:
            return value["array"].cpu().numpy().reshape(value["shape"]).copy()
        return {key: from_plain(item) for key, item in value.items()}
    return [from_plain(item) for item in value] if isinstance(value, list) else value
