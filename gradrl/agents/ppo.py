"""Proximal policy optimisation with the clipped surrogate (Schulman et al. 2017, arXiv:1707.06347).

Each rollout is learnt from in several epochs of minibatch gradient steps. Clipping the probability ratio
removes the incentive to move far from the policy that acted. Details follow Huang et al. 2022, "The 37
implementation details of PPO", with three exceptions: a truncated episode is continued by the value of its
last observation, the change of the value is clipped only if `value_clip_coef` is set, and Adam's eps is
torch's 1e-8 (theirs is 1e-5; `optimizer.eps`).
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from core.checks import Finite, checked
from core.gradients import GradientStep, Metrics, Objective
from core.optim.schedules import ScheduledRate
from core.state import StateDict
from gradrl.agent import Learning
from gradrl.agents.on_policy import Forward, Losses, batch_objectives, gradient_step, minibatch_size
from gradrl.experience.rollout import Batch, Estimates, Rollout
from gradrl.experience.shares import divided
from gradrl.losses import (
    clipped_surrogate_loss,
    mean_metrics,
    normalize_advantage,
    value_loss,
    weighted_terms,
)
from gradrl.policies.actor import Actor
from gradrl.policies.networks import ActorCritic
from gradrl.policies.target import Target
from gradrl.returns import generalized_estimates, value_fit


@dataclass(frozen=True, kw_only=True)
@checked
class PPOConfig:
    """Options of PPO; conf/agent/ppo.yaml gives the defaults.

    Attributes:
        num_steps: T, environment steps per rollout and environment.
        num_epochs: passes over each rollout.
        num_minibatches: gradient steps per pass; divides num_steps * num_envs.
        gamma: discount per step.
        gae_lambda: bias against variance of the advantage.
        clip_coef: eps; a probability ratio outside [1 - eps, 1 + eps] gains nothing more.
        clip_schedule: "linear" lets eps fall to 0 with the progress of training.
        value_coef: weight of the value loss.
        value_clip_coef: largest rewarded change of a value, in units of return; None = any.
        entropy_coef: weight of the entropy bonus.
        normalize_advantage: mean 0 and deviation 1 within each minibatch.
        recompute_advantage: advantages and targets are computed again before every epoch, by the critic as it
            then is (Andrychowicz et al. 2021, arXiv:2006.05990, section 3.5). What `value_clip_coef` limits,
            and policy/explained_variance, stay those of the critic before the update.
        target_kl: nats; the update ends after an epoch whose mean approx_kl exceeds it (one host
            synchronisation per epoch); None = never.
    """

    num_steps: Annotated[int, Ge(1)] = 128
    num_epochs: Annotated[int, Ge(1)] = 10
    num_minibatches: Annotated[int, Ge(1)] = 8
    gamma: Annotated[float, Interval(ge=0, le=1)] = 0.99
    gae_lambda: Annotated[float, Interval(ge=0, le=1)] = 0.95
    clip_coef: Annotated[float, Interval(gt=0, lt=1)] = 0.2
    clip_schedule: Literal["constant", "linear"] = "constant"
    value_coef: Annotated[float, Ge(0), Finite] = 0.5
    value_clip_coef: Annotated[float | None, Gt(0)] = None
    entropy_coef: Annotated[float, Ge(0), Finite] = 0.0
    normalize_advantage: bool = True
    recompute_advantage: bool = False
    target_kl: Annotated[float | None, Gt(0)] = None

    def minibatches(self, num_envs: int) -> tuple[int, int]:
        """Most gradient steps on a rollout, and the samples of each; ValueError where they are unequal."""
        size = minibatch_size(self.num_steps, num_envs, self.num_minibatches)
        return self.num_epochs * self.num_minibatches, size


class PPO:
    """Learns from rollouts. The arguments are those of every `Agent`; `generator` shuffles minibatches."""

    measures: ClassVar[tuple[str, ...]] = ("policy/approx_kl",)  # what a schedule may follow
    model_type: ClassVar[type] = ActorCritic
    off_policy: ClassVar[bool] = False
    targets: ClassVar[tuple[Target, ...]] = ()
    estimates: Estimates | None = None  # of the last rollout

    def __init__(
        self, cfg: PPOConfig, model: ActorCritic, learning: Learning, generator: torch.Generator
    ) -> None:
        self.cfg, self.model, self.generator, self.device = cfg, model, generator, generator.device
        self.gradient_step = gradient_step(learning, model.named_parameters())
        self.gradient_steps = [self.gradient_step]  # actor and critic move in one step
        self.learning_rate = ScheduledRate(learning.schedule, self.gradient_step)
        self.own_loss, self.own_count = divided()
        self.clip_coef = cfg.clip_coef
        self.last: tuple[Batch, Tensor] | None = None  # the last rollout, and which of its rows are valid

    def make_actor(self, generator: np.random.Generator) -> Actor:
        """The policy itself, sampled."""
        return self.model.make_actor(generator)

    def update(self, rollout: Rollout, progress: float) -> Metrics:
        """Learn from one rollout; returns means over the minibatches, and what describes the rollout."""
        cfg = self.cfg
        rollout = rollout.to(self.device)
        lr = self.gradient_step.base_lrs[0] * self.learning_rate.set(progress)
        self.clip_coef = cfg.clip_coef * (1 - progress if cfg.clip_schedule == "linear" else 1)
        first, valid = self.observe(rollout)
        batch = first
        history: list[Metrics] = []
        for epoch in range(cfg.num_epochs):
            if cfg.recompute_advantage and epoch > 0:
                now = self.estimate(rollout)
                batch = replace(batch, advantage=now.advantage.flatten(), target=now.target.flatten())
            minibatches = batch.shuffled(valid, rollout.num_valid, cfg.num_minibatches, self.generator)
            history += [self.update_minibatch(minibatch) for minibatch in minibatches]
            if cfg.target_kl is not None:
                last_epoch = mean_metrics(history[-cfg.num_minibatches :])
                if float(last_epoch["policy/approx_kl"]) > cfg.target_kl:
                    break
        metrics = mean_metrics(history) | value_fit(first.value[valid], first.target[valid])
        metrics |= {
            "policy/clip_coef": torch.tensor(self.clip_coef),
            "policy/epochs": torch.tensor(len(history) / cfg.num_minibatches),
            "policy/lr": torch.tensor(lr),
        }
        self.learning_rate.observe(metrics)
        return metrics

    def observe(self, rollout: Rollout) -> tuple[Batch, Tensor]:
        """The rollout as a batch of T N rows, and which of them are transitions, bool [T N]."""
        self.estimates = self.estimate(rollout.to(self.device))
        self.last = self.estimates.batch(self.model.policy), self.estimates.rollout.valid.flatten()
        return self.last

    def estimate(self, rollout: Rollout) -> Estimates:
        """Values, advantages and targets by the critic as it now is."""
        values = self.model.values(rollout)
        return generalized_estimates(rollout, *values, self.cfg.gamma, self.cfg.gae_lambda)

    def update_minibatch(self, batch: Batch) -> Metrics:
        """One gradient step."""
        closure = partial(self.minibatch_loss, batch, self.clip_coef)
        return self.gradient_step(closure, samples=self.own_count(batch))

    def minibatch_loss(self, batch: Batch, clip_coef: float | Tensor) -> Losses:
        """The loss of a minibatch, whose advantages are normalised among themselves."""
        if (
            clip_coef is self.clip_coef
        ):  # the loss of an agent of one's own may take no other; it is not compiled
            return self.own_loss(self.loss, self.normalized(batch))
        return self.own_loss(partial(self.loss, clip_coef=clip_coef), self.normalized(batch))

    def normalized(self, batch: Batch) -> Batch:
        """The batch with the advantages that its loss weighs."""
        if not self.cfg.normalize_advantage:
            return batch
        return replace(batch, advantage=normalize_advantage(batch.advantage))

    def loss(
        self, batch: Batch, forward: Forward | None = None, clip_coef: float | Tensor | None = None
    ) -> Losses:
        """The weighted terms whose sum is minimised; the metrics have them without weights.

        Args:
            batch: with the advantages as `normalized` gives them.
            forward: from observations to policy and values; None = the model as it now is.
            clip_coef: eps; None = as it now is.
        """
        cfg, clip_coef = self.cfg, self.clip_coef if clip_coef is None else clip_coef
        policy, value = (forward or self.model)(batch.obs)
        policy_loss, metrics = clipped_surrogate_loss(
            policy.log_prob(batch.action), batch.log_prob, batch.advantage, clip_coef
        )
        critic_loss = value_loss(value, batch.target, batch.value, cfg.value_clip_coef)
        entropy = policy.entropy().mean()
        losses, terms = weighted_terms(policy_loss, critic_loss, entropy, cfg.value_coef, cfg.entropy_coef)
        return losses, metrics | terms

    def objectives(self) -> list[tuple[Objective, GradientStep]]:
        """The loss on the last rollout, its advantages normalised as a whole: what probes look at."""
        batch = None if self.last is None else self.normalized(self.last[0].rows(self.last[1]))
        return batch_objectives(self.model, batch, (self.gradient_step, self.loss))

    def state_dict(self) -> StateDict:
        """The state of the learning rate's schedule."""
        return {"learning_rate": self.learning_rate.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.learning_rate.load_state_dict(state["learning_rate"])
