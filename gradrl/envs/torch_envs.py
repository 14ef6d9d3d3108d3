"""N copies of an environment of classic control as one, on any device: no step waits for the host.

Random numbers are SplitMix64 of a key for each copy and of the number of the draw (Steele, Lea and Flood
2014, "Fast splittable pseudorandom number generators"), so a copy's episodes follow from its seed and its
actions alone: not from how many copies there are, nor from the device.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from gymnasium.envs.registration import EnvSpec
from torch import Tensor

from core.state import StateDict
from gradrl.envs.torch_dynamics import (
    Acrobot,
    CartPole,
    Dynamics,
    MountainCar,
    MountainCarContinuous,
    Pendulum,
)

BATCHED: dict[str, type] = {  # by the entry point that gymnasium registers
    f"gymnasium.envs.classic_control.{name}": kind
    for name, kind in {
        "cartpole:CartPoleEnv": CartPole,
        "acrobot:AcrobotEnv": Acrobot,
        "pendulum:PendulumEnv": Pendulum,
        "mountain_car:MountainCarEnv": MountainCar,
        "continuous_mountain_car:Continuous_MountainCarEnv": MountainCarContinuous,
    }.items()
}
# Starts are drawn for several steps at once: for 64 copies that costs a tenth of drawing them step by step.
# For 4,096 copies the numbers of more than a few steps would leave the cache, and cost twice as much.
STEPS_AT_ONCE, STARTS_AT_ONCE = 64, 2**14


class Step(NamedTuple):
    """What a step returned; a copy whose episode has ended has begun the next one.

    Attributes:
        obs: float32, [N, D]; the first of the next episode where one has ended.
        reward: [N].
        terminated: the world ended, bool, [N].
        truncated: the time limit was reached, bool, [N].
        final_obs: what the step led to, before any reset, float32, [N, D].
    """

    obs: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    final_obs: Tensor


class TorchEnvs:
    """Steps N copies and resets each in the step that ends its episode.

    Args:
        dynamics: what happens in them.
        max_episode_steps: an episode is cut off after so many; None = never.
        seeds: one for each copy; N is their number.
        device: where everything is; it needs float64.

    Attributes:
        state: [k, N].
        elapsed: steps of the present episodes, int64, [N].
        block_size: steps whose starts are drawn at once; no number depends on it.
    """

    def __init__(
        self, dynamics: Dynamics, max_episode_steps: int | None, seeds: Sequence[int], device: torch.device
    ) -> None:
        self.dynamics, self.num_envs = dynamics, len(seeds)
        self.limit = sys.maxsize if max_episode_steps is None else max_episode_steps
        self.keys = torch.tensor(seeds, dtype=torch.int64, device=device)
        self.elapsed = torch.zeros_like(self.keys)
        self.drawn = 0  # starts of every copy so far, whether it needed them or not
        self.block_size = min(STEPS_AT_ONCE, max(1, STARTS_AT_ONCE // self.num_envs))
        self._block, self._starts = -1, torch.empty(0)
        self.state = self._fresh().clone()  # a view would be saved with its whole block

    @property
    def obs(self) -> Tensor:
        """The present observations, float32, [N, D]."""
        return self.dynamics.observe(self.state)

    def step(self, action: Tensor) -> Step:
        """Take a step with the environment's own actions, int64 [N] or float32 [N, 1]."""
        state, reward, terminated = self.dynamics.step(self.state, action)
        elapsed = self.elapsed + 1
        truncated = elapsed >= self.limit
        ended = terminated | truncated
        self.state = torch.where(ended, self._fresh(), state)
        self.elapsed = torch.where(ended, 0, elapsed)
        return Step(self.obs, reward, terminated, truncated, self.dynamics.observe(state))

    def close(self) -> None:
        """Nothing to do."""

    def state_dict(self) -> StateDict:
        """The episodes as they are now."""
        return {"state": self.state, "elapsed": self.elapsed, "drawn": self.drawn}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.state, self.elapsed = (state[name].to(self.keys.device) for name in ("state", "elapsed"))
        self.drawn = state["drawn"]

    def _fresh(self) -> Tensor:
        """The first state of an episode that begins now, for every copy, [k, N]."""
        block, place = divmod(self.drawn, self.block_size)
        self.drawn += 1
        if block != self._block:
            shape = (self.block_size, self.dynamics.draws)
            drawn = uniform(self.keys, block * math.prod(shape), math.prod(shape))
            self._starts = self.dynamics.start(drawn.unflatten(0, shape).transpose(0, 1))
            self._block = block
        return self._starts[:, place]


def uniform(keys: Tensor, first: int, count: int) -> Tensor:
    """Numbers of the stream of every key.

    Args:
        keys: int64, [N].
        first: number of the first draw of each stream.
        count: how many.

    Returns:
        Uniform in [0, 1), multiples of 2^-53, float64, [count, N].
    """
    draw = torch.arange(first + 1, first + 1 + count, device=keys.device)
    bits = split_mix(keys + _signed(0x9E3779B97F4A7C15) * draw[:, None])
    return _shifted(bits, 11).double() * 2.0**-53


def split_mix(z: Tensor) -> Tensor:
    """Well mixed bits of int64 numbers, which stand for unsigned ones; sums and products wrap around."""
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, places: int) -> Tensor:
    """To the right, filled with zeros: torch's own shift repeats the sign."""
    return (z >> places) & (2 ** (64 - places) - 1)


def _signed(number: int) -> int:
    """The int64 with the bits of an unsigned number."""
    return number - 2**64 if number >= 2**63 else number


def dynamics_of(spec: EnvSpec, kwargs: Mapping[str, Any]) -> Dynamics:
    """The batched version of a registered environment.

    Args:
        spec: its registration.
        kwargs: its options, as `gymnasium.make` takes them; `max_episode_steps` is left to the caller.

    Raises:
        ValueError: there is none, or not with these options; a clause without the id.
    """
    kind = BATCHED.get(spec.entry_point) if isinstance(spec.entry_point, str) else None
    if kind is None or spec.additional_wrappers:
        raise ValueError("CartPole, Acrobot, Pendulum and MountainCar alone have a batched version")
    given = {**spec.kwargs, **kwargs}
    given.pop("max_episode_steps", None)
    defaults = {field.name: field.default for field in fields(kind)}
    for name, value in given.items():
        if name not in defaults:
            takes = " and ".join(f"env.kwargs.{known}" for known in (*defaults, "max_episode_steps"))
            raise ValueError(f"its batched version takes {takes}, not {name}")
        flag = isinstance(defaults[name], bool)
        if not isinstance(value, int | float) or isinstance(value, bool) != flag:
            raise ValueError(f"env.kwargs.{name} must be {'true or false' if flag else 'a number'}")
    return kind(**given)
