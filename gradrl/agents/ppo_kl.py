"""Proximal policy optimisation with an adaptive KL penalty (Schulman et al. 2017, arXiv:1707.06347, sec. 4).

Several epochs of minibatch gradient steps on each rollout, as with the clipped surrogate. Here a penalty on
the divergence from the policy that acted keeps the two together, and its weight is adapted after each
rollout so that the divergence stays near a target.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor
from torch.func import functional_call

from core.checks import Finite, checked
from core.gradients import GradientStep, Metrics, Objective
from core.optim.schedules import ScheduledRate
from core.state import StateDict
from gradrl.agent import Learning
from gradrl.agents.on_policy import (
    Forward,
    Losses,
    batch_objectives,
    copied_parameters,
    gradient_step,
    minibatch_size,
)
from gradrl.experience.rollout import Batch, Estimates, Rollout
from gradrl.experience.shares import divided
from gradrl.losses import mean_metrics, normalize_advantage, surrogate_loss, value_loss, weighted_terms
from gradrl.policies.actor import Actor
from gradrl.policies.distributions import Policy
from gradrl.policies.networks import ActorCritic
from gradrl.policies.target import Target
from gradrl.returns import generalized_estimates, value_fit

TOLERANCE, FACTOR = 1.5, 2.0  # the paper's; it found the algorithm not very sensitive to them
KL_COEF = (1e-6, 1e6)  # a policy that stands still would otherwise halve the weight to 0


@dataclass(frozen=True, kw_only=True)
@checked
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

    num_steps: Annotated[int, Ge(1)] = 128
    num_epochs: Annotated[int, Ge(1)] = 10
    num_minibatches: Annotated[int, Ge(1)] = 8
    gamma: Annotated[float, Interval(ge=0, le=1)] = 0.99
    gae_lambda: Annotated[float, Interval(ge=0, le=1)] = 0.95
    target_kl: Annotated[float, Gt(0), Finite] = 0.01
    kl_coef: Annotated[float, Gt(0), Finite] = 1.0
    value_coef: Annotated[float, Ge(0), Finite] = 0.5
    entropy_coef: Annotated[float, Ge(0), Finite] = 0.0
    normalize_advantage: bool = True

    def minibatches(self, num_envs: int) -> tuple[int, int]:
        """Gradient steps on each rollout, and samples of each; ValueError unless equal."""
        size = minibatch_size(self.num_steps, num_envs, self.num_minibatches)
        return self.num_epochs * self.num_minibatches, size


class PPOKL:
    """Learns from rollouts; the arguments are those of every `Agent`; the generator shuffles minibatches.

    Attributes:
        kl_coef: beta as it now is, 0-d.
        old_parameters: of the policy that acted in the last rollout, by name.
    """

    measures: ClassVar[tuple[str, ...]] = ("policy/kl",)
    model_type: ClassVar[type] = ActorCritic
    off_policy: ClassVar[bool] = False
    targets: ClassVar[tuple[Target, ...]] = ()
    estimates: Estimates | None = None  # of the last rollout

    def __init__(
        self, cfg: PPOKLConfig, model: ActorCritic, learning: Learning, generator: torch.Generator
    ) -> None:
        self.cfg, self.model, self.generator, self.device = cfg, model, generator, generator.device
        self.gradient_step = gradient_step(learning, model.named_parameters())
        self.gradient_steps = [self.gradient_step]  # actor and critic move in one step
        self.learning_rate = ScheduledRate(learning.schedule, self.gradient_step)
        self.own_loss, self.own_count = divided()
        self.kl_coef = torch.tensor(cfg.kl_coef, device=self.device)
        self.old_parameters: dict[str, Tensor] = {}
        self.last: tuple[Batch, Tensor] | None = None  # the last rollout, and which of its rows are valid

    def make_actor(self, generator: np.random.Generator) -> Actor:
        """The policy itself, sampled."""
        return self.model.make_actor(generator)

    def update(self, rollout: Rollout, progress: float) -> Metrics:
        """Learn from one rollout, then adapt the penalty's weight.

        Returns:
            Means over the minibatches, and what describes the rollout; policy/kl is the mean KL(old || new)
            after the update, in nats, policy/kl_coef the weight during the update.
        """
        cfg = self.cfg
        lr = self.gradient_step.base_lrs[0] * self.learning_rate.set(progress)
        batch, valid = self.observe(rollout)
        history = [
            self.update_minibatch(minibatch)
            for _ in range(cfg.num_epochs)
            for minibatch in batch.shuffled(valid, rollout.num_valid, cfg.num_minibatches, self.generator)
        ]
        with torch.no_grad():
            kl = self.old_policy(batch.obs).kl(self.model.policy(batch.obs))[valid].mean()
        metrics = mean_metrics(history) | value_fit(batch.value[valid], batch.target[valid])
        metrics |= {"policy/kl": kl, "policy/kl_coef": self.kl_coef, "policy/lr": torch.tensor(lr)}
        self.learning_rate.observe(metrics)
        self.kl_coef = adapted_kl_coef(self.kl_coef, kl, cfg.target_kl)
        return metrics

    def observe(self, rollout: Rollout) -> tuple[Batch, Tensor]:
        """The rollout as a batch of T N rows, and which of them are transitions, bool [T N]."""
        cfg, rollout = self.cfg, rollout.to(self.device)
        self.old_parameters = copied_parameters(self.model)
        values = self.model.values(rollout)
        self.estimates = generalized_estimates(rollout, *values, cfg.gamma, cfg.gae_lambda)
        self.last = self.estimates.batch(self.model.policy), rollout.valid.flatten()
        return self.last

    @torch.no_grad()
    def old_policy(self, obs: Tensor, old_parameters: dict[str, Tensor] | None = None) -> Policy:
        """pi_old(.|s), the policy that acted in the last rollout, for rows [B, D]; without a gradient."""
        return functional_call(self.model, old_parameters or self.old_parameters, (obs,))[0]

    def update_minibatch(self, batch: Batch) -> Metrics:
        """One gradient step."""
        closure = partial(self.minibatch_loss, batch, self.old_parameters, self.kl_coef)
        return self.gradient_step(closure, samples=self.own_count(batch))

    def minibatch_loss(self, batch: Batch, old_parameters: dict[str, Tensor], kl_coef: Tensor) -> Losses:
        """The loss of a minibatch, whose advantages are normalised among themselves."""
        loss = partial(self.loss, old_parameters=old_parameters, kl_coef=kl_coef)
        return self.own_loss(loss, self.normalized(batch))

    def normalized(self, batch: Batch) -> Batch:
        """The batch with the advantages that its loss weighs."""
        if not self.cfg.normalize_advantage:
            return batch
        return replace(batch, advantage=normalize_advantage(batch.advantage))

    def loss(
        self,
        batch: Batch,
        forward: Forward | None = None,
        old_parameters: dict[str, Tensor] | None = None,
        kl_coef: Tensor | None = None,
    ) -> Losses:
        """The weighted terms whose sum is minimised; the metrics have them without weights.

            L = -mean(r A) + beta mean(KL(pi_old || pi)) + value and entropy terms,   r = pi / pi_old

        Args:
            batch: with the advantages as `normalized` gives them.
            forward: from observations to policy and values; None = the model as it now is.
            old_parameters: of pi_old; None = as they now are.
            kl_coef: beta, 0-d; None = as it now is.

        Source: eq. 8 of the paper.
        """
        cfg = self.cfg
        policy, value = (forward or self.model)(batch.obs)
        policy_loss, metrics = surrogate_loss(policy.log_prob(batch.action), batch.log_prob, batch.advantage)
        kl = self.old_policy(batch.obs, old_parameters).kl(policy).mean()
        critic_loss = value_loss(value, batch.target)
        entropy = policy.entropy().mean()
        losses, terms = weighted_terms(policy_loss, critic_loss, entropy, cfg.value_coef, cfg.entropy_coef)
        losses = {"policy": policy_loss, "kl": (self.kl_coef if kl_coef is None else kl_coef) * kl} | losses
        return losses, metrics | terms | {"loss/kl": kl.detach()}

    def objectives(self) -> list[tuple[Objective, GradientStep]]:
        """The loss on the last rollout, its advantages normalised as a whole: what probes look at."""
        batch = None if self.last is None else self.normalized(self.last[0].rows(self.last[1]))
        return batch_objectives(self.model, batch, (self.gradient_step, self.loss))

    def state_dict(self) -> StateDict:
        """The state of the learning rate's schedule, and the penalty's weight."""
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
