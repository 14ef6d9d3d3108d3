"""Saving environments in the middle of an episode, bit for bit, and bringing them back.

gymnasium has no way to save an environment. But an environment whose randomness comes from its
`np_random` is a function of that generator's state at the last reset and of the actions since; so a
thin wrapper remembers both, and restoring plays the episode again up to the present. Where that does
not lead to the saved observation (a clock, a global generator, a remote game), the caller learns it.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Protocol

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import VectorEnv


class Snapshots(Protocol):
    """Saves and restores all sub-environments of one vector environment."""

    def save(self) -> list[object]:
        """Plain data: tensors, numbers, strings, lists and dicts."""
        ...

    def restore(self, saved: Sequence[object]) -> tuple[np.ndarray, list[int]]:
        """Bring every environment back.

        Returns:
            The present observations [N, *shape], and the numbers of the environments that could not be brought
            back and have begun a fresh episode instead.
        """
        ...


class Replayable(gym.Wrapper):
    """Remembers how the current episode came about, so that it can be played again.

    Setting `episode` restores: it replays, and from then on the next `reset` and `step` only repeat the
    last outcome without touching the environment. So a vector environment driven once through both
    arrives at the saved moment too, its own autoreset flags included, in whichever process it runs.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._seed: int | None = None
        self._options: dict[str, object] | None = None
        self._generator: Mapping[str, object] = {}
        self._actions: list[object] = []
        self._outcome: tuple[object, float, bool, bool] | None = None
        self._repeat: set[str] = set()
        self.exact = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[object, dict[str, object]]:
        """Start an episode and note what it starts from."""
        if "reset" in self._repeat:
            self._repeat.discard("reset")
            return copy.deepcopy(self._outcome[0]), {}
        self._seed, self._options, self._actions = seed, options, []
        self._generator = copy.deepcopy(self.unwrapped.np_random.bit_generator.state)
        obs, info = self.env.reset(seed=seed, options=options)
        self._outcome = (copy.deepcopy(obs), 0.0, False, False)
        return obs, info

    def step(self, action: object) -> tuple[object, float, bool, bool, dict[str, object]]:
        """Take a step and note its action."""
        if "step" in self._repeat:
            self._repeat.discard("step")
            obs, reward, terminated, truncated = self._outcome
            return copy.deepcopy(obs), reward, terminated, truncated, {}
        self._actions.append(copy.copy(action))
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._outcome = (obs, float(reward), bool(terminated), bool(truncated))
        return obs, reward, terminated, truncated, info

    @property
    def episode(self) -> dict[str, object]:
        """What the episode started from, its actions, and what they led to."""
        obs, reward, terminated, truncated = self._outcome
        return to_plain({
            "seed": self._seed, "options": self._options, "generator": self._generator,
            "actions": np.array(self._actions), "obs": obs, "reward": reward,
            "terminated": terminated, "truncated": truncated,
        })  # fmt: skip

    @episode.setter
    def episode(self, saved: dict[str, object]) -> None:
        state = from_plain(saved)
        self.unwrapped.np_random.bit_generator.state = state["generator"]
        self._repeat = set()
        self.reset(seed=state["seed"], options=state["options"])
        self._generator = state["generator"]
        for action in state["actions"]:
            if self._outcome[2] or self._outcome[3]:
                break  # it ended early: not the same episode
            self.step(action)
        wanted = (state["obs"], state["reward"], state["terminated"], state["truncated"])
        same_length = len(self._actions) == len(state["actions"])
        self.exact = same_length and np.array_equal(self._outcome[0], wanted[0], equal_nan=True)
        self.exact = self.exact and self._outcome[1:] == wanted[1:]
        if not self.exact:
            self.reset()
        self._repeat = {"reset", "step"}


class ReplaySnapshots:
    """Snapshots of a Sync- or AsyncVectorEnv whose sub-environments are `Replayable`.

    Args:
        envs: the vector environment.
    """

    def __init__(self, envs: VectorEnv) -> None:
        self.envs = envs

    def save(self) -> list[object]:
        """One episode per environment."""
        return list(self.envs.get_attr("episode"))

    def restore(self, saved: Sequence[object]) -> tuple[np.ndarray, list[int]]:
        """Replay every episode; one that comes out differently is replaced by a fresh one."""
        self.envs.set_attr("episode", list(saved))
        self.envs.reset()
        # The actions are ignored. Zeros are valid for every supported space, or close enough for that.
        zeros = np.zeros(self.envs.action_space.shape, self.envs.action_space.dtype)
        obs = self.envs.step(zeros)[0]
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
        state = from_plain(saved[0])
        for name in self.NAMES:
            setattr(self.envs, name, state[name])
        self.envs.np_random.bit_generator.state = state["generator"]
        return self.envs.state.T.astype(np.float32), []


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
    if isinstance(envs, (gym.vector.SyncVectorEnv, gym.vector.AsyncVectorEnv)):
        return ReplaySnapshots(envs)
    return NoSnapshots(envs)


def to_plain(value: object) -> object:
    """Arrays as tensors and numpy's numbers as Python's, all the way down: what `torch.load` reads safely."""
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return {"array": torch.from_numpy(np.ascontiguousarray(value).copy()), "shape": list(value.shape)}
    return value.item() if isinstance(value, np.generic) else value


def from_plain(value: object) -> object:
    """The inverse of `to_plain`, up to tuples that came as lists."""
    if isinstance(value, Mapping):
        if value.keys() == {"array", "shape"}:
            return value["array"].numpy().reshape(value["shape"]).copy()
        return {key: from_plain(item) for key, item in value.items()}
    return [from_plain(item) for item in value] if isinstance(value, list) else value
