"""Advantage actor-critic, synchronous (Mnih et al. 2016, arXiv:1602.01783).

One gradient step on each short rollout: the policy gradient with advantages, the critic's error, and an
entropy bonus. `gae_lambda` = 1 gives the paper's n-step advantages, n as large as the rollout allows. Where
the rollout or the clock cuts an episode off, the critic's value stands for what would have come.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Interval

from core.checks import Finite, checked
from core.gradients import GradientStep, Metrics, Objective
from core.optim.schedules import ScheduledRate
from core.state import StateDict
from gradrl.agent import Learning
from gradrl.agents.on_policy import Forward, Losses, actor_critic_loss, batch_objectives, gradient_step
from gradrl.experience.rollout import Batch, Estimates, Rollout
from gradrl.experience.shares import divided
from gradrl.losses import normalize_advantage
from gradrl.policies.actor import Actor
from gradrl.policies.networks import ActorCritic
from gradrl.policies.target import Target
from gradrl.returns import generalized_estimates, value_fit


@dataclass(frozen=True, kw_only=True)
@checked
class A2CConfig:
    """Options of A2C; conf/agent/a2c.yaml gives the defaults.

    Attributes:
        num_steps: T, environment steps per rollout and environment; one gradient step follows each.
        gamma: discount per step.
        gae_lambda: bias against variance of the advantage; 1 = n-step returns.
        value_coef: weight of the value loss.
        entropy_coef: weight of the entropy bonus.
        normalize_advantage: mean 0 and deviation 1 within each rollout.
    """

    num_steps: Annotated[int, Ge(1)] = 5
    gamma: Annotated[float, Interval(ge=0, le=1)] = 0.99
    gae_lambda: Annotated[float, Interval(ge=0, le=1)] = 1.0
    value_coef: Annotated[float, Ge(0), Finite] = 0.5
    entropy_coef: Annotated[float, Ge(0), Finite] = 0.0
    normalize_advantage: bool = False

    def minibatches(self, num_envs: int) -> tuple[int, int]:
        """One gradient step on each rollout, and its samples."""
        return 1, self.num_steps * num_envs


class A2C:
    """Learns from rollouts; the arguments are those of every `Agent`; the generator is not drawn from."""

    measures: ClassVar[tuple[str, ...]] = ()
    model_type: ClassVar[type] = ActorCritic
    off_policy: ClassVar[bool] = False
    targets: ClassVar[tuple[Target, ...]] = ()
    estimates: Estimates | None = None  # of the last rollout

    def __init__(
        self, cfg: A2CConfig, model: ActorCritic, learning: Learning, generator: torch.Generator
    ) -> None:
        self.cfg, self.model, self.device = cfg, model, generator.device
        self.gradient_step = gradient_step(learning, model.named_parameters())
        self.gradient_steps = [self.gradient_step]  # actor and critic move in one step
        self.learning_rate = ScheduledRate(learning.schedule, self.gradient_step)
        self.own_loss, self.own_count = divided()
        self.last: Batch | None = None  # the last rollout

    def make_actor(self, generator: np.random.Generator) -> Actor:
        """The policy itself, sampled."""
        return self.model.make_actor(generator)

    def update(self, rollout: Rollout, progress: float) -> Metrics:
        """One gradient step; returns the losses without their weights, and what describes the rollout."""
        lr = self.gradient_step.base_lrs[0] * self.learning_rate.set(progress)
        batch = self.observe(rollout)
        metrics = self.gradient_step(partial(self.own_loss, self.loss, batch), samples=self.own_count(batch))
        metrics |= value_fit(batch.value, batch.target) | {"policy/lr": torch.tensor(lr)}
        self.learning_rate.observe(metrics)
        return metrics

    def observe(self, rollout: Rollout) -> Batch:
        """The rollout's transitions with their advantages."""
        cfg, rollout = self.cfg, rollout.to(self.device)
        values = self.model.values(rollout)
        self.estimates = generalized_estimates(rollout, *values, cfg.gamma, cfg.gae_lambda)
        batch = self.estimates.transitions(self.estimates.batch(self.model.policy))
        if cfg.normalize_advantage:
            batch = replace(batch, advantage=normalize_advantage(batch.advantage))
        self.last = batch
        return batch

    def loss(self, batch: Batch, forward: Forward | None = None) -> Losses:
        """The weighted terms whose sum is minimised; the metrics have them without weights."""
        return actor_critic_loss(forward or self.model, batch, self.cfg.value_coef, self.cfg.entropy_coef)

    def objectives(self) -> list[tuple[Objective, GradientStep]]:
        """The loss on the last rollout: what probes look at."""
        return batch_objectives(self.model, self.last, (self.gradient_step, self.loss))

    def state_dict(self) -> StateDict:
        """The state of the learning rate's schedule."""
        return {"learning_rate": self.learning_rate.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.learning_rate.load_state_dict(state["learning_rate"])
