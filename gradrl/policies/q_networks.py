"""Networks of agents that learn action values: an actor, and critics that value its actions.

The critics are separate networks, never layers of one: what makes several of them useful is that they err
independently (Fujimoto et al. 2018, arXiv:1802.09477, section 4.2). Two nn.Sequential take no longer than one
batched product of stacked weights (2 x 256 units, batch 256, one CPU thread), and every layer keeps a
gradient norm of its own.

Every network here is made of its options, what a row of observations consists of, what the environment takes
as actions, and the generator of its initial weights, on the CPU.
"""

from dataclasses import dataclass, field
from functools import reduce
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from core.checks import checked
from core.config import Component
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import Action, BoxAction, DiscreteAction
from gradrl.policies.actor import Acting, Actor, StatelessActor, acting_by
from gradrl.policies.distributions import Categorical, SquashedGaussian
from gradrl.policies.encoders import ConvolutionConfig, Encoder, needs_encoder
from gradrl.policies.networks import LOG_STD, MLPConfig, mlp, network
from gradrl.policies.numpy_policy import Normal, NumpyPolicy, sampler_of
from gradrl.policies.own_network import OwnNetwork, observing
from gradrl.policies.sde import Exploration, drawn_alone, exploration_log_std

SoftPolicy = Categorical | SquashedGaussian


@dataclass(frozen=True, kw_only=True)
@checked
class QNetworksConfig:
    """Shape of actor and critics.

    Attributes:
        num_critics: C, of which the smallest value counts.
        hidden_sizes: width of each hidden layer, of the actor and of every critic; () gives a linear map.
        activation: between the layers.
        convolutions: for images; the actor has its own, the critics share one.
        network: a class of the user's own in place of hidden layers and convolutions, see
            `gradrl.policies.own_network.Network`; None = none.
    """

    num_critics: Annotated[int, Ge(1)]
    hidden_sizes: tuple[Annotated[int, Ge(1)], ...] = (256, 256)
    activation: Literal["tanh", "relu", "elu", "silu"] = "relu"
    convolutions: ConvolutionConfig = field(default_factory=ConvolutionConfig)
    network: Component | None = None

    @property
    def mlp(self) -> MLPConfig:
        """Of one network; initial weights are uniform in +-1/sqrt(fan_in), as in the published agents."""
        return MLPConfig(
            hidden_sizes=self.hidden_sizes,
            activation=self.activation,
            orthogonal=False,
            convolutions=self.convolutions,
            network=self.network,
        )


@dataclass(frozen=True, kw_only=True)
class StochasticConfig(QNetworksConfig):
    """Shape of a stochastic actor and its critics.

    Attributes:
        sde: state-dependent exploration, arXiv:2005.05719: the noise is a function of the state, drawn again
            from time to time. Discrete policies ignore it and what follows.
        sde_interval: steps between two draws; None = once per rollout.
        log_std: initial log standard deviation of that function's weights.
    """

    sde: bool = False
    sde_interval: Annotated[int | None, Ge(1)] = None
    log_std: Annotated[float, Interval(ge=LOG_STD[0], le=LOG_STD[1])] = -3.0


class Critics(nn.Module):
    """C action-value functions; a vector of actions is a further input, a choice among A gives A outputs."""

    def __init__(
        self, cfg: QNetworksConfig, observation: Observation, action: Action, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.discrete = isinstance(action, DiscreteAction)
        self.encoder: Encoder | OwnNetwork | None = None
        size, own = observation.size, cfg.network
        if needs_encoder(observation) and own is not None:
            self.encoder, own = observing(own, observation, generator), None
        elif needs_encoder(observation):
            self.encoder = Encoder(cfg.convolutions, observation, False, generator)
        size = self.encoder.size if self.encoder is not None else size
        inputs, outputs = (size, action.size) if self.discrete else (size + action.size, 1)

        def critic() -> nn.Sequential:
            if own is None:
                return mlp((inputs, *cfg.hidden_sizes, outputs), cfg.mlp, 1.0, generator)
            features = OwnNetwork(own, (inputs,), generator)
            return nn.Sequential(features, *mlp((features.size, outputs), cfg.mlp, 1.0, generator))

        self.q = nn.ModuleList([critic() for _ in range(cfg.num_critics)])

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """Q_c(s, a) in units of return, [C, B].

        Args:
            obs: [B, D].
            action: [B, A] in [-1, 1], or int64 [B].
        """
        if self.discrete:
            return self.all(obs).gather(-1, action.expand(len(self.q), -1)[..., None])[..., 0]
        inputs = torch.cat([self._features(obs), action], -1)
        return torch.stack([q(inputs)[..., 0] for q in self.q])

    def first(self, obs: Tensor, action: Tensor) -> Tensor:
        """Q_1(s, a) of the first critic alone, [B]; actions are vectors [B, A]."""
        return self.q[0](torch.cat([self._features(obs), action], -1))[..., 0]

    def all(self, obs: Tensor) -> Tensor:
        """Q_c(s, .) of every one of the A actions to choose from, [C, B, A]."""
        features = self._features(obs)
        return torch.stack([q(features) for q in self.q])

    def _features(self, obs: Tensor) -> Tensor:
        return obs if self.encoder is None else self.encoder(obs)


class DeterministicActor(nn.Module):
    """mu(s) = tanh(f(s)), for bounded actions."""

    def __init__(
        self, cfg: QNetworksConfig, observation: Observation, action: BoxAction, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.net = nn.Sequential(*network(cfg.mlp, observation, action.size, 1.0, generator))

    def forward(self, obs: Tensor) -> Tensor:
        """The action for rows [B, D]: [B, A], in [-1, 1]."""
        return self.net(obs).tanh()


class StochasticActor(nn.Module):
    """pi(.|s): a squashed Gaussian whose deviation depends on the state, or a choice among actions."""

    def __init__(
        self,
        cfg: StochasticConfig,
        observation: Observation,
        action: BoxAction | DiscreteAction,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.discrete = isinstance(action, DiscreteAction)
        numbers = 1 if self.discrete or cfg.sde else 2  # a mean, or a mean and a deviation
        outputs = numbers * action.size
        *body, head = network(cfg.mlp, observation, outputs, 1.0, generator)
        self.net = nn.Sequential(*body, head)
        self.log_std: nn.Parameter | None = None
        if cfg.sde and isinstance(head, nn.Linear) and not self.discrete:
            self.log_std = nn.Parameter(torch.full((head.in_features, action.size), cfg.log_std))

    def forward(self, obs: Tensor) -> SoftPolicy:
        """The policy in the states of rows [B, D]."""
        if self.log_std is not None:
            *body, head = self.net
            features = reduce(lambda x, layer: layer(x), body, obs)
            # MountainCarContinuous after 10 k steps: 94 with the gradient to the features, -3 without.
            log_std = exploration_log_std(features, self.log_std, learn_features=True)
            return SquashedGaussian(head(features), log_std)
        out = self.net(obs)
        if self.discrete:
            return Categorical(out)
        mean, log_std = out.chunk(2, -1)
        return SquashedGaussian(mean, log_std.clamp(*LOG_STD))


class DeterministicActorCritics(nn.Module):
    """What DDPG and TD3 learn.

    Raises:
        ValueError: the actions are not vectors within bounds.
    """

    def __init__(
        self, cfg: QNetworksConfig, observation: Observation, action: Action, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.action = require_bounded_box(action, "DDPG and TD3 need Box actions with bounds")
        self.actor = DeterministicActor(cfg, observation, self.action, generator)
        self.critic = Critics(cfg, observation, self.action, generator)

    def make_actor(self, generator: np.random.Generator, *, deterministic: bool = False) -> Actor:
        """The policy at work; it is the same, deterministic or not."""
        return StatelessActor(self._numpy_policy, generator, deterministic=True)

    def acting(self) -> Acting:
        """The policy as it now is, as a function; nothing is drawn."""
        policy = self._numpy_policy()
        return acting_by(policy.mode, lambda rows, _: policy.mode(rows))

    def mode(self, rows: Tensor) -> Tensor:
        """The action for rows [B, D]: [B, A]."""
        return self.actor(rows)

    def _numpy_policy(self) -> NumpyPolicy:
        tanh = Normal(np.zeros(self.action.size, np.float32), squash=True)
        return NumpyPolicy(self.actor.net, sampler=tanh)


class StochasticActorCritics(nn.Module):
    """What SAC learns.

    Raises:
        ValueError: the actions are neither a choice nor vectors within bounds, or some are masked.
    """

    def __init__(
        self, cfg: StochasticConfig, observation: Observation, action: Action, generator: torch.Generator
    ) -> None:
        super().__init__()
        if observation.mask is not None:
            raise ValueError("SAC takes no action_mask: it explores with actions chosen from all")
        if not isinstance(action, DiscreteAction):
            action = require_bounded_box(action, "SAC needs Discrete actions, or Box actions with bounds")
        self.cfg, self.action = cfg, action
        self.actor = StochasticActor(cfg, observation, action, generator)
        self.critic = Critics(cfg, observation, action, generator)

    def make_actor(self, generator: np.random.Generator, *, deterministic: bool = False) -> Actor:
        """The policy at work: sampled, or the most likely actions (a squashed Gaussian's squashed mean)."""
        if self.actor.log_std is not None and not deterministic:
            return Exploration(self._exploration, generator, self.cfg.sde_interval, squash=True)
        return StatelessActor(self._numpy_policy, generator, deterministic=deterministic)

    def acting(self) -> Acting:
        """The policy as it now is, as a function."""
        policy, sde = self._numpy_policy(), self.actor.log_std is not None
        return acting_by(policy.mode, drawn_alone(self._exploration(), squash=True) if sde else policy.sample)

    def mode(self, rows: Tensor) -> Tensor:
        """The most likely action for rows [B, D], or a squashed Gaussian's squashed mean: [B] or [B, A]."""
        return self.actor(rows).mode()

    def _numpy_policy(self) -> NumpyPolicy:
        sampler = sampler_of(self.action, None, squash=True)
        if self.actor.log_std is not None:  # the network gives the mean alone
            sampler = Normal(np.zeros(self.action.size, np.float32), squash=True)
        return NumpyPolicy(self.actor.net, sampler=sampler)

    def _exploration(self) -> tuple[NumpyPolicy, NumpyPolicy, Tensor]:
        """Networks up to the last hidden layer and from there, and the exploration's log deviations."""
        assert self.actor.log_std is not None
        layers = list(self.actor.net)
        return NumpyPolicy(layers[:-1]), NumpyPolicy(layers[-1:]), self.actor.log_std.detach()


def require_bounded_box(action: Action, need: str) -> BoxAction:
    """The action space, if it is a vector every element of which has two bounds.

    Raises:
        ValueError: it is not; one line that begins with `need`.
    """
    if not isinstance(action, BoxAction):
        kind = type(action).__name__.removesuffix("Action")
        raise ValueError(f"{need}; this environment's are {kind}")
    if not action.bounded:
        raise ValueError(f"{need}; some of this environment's have none")
    return action
