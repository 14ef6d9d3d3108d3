"""What on-policy agents share: the scheduled gradient step, estimates, the batch, the frozen loss."""

from collections.abc import Callable, Iterable
from dataclasses import fields

import torch
from torch import Tensor, nn
from torch.func import functional_call

from core.checks import require
from core.config import Component
from core.gradients import Clipper, GradientStep, Metrics, MonitorConfig, Objective, as_transforms
from core.optim.factory import build_optimizer
from core.optim.schedules import Schedule, ScheduledRate
from core.state import StateDict
from gradrl.experience.rollout import Batch, Estimates, Rollout
from gradrl.losses import policy_gradient_loss, value_loss
from gradrl.policies.distributions import Policy
from gradrl.policies.networks import ActorCritic
from gradrl.returns import generalized_advantage_estimate

Forward = Callable[..., tuple[Policy, Tensor]]  # observations [B, D] to policy and values
Losses = tuple[dict[str, Tensor], Metrics]  # weighted terms by name, whose sum is minimised, and metrics
Named = list[tuple[str, nn.Parameter]]


class Learner:
    """A gradient step whose learning rate follows a schedule.

    Args:
        named: the parameters that it moves, by name.
        optimizer: builds their optimizer.
        clipper: transform of the gradient, a chain of them, or None.
        schedule: multiplier of the learning rate over the progress of training.
        monitor: what is measured of the gradient.
        name: of the step, in front of its tags, where an agent takes several.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, Tensor]],
        optimizer: Component,
        clipper: Clipper | None,
        schedule: Schedule,
        monitor: MonitorConfig | None,
        name: str = "",
    ) -> None:
        self.gradient_step = gradient_step(named, optimizer, clipper, monitor, name)
        self.learning_rate = ScheduledRate(schedule, self.gradient_step)

    def begin(self, progress: float) -> None:
        """Set the learning rate of an update that begins at this share of the training, in [0, 1]."""
        self.lr = self.gradient_step.base_lrs[0] * self.learning_rate.set(progress)

    def end(self, metrics: Metrics, player: str = "policy") -> Metrics:
        """The metrics of an update and its learning rate, <player>/lr; the schedule sees them."""
        metrics = metrics | {f"{player}/lr": torch.tensor(self.lr)}
        self.learning_rate.observe(metrics)
        return metrics

    def state_dict(self) -> StateDict:
        """The state of the schedule; the gradient step is saved by the run."""
        return {"learning_rate": self.learning_rate.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.learning_rate.load_state_dict(state["learning_rate"])


def gradient_step(
    named: Iterable[tuple[str, Tensor]],
    optimizer: Component,
    clipper: Clipper | None,
    monitor: MonitorConfig | None,
    name: str = "",
) -> GradientStep:
    """The gradient step of some parameters; the arguments are those of `Learner`."""
    named = list(named)
    built = build_optimizer(optimizer, named)
    return GradientStep(named, built, as_transforms(clipper), name=name, monitor=monitor)


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
def estimate_advantages(model: ActorCritic, rollout: Rollout, gamma: float, gae_lambda: float) -> Estimates:
    """Generalized advantages by the critic as it now is; the target of each value is advantage + value."""
    value, next_value = model.values(rollout)
    advantage = generalized_advantage_estimate(
        rollout.reward, value, next_value, rollout.terminated, rollout.truncated, gamma, gae_lambda
    )
    return Estimates(rollout, value, next_value, advantage, advantage + value)


@torch.no_grad()
def flat_batch(model: ActorCritic, estimates: Estimates) -> Batch:
    """A rollout as T N rows, with the log-probabilities of its actions under a model's policy."""
    rollout = estimates.rollout
    obs, action = rollout.obs[:-1].flatten(0, 1), rollout.action.flatten(0, 1)
    return Batch(
        obs=obs,
        action=action,
        log_prob=model.policy(obs).log_prob(action),
        advantage=estimates.advantage.flatten(),
        value=estimates.value.flatten(0, 1),
        target=estimates.target.flatten(0, 1),
    )


def valid_rows(batch: Batch, rollout: Rollout) -> Batch:
    """The transitions among the rows of `flat_batch`, in order, without waiting for the device."""
    if rollout.num_valid == len(batch):
        return batch
    rows = torch.argsort((~rollout.valid.flatten()).byte(), stable=True)[: rollout.num_valid]
    return batch.rows(rows)


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


def actor_critic_loss(
    policy: Policy, value: Tensor, batch: Batch, value_coef: float, entropy_coef: float
) -> Losses:
    """The weighted policy-gradient, value and entropy losses; their sum is minimised.

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
    model: nn.Module, batch: Batch, loss: Callable[[Batch, Forward], Losses], step: GradientStep
) -> Objective:
    """A loss on a frozen batch as a function of the parameters of one step.

    Args:
        model: its forward gives policy and values.
        batch: the samples.
        loss: maps a batch and a forward to losses that are means over the samples.
        step: moves the parameters in question.
    """
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
