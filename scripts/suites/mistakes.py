"""Faults for `suite=elsewhere` that no option can make; see `plants.py` for those of `suite=diagnosis`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from core.descend.objectives import Data, DigitsMLP, Forward, Moons
from gradgan.batch import Batch
from gradgan.data import FreshStream, Stream
from gradgan.data.digits import Digits
from gradgan.data.mixtures import Grid
from gradgan.losses.hinge import Hinge
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.networks import Shape
from gradgan.networks.mlp import MLP
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import Action
from gradrl.policies.distributions import Policy
from gradrl.policies.networks import ActorCritic, MLPConfig

# What an agent meets.


class ConstantReward(gym.RewardWrapper):
    """Every step is worth 1."""

    def reward(self, reward: float) -> float:
        """The constant."""
        return 1.0


class ScaledObservation(gym.ObservationWrapper):
    """Observations in other units.

    Args:
        env: observes a vector.
        scale: what it is multiplied by.
    """

    def __init__(self, env: gym.Env, scale: float) -> None:
        super().__init__(env)
        self.scale = scale
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, env.observation_space.shape, np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """The scaled one."""
        return (observation * self.scale).astype(np.float32)


class ConstantObservation(gym.ObservationWrapper):
    """A sensor that always says the same."""

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """Halves."""
        return np.full_like(observation, 0.5)


class NoiseObservation(gym.ObservationWrapper):
    """A sensor that says nothing: uniform noise in [-1, 1]."""

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """Noise."""
        return self.np_random.uniform(-1.0, 1.0, observation.shape).astype(observation.dtype)


class HeldObservation(gym.Wrapper):
    """The observation of the reset is returned again and again: a buffer that nobody fills."""

    def reset(self, **options: Any) -> tuple[Any, dict]:
        """As the environment's."""
        self._held, info = self.env.reset(**options)
        return self._held, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """A step that is not seen."""
        _, reward, terminated, truncated, info = self.env.step(action)
        return self._held, float(reward), terminated, truncated, info


class IgnoredAction(gym.ActionWrapper):
    """The environment does something at random, whatever the agent chose."""

    def action(self, action: Any) -> Any:
        """Another one."""
        return self.env.action_space.sample()


class Unended(gym.Wrapper):
    """The end of an episode is not told: the environment goes on where it should have been reset."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """A step that never terminates."""
        seen, reward, _, truncated, info = self.env.step(action)
        return seen, float(reward), False, truncated, info


class CutShort(gym.Wrapper):
    """Every episode is said to have ended after a few steps.

    Args:
        env: any.
        at: steps.
    """

    def __init__(self, env: gym.Env, at: int) -> None:
        super().__init__(env)
        self.at = at

    def reset(self, **options: Any) -> tuple[Any, dict]:
        """As the environment's."""
        self._steps = 0
        return self.env.reset(**options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """A step, the last one perhaps."""
        self._steps += 1
        seen, reward, terminated, truncated, info = self.env.step(action)
        return seen, float(reward), terminated or self._steps >= self.at, truncated, info


# Networks of an agent.


class CutCritic(ActorCritic):
    """The value is detached: the critic has no gradient at all."""

    def forward(self, obs: Tensor) -> tuple[Policy, Tensor]:
        """Policy and value of rows [B, D]."""
        policy, value = super().forward(obs)
        return policy, value.detach()


class Zeros(ActorCritic):
    """All weights are zeros."""

    def __init__(
        self, cfg: MLPConfig, observation: Observation, action: Action, generator: torch.Generator
    ) -> None:
        super().__init__(cfg, observation, action, generator)
        _fill(self, 0.0)


class Alike(ActorCritic):
    """All weights are 0.1."""

    def __init__(
        self, cfg: MLPConfig, observation: Observation, action: Action, generator: torch.Generator
    ) -> None:
        super().__init__(cfg, observation, action, generator)
        _fill(self, 0.1)


# Games.


@dataclass(frozen=True, kw_only=True)
class ByteDigits(Digits):
    """Real images reach the discriminator as bytes, 0 to 255; the generator makes -1 to 1."""

    def stream(self, batch_size: int, random: torch.Generator, device: torch.device) -> Stream:
        """As in `Digits`, in other units."""
        return _bytes(super().stream(batch_size, random, device))

    def references(
        self, count: int, random: torch.Generator, device: torch.device
    ) -> tuple[Batch, Batch | None]:
        """Likewise."""
        train, held_out = super().references(count, random, device)
        return _as_bytes(train), None if held_out is None else _as_bytes(held_out)


@dataclass(frozen=True, kw_only=True)
class ByteGrid(Grid):
    """Real points reach the discriminator in other units than those of the generator."""

    def stream(self, batch_size: int, random: torch.Generator, device: torch.device) -> Stream:
        """As in `Grid`, in other units."""
        return _bytes(super().stream(batch_size, random, device))


@dataclass(frozen=True, kw_only=True)
class PushedAway(Hinge):
    """The sign of the generator's loss is wrong."""

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """The negative of `Hinge`'s."""
        return -super().generator(fake_logits, real_logits)


@dataclass(frozen=True, kw_only=True)
class HelpsTheOther(NonSaturating):
    """The sign of the generator's loss is wrong."""

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """The negative of `NonSaturating`'s."""
        return -super().generator(fake_logits, real_logits)


@dataclass(frozen=True, kw_only=True)
class SwappedHinge(Hinge):
    """Real samples are labelled as fake ones, fake ones as real."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """With the labels exchanged."""
        return super().discriminator(fake_logits, real_logits)


@dataclass(frozen=True, kw_only=True)
class Swapped(NonSaturating):
    """Real samples are labelled as fake ones, fake ones as real."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """With the labels exchanged."""
        return super().discriminator(fake_logits, real_logits)


class Nothing(nn.Module):
    """Zeros, whatever comes."""

    def forward(self, x: Tensor) -> Tensor:
        """As many."""
        return torch.zeros_like(x)


@dataclass(frozen=True, kw_only=True)
class DeafGenerator(MLP):
    """The latent never reaches the generator."""

    def generator(self, latent_size: int, shape: Shape, random: torch.Generator) -> nn.Module:
        """As in `MLP`, behind zeros."""
        return nn.Sequential(Nothing(), super().generator(latent_size, shape, random))


# Descents.

Mistake = Literal["shuffled", "bytes", "negative", "softmax", "zeros", "alike", "thirty", "one_label"]


@dataclass(frozen=True, kw_only=True)
class MistakenDigits(DigitsMLP):
    """The digits, with a mistake.

    Attributes:
        mistake: which.
    """

    mistake: Mistake

    def load(self) -> Data:
        """As in `DigitsMLP`."""
        return _spoilt(super().load(), self.mistake)

    def make(self, data: Data, random: torch.Generator) -> nn.Module:
        """As in `DigitsMLP`."""
        return _initial(super().make(data, random), self.mistake)

    def loss(self, forward: Forward, x: Tensor, y: Tensor) -> Tensor:
        """As in `DigitsMLP`."""
        return _mistaken(super().loss, self.mistake, forward, x, y)


@dataclass(frozen=True, kw_only=True)
class MistakenMoons(Moons):
    """The half-moons, with a mistake.

    Attributes:
        mistake: which.
    """

    mistake: Mistake

    def load(self) -> Data:
        """As in `Moons`."""
        return _spoilt(super().load(), self.mistake)

    def make(self, data: Data, random: torch.Generator) -> nn.Module:
        """As in `Moons`."""
        return _initial(super().make(data, random), self.mistake)

    def loss(self, forward: Forward, x: Tensor, y: Tensor) -> Tensor:
        """As in `Moons`."""
        return _mistaken(super().loss, self.mistake, forward, x, y)


def _spoilt(data: Data, mistake: Mistake) -> Data:
    """Samples to learn from that are wrong; those held out are right, but for their units."""
    if mistake == "shuffled":
        order = torch.randperm(len(data.y), generator=torch.Generator().manual_seed(5))
        return data._replace(y=data.y[order])
    if mistake == "thirty":
        return data._replace(x=data.x[:30], y=data.y[:30])
    if mistake == "one_label":
        return data._replace(y=torch.zeros_like(data.y))
    if mistake == "bytes":
        return data._replace(x=127.5 * (data.x + 1), held_out_x=127.5 * (data.held_out_x + 1))
    return data


def _initial(network: nn.Module, mistake: Mistake) -> nn.Module:
    if mistake in ("zeros", "alike"):
        _fill(network, 0.0 if mistake == "zeros" else 0.1)
    return network


def _mistaken(
    loss: Callable[[Forward, Tensor, Tensor], Tensor],
    mistake: Mistake,
    forward: Forward,
    x: Tensor,
    y: Tensor,
) -> Tensor:
    if mistake == "softmax":
        return loss(lambda z: forward(z).softmax(1), x, y)
    found = loss(forward, x, y)
    return -found if mistake == "negative" else found


def _fill(network: nn.Module, value: float) -> None:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("weight"):
                parameter.fill_(value)


def _bytes(stream: Stream) -> Stream:
    return FreshStream(lambda: _as_bytes(stream.next()))


def _as_bytes(batch: Batch) -> Batch:
    return Batch(127.5 * (batch.x + 1), batch.labels)
