"""Advantage actor-critic, synchronous (Mnih et al. 2016, arXiv:1602.01783).

One gradient step on each short rollout: the policy gradient with advantages, the critic's error, and an
entropy bonus. `gae_lambda` = 1 gives the paper's n-step advantages, n as large as the rollout allows. Where
the rollout or the clock cuts an episode off, the critic's value stands for what would have come.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from core.checks import require
from core.config import Component
from core.gradients import Clipper, GradientStep, Metrics, MonitorConfig, Objective, as_transforms
from core.optim.factory import build_optimizer
from core.optim.schedules import Schedule, ScheduledRate
from core.state import StateDict
from gradrl.agents.actor_critic import (
    Forward,
    actor_critic_loss,
    advantage_batch,
    batch_objective,
    valid_rows,
)
from gradrl.experience.rollout import Batch, Rollout
from gradrl.losses import normalize_advantage
from gradrl.policies.actor import Behaviour
from gradrl.policies.networks import ActorCritic
from gradrl.probes.policy_gradient import Acted
from gradrl.probes.probe import PolicyObjective
from gradrl.returns import value_fit


@dataclass(frozen=True, kw_only=True)
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

    num_steps: int = 5
    gamma: float = 0.99
    gae_lambda: float = 1.0
    value_coef: float = 0.5
    entropy_coef: float = 0.0
    normalize_advantage: bool = False

    def __post_init__(self) -> None:
        require(self.num_steps >= 1, "num_steps", self.num_steps, "an integer >= 1")
        for name in ("gamma", "gae_lambda"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in [0, 1]")
        for name in ("value_coef", "entropy_coef"):
            ok = 0 <= getattr(self, name) < float("inf")
            require(ok, name, getattr(self, name), "a finite number >= 0")

    def check(self, num_envs: int) -> None:
        """Any number of environments fits."""

    def minibatch_size(self, num_envs: int) -> int:
        """Samples of one gradient step."""
        return self.num_steps * num_envs


class A2C:
    """Learns from rollouts.

    Args:
        cfg: options.
        model: policy and value function, on their device.
        optimizer: builds the optimizer of the model's parameters.
        clipper: transform of the gradient, a chain of them, or None.
        schedule: learning rate's multiplier over the progress of training.
        generator: not drawn from; on the model's device.
        monitor: what is measured of the gradient.
    """

    measures: ClassVar[tuple[str, ...]] = ()
    model_type: ClassVar[type] = ActorCritic
    off_policy: ClassVar[bool] = False
    acted: Acted | None = None  # the last rollout, and the policy that acted in it: for probes

    def __init__(
        self,
        cfg: A2CConfig,
        model: ActorCritic,
        optimizer: Component,
        clipper: Clipper | None,
        schedule: Schedule,
        generator: torch.Generator,
        monitor: MonitorConfig | None = None,
    ) -> None:
        self.cfg = cfg
        self.model = model
        self.device = generator.device
        built = build_optimizer(optimizer, model.named_parameters())
        self.gradient_step = GradientStep(model, built, as_transforms(clipper), monitor=monitor)
        self.learning_rate = ScheduledRate(schedule, self.gradient_step)
        self.last: Batch | None = None  # the last rollout

    @property
    def gradient_steps(self) -> list[GradientStep]:
        """Actor and critic move in one step."""
        return [self.gradient_step]

    def behaviour(self, generator: np.random.Generator) -> Behaviour:
        """The policy itself, sampled."""
        return self.model.behaviour(generator)

    def update(self, rollout: Rollout, progress: float) -> Metrics:
        """One gradient step on one rollout.

        Args:
            rollout: what the policy has brought about since the last update.
            progress: share of the training done, in [0, 1]; drives the schedule.

        Returns:
            The losses without their weights, and what describes the rollout.
        """
        lr_scale = self.learning_rate.set(progress)
        batch = self.observe(rollout)
        metrics = self.gradient_step(lambda: self.loss(batch), samples=len(batch)) | {
            **value_fit(batch.value, batch.target),
            "policy/lr": torch.tensor(self.gradient_step.base_lrs[0] * lr_scale),
        }
        self.learning_rate.observe(metrics)
        return metrics

    def observe(self, rollout: Rollout) -> Batch:
        """The rollout's transitions with their advantages; remembered for probes."""
        cfg = self.cfg
        rollout = rollout.to(self.device)
        whole, self.acted = advantage_batch(
            self.model,
            rollout,
            gamma=cfg.gamma,
            gae_lambda=cfg.gae_lambda,
            minibatch_size=rollout.num_valid,
            normalize=cfg.normalize_advantage,
        )
        batch = valid_rows(whole, rollout)
        if cfg.normalize_advantage:
            batch = replace(batch, advantage=normalize_advantage(batch.advantage))
        self.last = batch
        return batch

    def loss(self, batch: Batch, forward: Forward | None = None) -> tuple[dict[str, Tensor], Metrics]:
        """The weighted terms whose sum is minimised; the metrics have them without weights."""
        policy, value = (forward or self.model)(batch.obs)
        return actor_critic_loss(policy, value, batch, self.cfg.value_coef, self.cfg.entropy_coef)

    def objectives(self) -> list[tuple[Objective, GradientStep]]:
        """The loss on the last rollout: what probes look at."""
        if self.last is None or self.acted is None:
            return []
        step = self.gradient_step
        objective = batch_objective(self.model, self.last, lambda *frozen: self.loss(*frozen)[0], step)
        return [(PolicyObjective(objective, self.acted), step)]

    def state_dict(self) -> StateDict:
        """What the learning rate's schedule remembers."""
        return {"learning_rate": self.learning_rate.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.learning_rate.load_state_dict(state["learning_rate"])
