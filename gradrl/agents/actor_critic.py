"""What agents that learn from each rollout once have in common: estimates, the loss, a frozen objective."""

from collections.abc import Callable, Sequence
from dataclasses import fields

import torch
from torch import Tensor, nn
from torch.func import functional_call

from core.gradients import GradientStep, Metrics, Objective
from gradrl.experience.rollout import Batch, Rollout
from gradrl.losses import policy_gradient_loss, value_loss
from gradrl.policies.distributions import Policy
from gradrl.policies.networks import ActorCritic
from gradrl.probes.policy_gradient import Acted, remember
from gradrl.returns import generalized_advantage_estimate

Forward = Callable[..., tuple[Policy, Tensor]]  # observations [B, D] to policy and values
Named = list[tuple[str, nn.Parameter]]


def split_parameters(model: ActorCritic) -> tuple[Named, Named]:
    """Named parameters of the policy, and those that only the value function has.

    Layers that both share count as the policy's.
    """
    own = {id(p) for p in model.critic.parameters()}
    named = list(model.named_parameters())
    return [(n, p) for n, p in named if id(p) not in own], [(n, p) for n, p in named if id(p) in own]


@torch.no_grad()
def values(model: ActorCritic, rollout: Rollout) -> tuple[Tensor, Tensor]:
    """V of what each action was chosen from and of what it led to, [T, N] each."""
    value = model.value(rollout.obs)
    next_value = value[1:]
    if len(rollout.final_obs):
        next_value = rollout.next_value(value, model.value(rollout.final_obs))
    return value[:-1], next_value


@torch.no_grad()
def advantages(
    model: ActorCritic, rollout: Rollout, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor, Tensor]:
    """V(s_t), V of what each step led to, and generalized advantages, by the critic as it is: [T, N] each."""
    value, next_value = values(model, rollout)
    ends = rollout.terminated, rollout.truncated
    advantage = generalized_advantage_estimate(rollout.reward, value, next_value, *ends, gamma, gae_lambda)
    return value, next_value, advantage


def advantage_batch(
    model: ActorCritic,
    rollout: Rollout,
    *,
    gamma: float,
    gae_lambda: float,
    minibatch_size: int,
    normalize: bool,
) -> tuple[Batch, Acted]:
    """A rollout as a batch of T N rows, its advantages not normalised yet; and what probes want of it.

    Args:
        model: policy and critic as they were while the rollout was made.
        rollout: on the model's device.
        gamma: discount per step.
        gae_lambda: bias against variance of the advantages.
        minibatch_size: samples of one gradient step.
        normalize: the agent will learn from advantages of mean 0 and deviation 1.
    """
    value, next_value, advantage = advantages(model, rollout, gamma, gae_lambda)
    batch = flat_batch(model, rollout, value, advantage, advantage + value)
    acted = remember(
        model,
        rollout,
        advantage,
        value,
        next_value,
        gamma=gamma,
        gae_lambda=gae_lambda,
        minibatch_size=minibatch_size,
        normalize=normalize,
    )
    return batch, acted


@torch.no_grad()
def flat_batch(
    model: ActorCritic, rollout: Rollout, value: Tensor, advantage: Tensor, target: Tensor
) -> Batch:
    """Estimates [T, N] and the rollout they belong to as a batch of T N rows."""
    obs, action = rollout.obs[:-1].flatten(0, 1), rollout.action.flatten(0, 1)
    return Batch(
        obs=obs,
        action=action,
        log_prob=model.policy(obs).log_prob(action),
        advantage=advantage.flatten(),
        value=value.flatten(),
        target=target.flatten(),
    )


@torch.no_grad()
def frozen_policy(model: ActorCritic, obs: Tensor) -> Policy:
    """pi(.|s) of observations [B, D] as it now is, whatever becomes of the model.

    It shares no tensor with it: a parameter that is part of a distribution (the log deviation) would
    otherwise move along, and have a gradient.
    """
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
    policy, _ = functional_call(model, parameters, (obs,))
    return policy


def valid_rows(batch: Batch, rollout: Rollout) -> Batch:
    """The transitions among the rows of `flat_batch`, in order; the host knows their number beforehand."""
    if rollout.num_valid == len(batch):
        return batch
    rows = torch.argsort((~rollout.valid.flatten()).byte(), stable=True)[: rollout.num_valid]
    return batch.rows(rows)


def actor_critic_loss(
    policy: Policy, value: Tensor, batch: Batch, value_coef: float, entropy_coef: float
) -> tuple[dict[str, Tensor], Metrics]:
    """Policy gradient, value and entropy loss, weighted, whose sum is minimised.

    Args:
        policy: pi(.|s) of the batch, with its graph.
        value: V(s), [B], with its graph.
        batch: advantages and targets.
        value_coef: weight of the value loss.
        entropy_coef: weight of the entropy bonus; at 0 its gradient is not computed.

    Returns:
        The terms by name, and the same without weights as metrics.

    Source: Mnih et al. 2016, arXiv:1602.01783, section 4.
    """
    policy_loss = policy_gradient_loss(policy.log_prob(batch.action), batch.advantage)
    critic_loss = value_loss(value, batch.target)
    losses = {"policy": policy_loss, "value": value_coef * critic_loss}
    entropy = policy.entropy().mean()
    if entropy_coef:
        losses["entropy"] = -entropy_coef * entropy
    return losses, {
        "loss/policy": policy_loss.detach(),
        "loss/value": critic_loss.detach(),
        "loss/entropy": -entropy.detach(),
        "policy/entropy": entropy.detach(),
    }


def batch_objective(
    model: nn.Module, batch: Batch, losses: Callable[[Batch, Forward], dict[str, Tensor]], step: GradientStep
) -> Objective:
    """A loss on a frozen batch as a function of the parameters of one step.

    Args:
        model: its forward gives policy and values.
        batch: the samples.
        losses: of a batch and a forward, by name, whose sum is minimised; means over the samples.
        step: moves the parameters in question.
    """
    names = [field.name for field in fields(Batch)]

    def on_tensors(forward: Forward, *tensors: Tensor) -> dict[str, Tensor]:
        return losses(Batch(**dict(zip(names, tensors, strict=True))), forward)

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


def summary(history: Sequence[Metrics]) -> Metrics:
    """Each metric's mean over the minibatches; the extreme, where its name ends in _max or _min."""
    stacked = {name: torch.stack([metrics[name] for metrics in history]) for name in history[0]}
    return {
        name: x.max() if name.endswith("_max") else x.min() if name.endswith("_min") else x.mean()
        for name, x in stacked.items()
    }
