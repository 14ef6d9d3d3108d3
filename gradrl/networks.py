"""Actor and critic as two separate multilayer perceptrons.

Separate, because a shared trunk couples the two losses' scales: the value gradient, in units of squared
return, would drown the policy's.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from core.checks import require
from gradrl.host import HostPolicy
from gradrl.policies import Categorical, DiagonalGaussian, Policy
from gradrl.spaces import BoxAction, DiscreteAction

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """Shape and initialisation of both networks.

    Attributes:
        hidden_sizes: width of each hidden layer of the actor and of the critic; () gives a linear map.
        activation: between the layers.
        orthogonal: orthogonal weights with gain sqrt(2), 0.01 for the actor's and 1 for the critic's last
            layer, zero biases; otherwise uniform in +-1/sqrt(fan_in), torch's own choice.
        log_std: initial log standard deviation of a Gaussian policy, in units of the action (its box spans
            [-1, 1]); learnt, the same in every state. Discrete policies ignore it.
    """

    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu", "elu", "silu"] = "tanh"
    orthogonal: bool = True
    log_std: float = 0.0

    def __post_init__(self) -> None:
        ok = all(size >= 1 for size in self.hidden_sizes)
        require(ok, "hidden_sizes", self.hidden_sizes, "integers >= 1")
        require(self.activation in ACTIVATIONS, "activation", self.activation, f"one of {list(ACTIVATIONS)}")
        require(-20 <= self.log_std <= 2, "log_std", self.log_std, "in [-20, 2]")


class MLPActorCritic(nn.Module):
    """Observation [B, D] to policy and value.

    Args:
        cfg: shape and initialisation.
        observation_size: D, length of an encoded observation.
        action: what the environment takes; decides the kind of policy.
        generator: draws the initial weights, on the CPU.
    """

    def __init__(
        self,
        cfg: MLPConfig,
        observation_size: int,
        action: DiscreteAction | BoxAction,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        sizes = (observation_size, *cfg.hidden_sizes)
        self.actor = mlp((*sizes, action.size), cfg, 0.01, generator)
        self.critic = mlp((*sizes, 1), cfg, 1.0, generator)
        self.log_std: nn.Parameter | None = None
        if isinstance(action, BoxAction):
            self.log_std = nn.Parameter(torch.full((action.size,), cfg.log_std))

    def policy(self, obs: Tensor) -> Policy:
        """pi(.|s) for observations [B, D]."""
        out = self.actor(obs)
        return Categorical(out) if self.log_std is None else DiagonalGaussian(out, self.log_std)

    def value(self, obs: Tensor) -> Tensor:
        """V(s), in units of (normalised) return, for observations [..., D]: [...]."""
        return self.critic(obs)[..., 0]

    def host_policy(self) -> HostPolicy:
        """The policy as it now is, for acting on the host."""
        return HostPolicy(self.actor, self.log_std)

    def forward(self, obs: Tensor) -> tuple[Policy, Tensor]:
        """Policy and value of observations [B, D]."""
        return self.policy(obs), self.value(obs)


def mlp(
    sizes: Sequence[int], cfg: MLPConfig, output_gain: float, generator: torch.Generator
) -> nn.Sequential:
    """Linear layers between consecutive sizes, with the activation between them and none at the end."""
    layers: list[nn.Module] = []
    last = len(sizes) - 2
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        gain = output_gain if i == last else math.sqrt(2)
        layers.append(_linear(fan_in, fan_out, gain if cfg.orthogonal else None, generator))
        if i < last:
            layers.append(ACTIVATIONS[cfg.activation]())
    return nn.Sequential(*layers)


def _linear(fan_in: int, fan_out: int, gain: float | None, generator: torch.Generator) -> nn.Linear:
    """One layer. nn.Linear itself draws from the global generator; the fork hands that back untouched."""
    with torch.random.fork_rng(devices=[]):  # nn.utils.skip_init imports torch._dynamo, which takes seconds
        layer = nn.Linear(fan_in, fan_out)
    if gain is None:
        bound = 1 / math.sqrt(fan_in)
        nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    else:
        nn.init.orthogonal_(layer.weight, gain, generator=generator)
        nn.init.zeros_(layer.bias)
    return layer
