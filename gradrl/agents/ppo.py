"""Proximal policy optimisation with the clipped surrogate (Schulman et al. 2017, arXiv:1707.06347).

Several epochs of minibatch gradient steps on each rollout; the probability ratio's clipping takes away
the reason to move far from the policy that acted. Details follow Huang et al. 2022, "The 37
implementation details of PPO", with three exceptions: truncation is bootstrapped and never counted as an
end, the change of the value is not clipped unless `value_clip_coef` says so, and Adam's eps is torch's 1e-8
(theirs 1e-5; `optimizer.eps`).
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from core.checks import require
from core.config import Component
from core.gradients import Clipper, GradientStep, Metrics, MonitorConfig, Objective, as_transforms
from core.optim.factory import build_optimizer
from core.optim.schedules import Schedule, ScheduledRate
from core.state import StateDict
from gradrl.agents.actor_critic import Forward, advantage_batch, advantages, batch_objective, summary
from gradrl.experience.rollout import Batch, Rollout
from gradrl.losses import clipped_surrogate_loss, normalize_advantage, value_loss
from gradrl.policies.actor import Behaviour
from gradrl.policies.networks import ActorCritic
from gradrl.probes.policy_gradient import Acted
from gradrl.probes.probe import PolicyObjective
from gradrl.returns import value_fit


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Options of PPO; conf/agent/ppo.yaml gives the defaults.

    Attributes:
        num_steps: T, environment steps per rollout and environment.
        num_epochs: passes over each rollout.
        num_minibatches: gradient steps per pass; divides num_steps * num_envs.
        gamma: discount per step.
        gae_lambda: bias against variance of the advantage.
        clip_coef: eps, how far the probability ratio may gain; in (0, 1).
        clip_schedule: "linear" lets eps fall to 0 with the progress of training.
        value_coef: weight of the value loss.
        value_clip_coef: largest rewarded change of a value, in units of return; None = any.
        entropy_coef: weight of the entropy bonus.
        normalize_advantage: mean 0 and deviation 1 within each minibatch.
        recompute_advantage: advantages and targets anew before every epoch, by the critic as it then is
            (Andrychowicz et al. 2021, arXiv:2006.05990, section 3.5). What `value_clip_coef` limits, and
            policy/explained_variance, stay those of the critic before the update.
        target_kl: nats; no further epoch once the last one's mean approx_kl exceeds it (one host
            synchronisation per epoch); None = never.
    """

    num_steps: int = 128
    num_epochs: int = 10
    num_minibatches: int = 8
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_coef: float = 0.2
    clip_schedule: Literal["constant", "linear"] = "constant"
    value_coef: float = 0.5
    value_clip_coef: float | None = None
    entropy_coef: float = 0.0
    normalize_advantage: bool = True
    recompute_advantage: bool = False
    target_kl: float | None = None

    def __post_init__(self) -> None:
        for name in ("num_steps", "num_epochs", "num_minibatches"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer >= 1")
        for name in ("gamma", "gae_lambda"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in [0, 1]")
        require(0 < self.clip_coef < 1, "clip_coef", self.clip_coef, "in (0, 1)")
        allowed = ("constant", "linear")
        require(self.clip_schedule in allowed, "clip_schedule", self.clip_schedule, f"one of {list(allowed)}")
        for name in ("value_coef", "entropy_coef"):
            require(
                0 <= getattr(self, name) < float("inf"), name, getattr(self, name), "a finite number >= 0"
            )
        for name in ("value_clip_coef", "target_kl"):
            value = getattr(self, name)
            require(value is None or value > 0, name, value, "a number > 0 or null")

    def check(self, num_envs: int) -> None:
        """Raise ValueError when a rollout of `num_envs` environments cannot be cut into equal minibatches."""
        size = self.num_steps * num_envs
        ok = size % self.num_minibatches == 0
        allowed = f"a divisor of num_steps * num_envs = {self.num_steps} * {num_envs} = {size}"
        require(ok, "agent.num_minibatches", self.num_minibatches, allowed)

    def minibatch_size(self, num_envs: int) -> int:
        """Samples of one gradient step."""
        return self.num_steps * num_envs // self.num_minibatches


class PPO:
    """Learns from rollouts.

    Args:
        cfg: options.
        model: policy and value function, on their device.
        optimizer: builds the optimizer of the model's parameters.
        clipper: transform of the gradient, a chain of them, or None.
        schedule: learning rate's multiplier over the progress of training.
        generator: shuffles minibatches; on the model's device.
        monitor: what is measured of the gradient.
    """

    measures: ClassVar[tuple[str, ...]] = ("policy/approx_kl",)  # what a schedule may follow
    model_type: ClassVar[type] = ActorCritic
    off_policy: ClassVar[bool] = False
    acted: Acted | None = None  # the last rollout, and the policy that acted in it: for probes

    def __init__(
        self,
        cfg: PPOConfig,
        model: ActorCritic,
        optimizer: Component,
        clipper: Clipper | None,
        schedule: Schedule,
        generator: torch.Generator,
        monitor: MonitorConfig | None = None,
    ) -> None:
        self.cfg = cfg
        self.model = model
        self.generator = generator
        self.device = generator.device
        self.gradient_step = GradientStep(
            model,
            build_optimizer(optimizer, model.named_parameters()),
            as_transforms(clipper),
            monitor=monitor,
        )
        self.learning_rate = ScheduledRate(schedule, self.gradient_step)
        self.clip_coef = cfg.clip_coef
        self.last: tuple[Batch, Tensor] | None = None  # the last rollout, and which of its rows are valid

    @property
    def gradient_steps(self) -> list[GradientStep]:
        """Actor and critic move in one step."""
        return [self.gradient_step]

    def behaviour(self, generator: np.random.Generator) -> Behaviour:
        """The policy itself, sampled."""
        return self.model.behaviour(generator)

    def update(self, rollout: Rollout, progress: float) -> Metrics:
        """Learn from one rollout.

        Args:
            rollout: what the policy has brought about since the last update.
            progress: share of the training done, in [0, 1]; drives the schedules.

        Returns:
            Means over the minibatches, and what describes the rollout.
        """
        cfg = self.cfg
        rollout = rollout.to(self.device)
        lr_scale = self.learning_rate.set(progress)
        self.clip_coef = cfg.clip_coef * (1 - progress if cfg.clip_schedule == "linear" else 1)
        first, valid = self.observe(rollout)
        batch = first
        history: list[Metrics] = []
        for epoch in range(cfg.num_epochs):
            if cfg.recompute_advantage and epoch > 0:
                value, _, advantage = (x.flatten() for x in self.estimate(rollout))
                batch = replace(batch, advantage=advantage, target=advantage + value)
            minibatches = batch.shuffled(valid, rollout.num_valid, cfg.num_minibatches, self.generator)
            history += [self.update_minibatch(minibatch) for minibatch in minibatches]
            if cfg.target_kl is not None and _mean_kl(history[-cfg.num_minibatches :]) > cfg.target_kl:
                break
        metrics = summary(history) | {
            **value_fit(first.value[valid], first.target[valid]),
            "policy/lr": torch.tensor(self.gradient_step.base_lrs[0] * lr_scale),
            "policy/clip_coef": torch.tensor(self.clip_coef),
            "policy/epochs": torch.tensor(len(history) / cfg.num_minibatches),
        }
        self.learning_rate.observe(metrics)
        return metrics

    def observe(self, rollout: Rollout) -> tuple[Batch, Tensor]:
        """The rollout as a batch, and which of its rows are valid, bool [B]; remembered for probes."""
        cfg = self.cfg
        rollout = rollout.to(self.device)
        batch, self.acted = advantage_batch(
            self.model,
            rollout,
            gamma=cfg.gamma,
            gae_lambda=cfg.gae_lambda,
            minibatch_size=rollout.valid.numel() // cfg.num_minibatches,
            normalize=cfg.normalize_advantage,
        )
        self.last = batch, rollout.valid.flatten()
        return self.last

    def estimate(self, rollout: Rollout) -> tuple[Tensor, Tensor, Tensor]:
        """V(s_t), V of what each step led to, and the advantages, [T, N] each, by the critic as it now is."""
        return advantages(self.model, rollout, self.cfg.gamma, self.cfg.gae_lambda)

    def update_minibatch(self, batch: Batch) -> Metrics:
        """One gradient step."""
        batch = self.normalized(batch)
        return self.gradient_step(lambda: self.loss(batch), samples=len(batch))

    def normalized(self, batch: Batch) -> Batch:
        """The batch with the advantages that its loss weighs."""
        if not self.cfg.normalize_advantage:
            return batch
        return replace(batch, advantage=normalize_advantage(batch.advantage))

    def objectives(self) -> list[tuple[Objective, GradientStep]]:
        """The loss on the last rollout, its advantages normalised as a whole: what probes look at."""
        if self.last is None or self.acted is None:
            return []
        batch, valid = self.last
        batch, step = self.normalized(batch.rows(valid)), self.gradient_step
        objective = batch_objective(self.model, batch, lambda *frozen: self.loss(*frozen)[0], step)
        return [(PolicyObjective(objective, self.acted), step)]

    def state_dict(self) -> StateDict:
        """What the learning rate's schedule remembers."""
        return {"learning_rate": self.learning_rate.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.learning_rate.load_state_dict(state["learning_rate"])

    def loss(self, batch: Batch, forward: Forward | None = None) -> tuple[dict[str, Tensor], Metrics]:
        """The three terms, weighted, whose sum is minimised; the metrics have them without weights.

        Args:
            batch: its advantages as the loss shall weigh them.
            forward: from observations to policy and values; None = the model as it now is.
        """
        forward = forward or self.model
        cfg = self.cfg
        policy, value = forward(batch.obs)
        policy_loss, metrics = clipped_surrogate_loss(
            policy.log_prob(batch.action), batch.log_prob, batch.advantage, self.clip_coef
        )
        critic_loss = value_loss(value, batch.target, batch.value, cfg.value_clip_coef)
        entropy = policy.entropy().mean()
        losses = {"policy": policy_loss, "value": cfg.value_coef * critic_loss}
        if cfg.entropy_coef:
            losses["entropy"] = -cfg.entropy_coef * entropy
        return losses, metrics | {
            "loss/policy": policy_loss.detach(),
            "loss/value": critic_loss.detach(),
            "loss/entropy": -entropy.detach(),
            "policy/entropy": entropy.detach(),
        }


def _mean_kl(epoch: list[Metrics]) -> float:
    """Mean approx_kl of an epoch's minibatches, nats, on the host."""
    return float(torch.stack([metrics["policy/approx_kl"] for metrics in epoch]).mean())
