"""Faults that no option can make: classes that `suite=diagnosis` puts in place of healthy ones by `_target_`.

Each is the healthy class but for one mistake of the kind that people make in code of their own.
"""

from dataclasses import dataclass, field

import gymnasium as gym
import torch
from torch import Tensor, nn

from gradgan.losses.nonsaturating import NonSaturating
from gradgan.networks import Shape
from gradgan.networks.mlp import MLP
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import Action
from gradrl.policies.distributions import Policy
from gradrl.policies.networks import ActorCritic, MLPConfig

DEAD_BIAS = -10.0  # no input of the suite's environments lifts a unit above it


class ScaledReward(gym.RewardWrapper):
    """Rewards in other units.

    Args:
        env: any.
        scale: what every reward is multiplied by.
    """

    def __init__(self, env: gym.Env, scale: float) -> None:
        super().__init__(env)
        self.scale = scale

    def reward(self, reward: float) -> float:
        """The scaled one."""
        return float(reward) * self.scale


class BrokenReward(gym.RewardWrapper):
    """A sensor that fails: every reward from some step on is not a number.

    Args:
        env: any.
        at: steps of this copy before the first.
    """

    def __init__(self, env: gym.Env, at: int) -> None:
        super().__init__(env)
        self.at = at
        self.steps = 0

    def reward(self, reward: float) -> float:
        """The reward while the sensor works."""
        self.steps += 1
        return float(reward) if self.steps <= self.at else float("nan")


class DeadUnits(ActorCritic):
    """Initial biases so low that no hidden ReLU is ever above zero."""

    def __init__(
        self, cfg: MLPConfig, observation: Observation, action: Action, generator: torch.Generator
    ) -> None:
        super().__init__(cfg, observation, action, generator)
        for network in (self.actor, self.critic):
            _set_bias(network[0], DEAD_BIAS)


class SaturatedUnits(ActorCritic):
    """Initial weights so large that every tanh is at its end."""

    def __init__(
        self, cfg: MLPConfig, observation: Observation, action: Action, generator: torch.Generator
    ) -> None:
        super().__init__(cfg, observation, action, generator)
        with torch.no_grad():
            for network in (self.actor, self.critic):
                for layer in network[:-1]:
                    if isinstance(layer, nn.Linear):
                        layer.weight.mul_(100.0)


class DetachedCritic(ActorCritic):
    """The critic's hidden layers are cut off from its loss by a forgotten `detach`."""

    def forward(self, obs: Tensor) -> tuple[Policy, Tensor]:
        """Policy and value of rows [B, D]."""
        features = self.trunk(obs)
        hidden = self.critic[:-1](features).detach()
        return self._policy(obs, features), self.critic[-1](hidden)[..., 0]


class FrozenActor(ActorCritic):
    """The actor's first layer was frozen for a test and stayed so."""

    def __init__(
        self, cfg: MLPConfig, observation: Observation, action: Action, generator: torch.Generator
    ) -> None:
        super().__init__(cfg, observation, action, generator)
        self.actor[0].requires_grad_(False)


@dataclass(frozen=True, kw_only=True)
class DeadGenerator(MLP):
    """A generator whose first hidden layer is dead from the start."""

    def generator(self, latent_size: int, shape: Shape, random: torch.Generator) -> nn.Module:
        """As in `MLP`."""
        network = super().generator(latent_size, shape, random)
        assert isinstance(network, nn.Sequential)
        _set_bias(network[0], DEAD_BIAS)
        return network


@dataclass(frozen=True, kw_only=True)
class HalfGradients(MLP):
    """Gradients of both players pass through float16 unscaled: what is below 6e-8 becomes zero."""

    def generator(self, latent_size: int, shape: Shape, random: torch.Generator) -> nn.Module:
        """As in `MLP`."""
        return _in_half(super().generator(latent_size, shape, random))

    def body(self, shape: Shape, random: torch.Generator) -> tuple[nn.Module, int]:
        """As in `MLP`."""
        body, width = super().body(shape, random)
        return _in_half(body), width


@dataclass(frozen=True, kw_only=True)
class Averaged(NonSaturating):
    """Both losses divided by a large number, as a mean over pixels, batch and devices taken twice would.

    Attributes:
        share: what the losses are multiplied by.
    """

    share: float = 1e-6

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """As in `NonSaturating`."""
        return super().discriminator(real_logits, fake_logits) * self.share

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """As in `NonSaturating`."""
        return super().generator(fake_logits, real_logits) * self.share


@dataclass(frozen=True, kw_only=True)
class LogOfZero(NonSaturating):
    """The logarithm of a probability that has become zero: from some update on the loss is not finite.

    Attributes:
        at: evaluations of the discriminator's loss before the first.
    """

    at: int = 600
    _seen: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """As in `NonSaturating`."""
        self._seen.append(1)
        loss = super().discriminator(real_logits, fake_logits)
        broken = len(self._seen) > self.at
        return loss - (0.0 * real_logits.mean()).log() if broken else loss


def _set_bias(layer: nn.Module, value: float) -> None:
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.bias.fill_(value)


def _in_half(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.register_hook(lambda gradient: gradient.half().float())
    return module
