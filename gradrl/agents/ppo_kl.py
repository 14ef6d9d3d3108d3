"""Proximal policy optimisation with an adaptive KL penalty (Schulman et al. 2017, arXiv:1707.06347, sec. 4).

Several epochs of minibatch gradient steps on each rollout, as with the clipped surrogate. Here a penalty on
the divergence from the policy that acted keeps the two together, and its weight is adapted after each
rollout so that the divergence stays near a target.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from core.checks import require
from core.config import Component
from core.gradients import Clipper, GradientStep, Metrics, MonitorConfig, Objective, as_transforms
from core.optim.factory import build_optimizer
from core.optim.schedules import Schedule, ScheduledRate
from core.state import StateDict
from gradrl.agents.actor_critic import Forward, advantage_batch, batch_objective, summary
from gradrl.experience.rollout import Batch, Rollout
from gradrl.losses import normalize_advantage, surrogate_loss, value_loss
from gradrl.policies.actor import Behaviour
from gradrl.policies.distributions import Policy
from gradrl.policies.networks import ActorCritic
from gradrl.probes.policy_gradient import Acted
from gradrl.probes.probe import PolicyObjective
from gradrl.returns import value_fit

TOLERANCE, FACTOR = 1.5, 2.0  # the paper's; it found the algorithm not very sensitive to them
KL_COEF = (1e-6, 1e6)  # a policy that stands still would otherwise halve the weight to 0


@dataclass(frozen=True, kw_only=True)
class PPOKLConfig:
    """Options of PPO with a KL penalty; conf/agent/ppo_kl.yaml gives the defaults.

    Attributes:
        num_steps: T, environment steps per rollout and environment.
        num_epochs: passes over each rollout.
        num_minibatches: gradient steps per pass; divides num_steps * num_envs.
        gamma: discount per step.
        gae_lambda: bias against variance of the advantage.
        target_kl: d_targ, nats: what the mean divergence after an update shall be.
        kl_coef: beta, initial weight of the penalty, in units of (normalised) advantage per nat.
        value_coef: weight of the value loss.
        entropy_coef: weight of the entropy bonus.
        normalize_advantage: mean 0 and deviation 1 within each minibatch.
    """

    num_steps: int = 128
    num_epochs: int = 10
    num_minibatches: int = 8
    gamma: float = 0.99
    gae_lambda: float = 0.95
    target_kl: float = 0.01
    kl_coef: float = 1.0
    value_coef: float = 0.5
    entropy_coef: float = 0.0
    normalize_advantage: bool = True

    def __post_init__(self) -> None:
        for name in ("num_steps", "num_epochs", "num_minibatches"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer >= 1")
        for name in ("gamma", "gae_lambda"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in [0, 1]")
        for name in ("target_kl", "kl_coef"):
            ok = 0 < getattr(self, name) < float("inf")
            require(ok, name, getattr(self, name), "a finite number > 0")
        for name in ("value_coef", "entropy_coef"):
            ok = 0 <= getattr(self, name) < float("inf")
            require(ok, name, getattr(self, name), "a finite number >= 0")

    def check(self, num_envs: int) -> None:
        """Raise ValueError when a rollout of `num_envs` environments cannot be cut into equal minibatches."""
        size = self.num_steps * num_envs
        allowed = f"a divisor of num_steps * num_envs = {self.num_steps} * {num_envs} = {size}"
        require(size % self.num_minibatches == 0, "agent.num_minibatches", self.num_minibatches, allowed)

    def minibatch_size(self, num_envs: int) -> int:
        """Samples of one gradient step."""
        return self.num_steps * num_envs // self.num_minibatches


class PPOKL:
    """Learns from rollouts.

    Args:
        cfg: options.
        model: policy and value function, on their device.
        optimizer: builds the optimizer of the model's parameters.
        clipper: transform of the gradient, a chain of them, or None.
        schedule: learning rate's multiplier over the progress of training.
        generator: shuffles minibatches; on the model's device.
        monitor: what is measured of the gradient.

    Attributes:
        kl_coef: beta as it now is, 0-d.
    """

    measures: ClassVar[tuple[str, ...]] = ("policy/kl",)
    model_type: ClassVar[type] = ActorCritic
    off_policy: ClassVar[bool] = False
    acted: Acted | None = None  # the last rollout, and the policy that acted in it

    def __init__(
        self,
        cfg: PPOKLConfig,
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
        built = build_optimizer(optimizer, model.named_parameters())
        self.gradient_step = GradientStep(model, built, as_transforms(clipper), monitor=monitor)
        self.learning_rate = ScheduledRate(schedule, self.gradient_step)
        self.kl_coef = torch.tensor(cfg.kl_coef, device=self.device)
        self.last: tuple[Batch, Tensor] | None = None  # the last rollout, and which of its rows are valid

    @property
    def gradient_steps(self) -> list[GradientStep]:
        """Actor and critic move in one step."""
        return [self.gradient_step]

    def behaviour(self, generator: np.random.Generator) -> Behaviour:
        """The policy itself, sampled."""
        return self.model.behaviour(generator)

    def update(self, rollout: Rollout, progress: float) -> Metrics:
        """Learn from one rollout, then adapt the penalty's weight.

        Args:
            rollout: what the policy has brought about since the last update.
            progress: share of the training done, in [0, 1]; drives the schedule.

        Returns:
            Means over the minibatches, and what describes the rollout; policy/kl is the mean KL(old || new)
            that the update has ended with, in nats, policy/kl_coef the weight that it was made with.
        """
        cfg = self.cfg
        lr_scale = self.learning_rate.set(progress)
        batch, valid = self.observe(rollout)
        old = self.old_policy()
        history = [
            self.update_minibatch(minibatch, old(minibatch.obs))
            for _ in range(cfg.num_epochs)
            for minibatch in batch.shuffled(valid, rollout.num_valid, cfg.num_minibatches, self.generator)
        ]
        with torch.no_grad():
            kl = old(batch.obs).kl(self.model.policy(batch.obs))[valid].mean()
        metrics = summary(history) | {
            "policy/kl": kl,
            "policy/kl_coef": self.kl_coef,
            **value_fit(batch.value[valid], batch.target[valid]),
            "policy/lr": torch.tensor(self.gradient_step.base_lrs[0] * lr_scale),
        }
        self.kl_coef = adapted_kl_coef(self.kl_coef, kl, cfg.target_kl)
        self.learning_rate.observe(metrics)
        return metrics

    def observe(self, rollout: Rollout) -> tuple[Batch, Tensor]:
        """The rollout as a batch, and which of its rows are valid, bool [B]; the policy is remembered."""
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

    def old_policy(self) -> Callable[[Tensor], Policy]:
        """The policy that acted in the last rollout, of observations [B, D]; without a gradient."""
        assert self.acted is not None
        parameters: Mapping[str, Tensor] = self.acted.parameters

        @torch.no_grad()
        def policy(obs: Tensor) -> Policy:
            return functional_call(self.model, dict(parameters), (obs,))[0]

        return policy

    def update_minibatch(self, batch: Batch, old: Policy) -> Metrics:
        """One gradient step."""
        batch = self.normalized(batch)
        return self.gradient_step(lambda: self.loss(batch, old), samples=len(batch))

    def normalized(self, batch: Batch) -> Batch:
        """The batch with the advantages that its loss weighs."""
        if not self.cfg.normalize_advantage:
            return batch
        return replace(batch, advantage=normalize_advantage(batch.advantage))

    def loss(
        self, batch: Batch, old: Policy, forward: Forward | None = None
    ) -> tuple[dict[str, Tensor], Metrics]:
        """The terms, weighted, whose sum is minimised; the metrics have them without weights.

            L = -mean(r A) + beta mean(KL(pi_old || pi)) + value and entropy terms,   r = pi / pi_old

        Args:
            batch: its advantages as the loss shall weigh them.
            old: pi_old, of the batch's observations.
            forward: from observations to policy and values; None = the model as it now is.

        Source: eq. 8 of the paper.
        """
        cfg = self.cfg
        policy, value = (forward or self.model)(batch.obs)
        policy_loss, metrics = surrogate_loss(policy.log_prob(batch.action), batch.log_prob, batch.advantage)
        kl = old.kl(policy).mean()
        critic_loss = value_loss(value, batch.target)
        entropy = policy.entropy().mean()
        losses = {"policy": policy_loss, "kl": self.kl_coef * kl, "value": cfg.value_coef * critic_loss}
        if cfg.entropy_coef:
            losses["entropy"] = -cfg.entropy_coef * entropy
        return losses, metrics | {
            "loss/policy": policy_loss.detach(),
            "loss/kl": kl.detach(),
            "loss/value": critic_loss.detach(),
            "loss/entropy": -entropy.detach(),
            "policy/entropy": entropy.detach(),
        }

    def objectives(self) -> list[tuple[Objective, GradientStep]]:
        """The loss on the last rollout, its advantages normalised as a whole: what probes look at."""
        if self.last is None or self.acted is None:
            return []
        batch, valid = self.last
        batch, old = self.normalized(batch.rows(valid)), self.old_policy()

        def losses(frozen: Batch, forward: Forward) -> dict[str, Tensor]:
            return self.loss(frozen, old(frozen.obs), forward)[0]

        step = self.gradient_step
        return [(PolicyObjective(batch_objective(self.model, batch, losses, step), self.acted), step)]

    def state_dict(self) -> StateDict:
        """The penalty's weight, and what the learning rate's schedule remembers."""
        return {"learning_rate": self.learning_rate.state_dict(), "kl_coef": self.kl_coef.clone()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.learning_rate.load_state_dict(state["learning_rate"])
        self.kl_coef = state["kl_coef"].to(self.device)


def adapted_kl_coef(kl_coef: Tensor, kl: Tensor, target: float) -> Tensor:
    """The penalty's next weight: halved where the policy moved too little, doubled where it moved too much.

        beta / 2 for d < d_targ / 1.5,   2 beta for d > 1.5 d_targ,   else beta

    Args:
        kl_coef: beta, 0-d.
        kl: d, mean KL(old || new) of an update, nats, 0-d; one that is not finite counts as too much.
        target: d_targ, nats.

    Returns:
        0-d, in [1e-6, 1e6].

    Source: the rule below eq. 8 of the paper.
    """
    close = ~(kl > TOLERANCE * target) & kl.isfinite()
    factor = torch.where(close, torch.where(kl < target / TOLERANCE, 1 / FACTOR, 1.0), FACTOR)
    return (kl_coef * factor).clamp(*KL_COEF)
