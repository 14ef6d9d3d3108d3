"""Saving environments in the middle of an episode, bit for bit, and bringing them back.

gymnasium has no way to save an environment. But an environment whose randomness comes from its
`np_random` is a function of that generator's state at the last reset and of the actions since; so a
thin wrapper records both, and restoring plays the episode again up to the present. Where that does
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

from core.form import AnyTensor, Anything, Each, Either, Many, Maybe, Number
from core.state import StateDict
from gradrl.envs import contract

ARRAY = {"array": AnyTensor(), "shape": Many(0)}  # as `to_plain` writes it
RECORD_BYTES = 2**18  # of actions, for each copy: the longest episode of an Atari game takes 216 kB


class EnvState(Protocol):
    """Saves and restores all sub-environments of one vector environment."""

    def save(self) -> list[object]:
        """Plain data: tensors, numbers, strings, lists and dicts; None for an episode too long to be kept."""
        ...

    def form(self) -> object:
        """What `save` must have returned."""
        ...

    def restore(self, saved: Sequence[object]) -> tuple[Any, list[int]]:
        """Bring every environment back.

        Returns:
            The present observations as a reset of all would return them, and the numbers of the environments
            that could not be brought back and have begun a fresh episode instead.
        """
        ...


class Outcome(NamedTuple):
    """What the last reset or step returned."""

    obs: Any
    reward: float
    terminated: bool
    truncated: bool


class Origin(gym.Wrapper):
    """Below all wrappers: counts the resets that reach the environment itself, and copies its observations.

    A wrapper may begin an episode without a reset (EpisodicLife); what follows then depends on the steps
    before. A wrapper may keep observations (FrameStackObservation) although the environment writes all
    of them into one buffer.

    Attributes:
        resets: so far.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.resets = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Count, and pass on."""
        self.resets += 1
        obs, info = self.env.reset(seed=seed, options=options)
        return copied(obs), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Pass on."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return copied(obs), reward, terminated, truncated, info


class Replayable(gym.Wrapper):
    """Records everything since the last reset of the environment, so that it can be played again.

    Setting `episode` restores: it replays, and from then on the next `reset` and `step` only repeat the
    last outcome without touching the environment. So a vector environment driven once through both
    arrives at the saved moment too, its own autoreset flags included, in whichever process it runs.

    A record that outgrows RECORD_BYTES is dropped: no checkpoint grows with an episode that never ends.

    Its observations are copies: under SAME_STEP a final one is read only after the reset that follows it. Its
    infos are empty: nobody reads them, and copies whose infos differ in shape could not be batched.

    Args:
        env: the environment, watched by `gradrl.envs.contract`; behind wrappers that hold back resets there
            must be an `Origin` within them.

    Attributes:
        exact: the last restored episode came out as it was saved.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.exact = True
        self._space = env.observation_space
        self._origin = _find_origin(env)
        self._begin: dict[str, Any] = {}
        self._actions: list[Any] | None = []  # None: more than are kept
        self._kept = 0  # bytes of them
        self._resets: list[int] = []  # numbers of actions before each reset that a wrapper held back
        self._outcome = Outcome(None, 0.0, False, False)
        self._repeat: set[str] = set()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode and note what it starts from."""
        if "reset" in self._repeat:
            self._repeat.discard("reset")
            return copied(self._outcome.obs), {}
        generator, hidden = None, None
        if seed is None:  # else it decides, and what was there before it is another in every process
            generator = copy.deepcopy(self.unwrapped.np_random.bit_generator.state)
            hidden = _hidden_state(self.unwrapped)
        before = None if self._origin is None else self._origin.resets
        obs = contract.reset(self.env, self._space, seed=seed, options=options)
        if self._origin is None or self._origin.resets != before:
            self._begin = {"seed": seed, "options": options, "generator": generator, "hidden": hidden}
            self._actions, self._resets, self._kept = [], [], 0
        elif self._actions is not None:
            self._resets.append(len(self._actions))
        self._outcome = Outcome(copied(obs), 0.0, False, False)
        return self._outcome.obs, {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step and note its action."""
        if "step" in self._repeat:
            self._repeat.discard("step")
            return copied(self._outcome.obs), *self._outcome[1:], {}
        if self._actions is not None:
            self._actions.append(copied(action))
            self._kept += getattr(action, "nbytes", 8)
            if self._kept > RECORD_BYTES:
                self._actions, self._resets = None, []
        obs, reward, terminated, truncated = contract.step(self.env, self._space, action)
        self._outcome = Outcome(copied(obs), reward, terminated, truncated)
        return self._outcome.obs, reward, terminated, truncated, {}

    @property
    def episode(self) -> StateDict | None:
        """What the episode started from, its actions, and what they led to; None where it is too long."""
        if self._actions is None:
            return None
        log = {"actions": np.array(self._actions), "resets": self._resets}
        return to_plain(self._begin | self._outcome._asdict() | log)

    @episode.setter
    def episode(self, saved: StateDict | None) -> None:
        self.exact = saved is not None and self._replayed(saved)
        if not self.exact:
            self._repeat = set()
            self.reset(seed=int(self.unwrapped.np_random.integers(2**31)))
        self._repeat = {"reset", "step"}

    def _replayed(self, saved: StateDict) -> bool:
        """Play an episode again; whether it came out as it was saved."""
        state = from_plain(saved)
        wanted = Outcome(**{name: state[name] for name in Outcome._fields})
        self._repeat = set()
        if self._origin is not None:
            self.reset(seed=0)  # a wrapper holds back no reset that has a seed, nor one right after it
        if state["generator"] is not None:
            self.unwrapped.np_random.bit_generator.state = state["generator"]
        _set_hidden_state(self.unwrapped, state["hidden"])
        self.reset(seed=state["seed"], options=state["options"])
        for number in range(len(state["actions"]) + 1):
            if number in state["resets"]:
                self.reset()
            if number == len(state["actions"]) or self._outcome.terminated or self._outcome.truncated:
                break  # where this is not the end of the record, it is not the same episode
            self.step(state["actions"][number])
        return (
            len(self._actions or ()) == len(state["actions"])
            and self._resets == state["resets"]
            and _equal(self._outcome.obs, wanted.obs)
            and self._outcome[1:] == wanted[1:]
        )


def copied(value: Any) -> Any:
    """An observation or an action that shares no memory with this one."""
    if type(value) is np.ndarray:
        return value.copy()
    return value if isinstance(value, np.generic) else copy.deepcopy(value)


def _hidden_state(env: Any) -> np.ndarray | None:
    """The whole state of an Atari console, 14 kB: sticky actions are drawn from a generator within it."""
    if not hasattr(env, "ale"):
        return None
    return np.frombuffer(env.ale.cloneSystemState().__getstate__(), np.uint8)


def _set_hidden_state(env: Any, hidden: np.ndarray | None) -> None:
    if hidden is not None:
        kind: Any = type(env.ale.cloneSystemState())
        state = kind.__new__(kind)
        state.__setstate__(hidden.tobytes())
        env.ale.restoreSystemState(state)


def _find_origin(env: gym.Env) -> Origin | None:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, Origin):
            return env
        env = env.env
    return None


def _equal(first: Any, second: Any) -> bool:
    """Whether two observations are equal to the bit, parts and all; tuples count as lists, NaN equals NaN."""
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)
    if isinstance(first, tuple | list):
        return len(first) == len(second) and all(map(_equal, first, second))
    return np.array_equal(first, second, equal_nan=np.asarray(first).dtype.kind in "fc")


class ReplayedEnvState:
    """The state of a Sync- or AsyncVectorEnv whose sub-environments are `Replayable`.

    Args:
        envs: the vector environment.
    """

    def __init__(self, envs: SyncVectorEnv | AsyncVectorEnv) -> None:
        self.envs = envs

    def save(self) -> list[object]:
        """One episode per environment; nothing where they are closed, after one of them has failed."""
        if self.envs.closed:
            return []
        return list(self.envs.get_attr("episode"))

    def form(self) -> object:
        """An episode for every environment, or none at all; what was seen is compared as it is played."""
        episode = {
            "seed": Maybe(0), "options": Anything(), "generator": Maybe(Each(Anything())),
            "hidden": Maybe(ARRAY), "obs": Anything(), "reward": Number(finite=False),
            "terminated": True, "truncated": True, "actions": ARRAY, "resets": Many(0),
        }  # fmt: skip
        return Either(([Maybe(episode)] * self.envs.num_envs, Many(Anything(), at_most=0)))

    def restore(self, saved: Sequence[object]) -> tuple[Any, list[int]]:
        """Replay every episode; one that comes out differently is replaced by a fresh one."""
        if not saved:
            return NoEnvState(self.envs).restore(saved)
        self.envs.set_attr("episode", list(saved))
        self.envs.reset()
        obs = self.envs.step(self.envs.action_space.sample())[0]  # repeats the outcome; the action is ignored
        return obs, [i for i, exact in enumerate(self.envs.get_attr("exact")) if not exact]


class CartPoleEnvState:
    """The state of gymnasium's native CartPoleVectorEnv: its arrays and its generator.

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

    def form(self) -> object:
        """As they are now."""
        return self.save()

    def restore(self, saved: Sequence[object]) -> tuple[Any, list[int]]:
        """Never fails."""
        self.envs.reset()
        state = from_plain(cast(StateDict, saved[0]))
        for name in self.NAMES:
            setattr(self.envs, name, state[name])
        self.envs.np_random.bit_generator.state = state["generator"]
        return state["state"].T.astype(np.float32), []


class NoEnvState:
    """For vector environments that cannot be saved: every restore starts fresh episodes.

    Args:
        envs: the vector environment.
    """

    def __init__(self, envs: VectorEnv) -> None:
        self.envs = envs

    def save(self) -> list[object]:
        """Nothing."""
        return []

    def form(self) -> object:
        """Nothing is read."""
        return Many(Anything())

    def restore(self, saved: Sequence[object]) -> tuple[Any, list[int]]:
        """Reset all; none could be restored."""
        obs, _ = self.envs.reset()
        return obs, list(range(self.envs.num_envs))


def env_state(envs: VectorEnv) -> EnvState:
    """The way to save this vector environment."""
    if isinstance(envs, CartPoleVectorEnv):
        return CartPoleEnvState(envs)
    if isinstance(envs, (SyncVectorEnv, AsyncVectorEnv)):
        return ReplayedEnvState(envs)
    return NoEnvState(envs)


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
