"""Actor and critic: multilayer perceptrons, behind convolutions where observations have images.

Separate by default, because shared layers couple the two losses' scales: the value gradient, in units of
squared return, would drown the policy's. With images they share all layers but the last, for cost.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from core.checks import checked, require
from core.config import Component
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import (
    Action,
    BoxAction,
    DiscreteAction,
    MultiBinaryAction,
    MultiDiscreteAction,
)
from gradrl.experience.rollout import Rollout
from gradrl.policies.actor import Acting, Actor, StatelessActor, acting_by
from gradrl.policies.distributions import (
    LOG_STD,
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    MultiCategorical,
    Policy,
    SquashedGaussian,
)
from gradrl.policies.encoders import ConvolutionConfig, Encoder, initialised, needs_encoder
from gradrl.policies.numpy_policy import Normal, NumpyPolicy, Sampler, sampler_of
from gradrl.policies.own_network import observing
from gradrl.policies.sde import Exploration, drawn_alone, exploration_log_std

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}


@dataclass(frozen=True, kw_only=True)
@checked
class MLPConfig:
    """Shape and initialisation of both networks.

    Attributes:
        hidden_sizes: width of each hidden layer of the actor and of the critic; () gives a linear map.
        activation: between the layers.
        orthogonal: orthogonal weights with gain sqrt(2), 0.01 for the actor's and 1 for the critic's last
            layer, zero biases; otherwise uniform in +-1/sqrt(fan_in), torch's own choice.
        shared: actor and critic share all layers but the last.
        log_std: initial log standard deviation of a Gaussian policy, in units of the action (its box spans
            [-1, 1]). Discrete policies ignore it and what follows, but for the convolutions.
        state_dependent_std: the deviation is an output of the network; otherwise one learnt number per
            element of the action, the same in every state.
        squash: actions are tanh of the Gaussian's; otherwise the environment clips what it cannot do.
        sde: state-dependent exploration, arXiv:2005.05719: the noise is a function of the state, drawn again
            from time to time; `log_std` is then that of the function's weights. It should be lower by half
            the logarithm of their number, or more.
        sde_interval: steps between two draws; None = once per rollout.
        convolutions: for images.
        network: a class of the user's own in place of hidden layers and convolutions, see
            `gradrl.policies.own_network.Network`; None = none.
    """

    hidden_sizes: tuple[Annotated[int, Ge(1)], ...] = (64, 64)
    activation: Literal["tanh", "relu", "elu", "silu"] = "tanh"
    orthogonal: bool = True
    shared: bool = False
    log_std: Annotated[float, Interval(ge=LOG_STD[0], le=LOG_STD[1])] = 0.0
    state_dependent_std: bool = False
    squash: bool = False
    sde: bool = False
    sde_interval: Annotated[int | None, Ge(1)] = None
    convolutions: ConvolutionConfig = field(default_factory=ConvolutionConfig)
    network: Component | None = None

    def __post_init__(self) -> None:
        ok = not (self.sde and self.state_dependent_std)
        require(ok, "sde", self.sde, "false with state_dependent_std")


class ActorCritic(nn.Module):
    """Rows [B, D] to policy and value.

    Args:
        cfg: shape and initialisation.
        observation: what a row is made of.
        action: what the environment takes; decides the kind of policy.
        generator: draws the initial weights, on the CPU.

    Raises:
        ValueError: images are too small, a mask does not fit the actions, or actions without bounds are to
            be squashed.
    """

    def __init__(
        self, cfg: MLPConfig, observation: Observation, action: Action, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.cfg, self.action, self.mask = cfg, action, observation.mask
        _check_mask(observation, action)
        continuous = isinstance(action, BoxAction)
        if continuous and cfg.squash and not action.bounded:
            raise ValueError("policy.squash=true needs actions with bounds; this space lacks some")
        outputs = action.outputs * (2 if continuous and cfg.state_dependent_std else 1)
        if cfg.shared:
            self.trunk = nn.Sequential(*network(cfg, observation, None, 1.0, generator))
            width = _width(self.trunk, observation.size)
            self.actor = mlp((width, outputs), cfg, 0.01, generator)
            self.critic = mlp((width, 1), cfg, 1.0, generator)
        else:
            self.trunk = nn.Sequential()
            self.actor = nn.Sequential(*network(cfg, observation, outputs, 0.01, generator))
            self.critic = nn.Sequential(*network(cfg, observation, 1, 1.0, generator))
        self.log_std: nn.Parameter | None = None
        last = self.actor[-1]
        assert isinstance(last, nn.Linear)
        if continuous and cfg.state_dependent_std:
            with torch.no_grad():
                last.bias[action.size :] = cfg.log_std
        elif continuous:
            shape = (last.in_features, action.size) if cfg.sde else (action.size,)
            self.log_std = nn.Parameter(torch.full(shape, cfg.log_std))

    def policy(self, obs: Tensor) -> Policy:
        """pi(.|s) for rows [B, D]."""
        return self._policy(obs, self.trunk(obs))

    def value(self, obs: Tensor) -> Tensor:
        """V(s), in units of (normalised) return, for rows [..., D]: [...]."""
        return self.critic(self.trunk(obs))[..., 0]

    @torch.no_grad()
    def values(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """V(s_t), and V of the observation that each step led to, [T, N] each."""
        value = self.value(rollout.obs)
        next_value = value[1:]
        if len(rollout.final_obs):
            next_value = rollout.next_value(value, self.value(rollout.final_obs))
        return value[:-1], next_value

    def forward(self, obs: Tensor) -> tuple[Policy, Tensor]:
        """Policy and value of rows [B, D]."""
        features = self.trunk(obs)
        return self._policy(obs, features), self.critic(features)[..., 0]

    def shared_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Parameters that both the policy's and the value's loss reach, by name; none when separate."""
        return [(f"trunk.{name}", p) for name, p in self.trunk.named_parameters()]

    def numpy_policy(self) -> NumpyPolicy:
        """The policy as it now is, for acting in NumPy.

        With state-dependent exploration it is the mean alone; the actor adds the noise.
        """
        return NumpyPolicy([*self.trunk, *self.actor], sampler=self._sampler(), mask=self.mask)

    def acting(self) -> Acting:
        """The policy as it now is, as a function."""
        policy, sde = self.numpy_policy(), isinstance(self.action, BoxAction) and self.cfg.sde
        sample = drawn_alone(self._exploration(), self.cfg.squash) if sde else policy.sample
        return acting_by(policy.mode, sample)

    def mode(self, rows: Tensor) -> Tensor:
        """The most likely action for rows [B, D]: [B] or [B, A]."""
        return self.policy(rows).mode()

    def make_actor(self, generator: np.random.Generator, *, deterministic: bool = False) -> Actor:
        """The policy at work, sampled or its most likely actions."""
        if isinstance(self.action, BoxAction) and self.cfg.sde and not deterministic:
            return Exploration(self._exploration, generator, self.cfg.sde_interval, self.cfg.squash)
        return StatelessActor(
            self.numpy_policy, generator, deterministic=deterministic, distribution=self.policy
        )

    def _policy(self, obs: Tensor, features: Tensor) -> Policy:
        action = self.action
        if not isinstance(action, BoxAction):
            logits = self.actor(features)
            mask = None if self.mask is None else obs[..., self.mask]
            if isinstance(action, DiscreteAction):
                return Categorical(logits, mask)
            if isinstance(action, MultiDiscreteAction):
                return MultiCategorical(logits, action.sizes, mask)
            return Bernoulli(logits)
        kind = SquashedGaussian if self.cfg.squash else DiagonalGaussian
        if self.log_std is None:
            mean, log_std = self.actor(features).chunk(2, -1)
            return kind(mean, log_std.clamp(*LOG_STD))
        if not self.cfg.sde:
            return kind(self.actor(features), self.log_std)
        for layer in list(self.actor)[:-1]:
            features = layer(features)
        return kind(self.actor[-1](features), exploration_log_std(features, self.log_std))

    def _sampler(self) -> Sampler:
        if isinstance(self.action, BoxAction) and self.cfg.sde:
            return Normal(np.zeros(self.action.size, np.float32), self.cfg.squash)
        return sampler_of(self.action, self.log_std, self.cfg.squash)

    def _exploration(self) -> tuple[NumpyPolicy, NumpyPolicy, Tensor]:
        """Networks up to the last hidden layer and from there, and the exploration's log deviations."""
        assert self.log_std is not None
        body, head = [*self.trunk, *self.actor][:-1], self.actor[-1:]
        return NumpyPolicy(body), NumpyPolicy(list(head)), self.log_std.detach()


def network(
    cfg: MLPConfig,
    observation: Observation,
    outputs: int | None,
    output_gain: float,
    generator: torch.Generator,
) -> list[nn.Module]:
    """Layers from rows to outputs; where `outputs` is None, up to the last hidden one's activation."""
    if cfg.network is not None:
        own = observing(cfg.network, observation, generator)
        return [own] if outputs is None else [own, *mlp((own.size, outputs), cfg, output_gain, generator)]
    layers: list[nn.Module] = []
    size = observation.size
    if needs_encoder(observation):
        encoder = Encoder(cfg.convolutions, observation, cfg.orthogonal, generator)
        layers.append(encoder)
        size = encoder.size
    sizes = (size, *cfg.hidden_sizes)
    if outputs is not None:
        return [*layers, *mlp((*sizes, outputs), cfg, output_gain, generator)]
    if cfg.hidden_sizes:
        layers += [*mlp(sizes, cfg, math.sqrt(2), generator), ACTIVATIONS[cfg.activation]()]
    return layers


def mlp(
    sizes: Sequence[int], cfg: MLPConfig, output_gain: float, generator: torch.Generator
) -> nn.Sequential:
    """Linear layers between consecutive sizes, with the activation between them and none at the end."""
    layers: list[nn.Module] = []
    last = len(sizes) - 2
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        gain = output_gain if i == last else math.sqrt(2)
        make = partial(nn.Linear, fan_in, fan_out)
        layers.append(initialised(make, cfg.orthogonal, generator, gain))
        if i < last:
            layers.append(ACTIVATIONS[cfg.activation]())
    return nn.Sequential(*layers)


def _width(layers: nn.Sequential, inputs: int) -> int:
    """Numbers that come out of layers: as many as the last linear one or encoder gives."""
    for layer in layers:
        inputs = getattr(layer, "out_features", getattr(layer, "size", inputs))
    return inputs


def _check_mask(observation: Observation, action: Action) -> None:
    """Raise ValueError where there is a mask that does not have one element per logit."""
    if observation.mask is None:
        return
    if isinstance(action, BoxAction | MultiBinaryAction):
        raise ValueError("an action_mask needs Discrete or MultiDiscrete actions")
    length = observation.mask.stop - observation.mask.start
    if length != action.outputs:
        raise ValueError(f"the action_mask has {length} elements for {action.outputs} actions to choose from")
