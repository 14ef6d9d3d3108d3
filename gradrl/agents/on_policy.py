"""What on-policy agents share: the gradient step, copies of the policy, the loss on a frozen batch."""

from collections.abc import Callable, Iterable
from dataclasses import fields

import torch
from torch import Tensor, nn
from torch.func import functional_call

from core.checks import require
from core.gradients import GradientStep, Metrics, Objective, as_transforms
from core.optim.factory import build_optimizer
from gradrl.agent import Learning
from gradrl.experience.rollout import Batch
from gradrl.losses import policy_gradient_loss, value_loss, weighted_terms
from gradrl.policies.distributions import Policy
from gradrl.policies.networks import ActorCritic

Forward = Callable[..., tuple[Policy, Tensor]]  # observations [B, D] to policy and values
Losses = tuple[dict[str, Tensor], Metrics]  # weighted terms by name, whose sum is minimised, and metrics
Named = list[tuple[str, nn.Parameter]]


def gradient_step(learning: Learning, named: Iterable[tuple[str, Tensor]], name: str = "") -> GradientStep:
    """The gradient step of some parameters; `name` stands in front of its tags where there are several."""
    named = list(named)
    built, transforms = build_optimizer(learning.optimizer, named), as_transforms(learning.clipper)
    return GradientStep(named, built, transforms, name=name, monitor=learning.monitor)


def minibatch_size(num_steps: int, num_envs: int, num_minibatches: int) -> int:
    """Samples of each of `num_minibatches` equal parts of a rollout.

    Raises:
        ValueError: the rollout cannot be cut into equal parts.
    """
    size = num_steps * num_envs
    allowed = f"a divisor of num_steps * num_envs = {num_steps} * {num_envs} = {size}"
    require(size % num_minibatches == 0, "agent.num_minibatches", num_minibatches, allowed)
    return size // num_minibatches


@torch.no_grad()
def frozen_policy(model: ActorCritic, obs: Tensor) -> Policy:
    """The current policy pi(.|s) at observations [B, D]; later changes of the model do not affect it.

    It shares no tensor with the model: a parameter that is part of a distribution (the log deviation) would
    otherwise move along, and have a gradient.
    """
    policy, _ = functional_call(model, copied_parameters(model), (obs,))
    return policy


def copied_parameters(model: nn.Module) -> dict[str, Tensor]:
    """The parameters as they now are, by name."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def split_parameters(model: ActorCritic) -> tuple[Named, Named]:
    """Named parameters of the policy, and those that only the value function has.

    Layers that both share count as the policy's.
    """
    own = {id(p) for p in model.critic.parameters()}
    named = list(model.named_parameters())
    return [(n, p) for n, p in named if id(p) not in own], [(n, p) for n, p in named if id(p) in own]


def actor_critic_loss(forward: Forward, batch: Batch, value_coef: float, entropy_coef: float) -> Losses:
    """Policy-gradient and value loss and entropy bonus of a batch, as `weighted_terms` gives them."""
    policy, value = forward(batch.obs)
    policy_loss = policy_gradient_loss(policy.log_prob(batch.action), batch.advantage)
    critic_loss = value_loss(value, batch.target)
    return weighted_terms(policy_loss, critic_loss, policy.entropy().mean(), value_coef, entropy_coef)


def batch_objectives(
    model: nn.Module, batch: Batch | None, *players: tuple[GradientStep, Callable[[Batch, Forward], Losses]]
) -> list[tuple[Objective, GradientStep]]:
    """Losses on a frozen batch as functions of the parameters of their steps; none before there is a batch.

    Args:
        model: its forward gives policy and values.
        batch: the samples.
        players: each step, and its loss, which maps a batch and a forward to means over the samples.
    """
    if batch is None:
        return []
    return [(_batch_objective(model, batch, loss, step), step) for step, loss in players]


def _batch_objective(
    model: nn.Module, batch: Batch, loss: Callable[[Batch, Forward], Losses], step: GradientStep
) -> Objective:
    names = [field.name for field in fields(Batch)]

    def on_tensors(forward: Forward, *tensors: Tensor) -> dict[str, Tensor]:
        return loss(Batch(**dict(zip(names, tensors, strict=True))), forward)[0]

    def summed(forward: Forward, *tensors: Tensor) -> Tensor:
        return total(on_tensors(forward, *tensors))

    tensors = [getattr(batch, name) for name in names]
    objective = Objective(model, summed, tensors, terms=on_tensors, batch_names=names)
    named = dict(zip(objective.names, objective.parameters, strict=True))
    objective.names, objective.parameters = step.names, [named[name] for name in step.names]
    return objective


def total(losses: dict[str, Tensor]) -> Tensor:
    """The sum of named losses."""
    return torch.stack([*losses.values()]).sum()
