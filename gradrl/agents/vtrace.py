"""IMPALA's actor-critic, for experience of an older policy (Espeholt et al. 2018, arXiv:1802.01561).

The policy that acts is a copy, refreshed only every `policy_lag` updates, as it would be on machines that run
ahead of the learner. The learner corrects for the difference with V-trace: one gradient step on each rollout.
Where the rollout or the clock cuts an episode off, the critic's value stands for what would have come.
"""

import copy
from dataclasses import dataclass
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
    batch_objective,
    flat_batch,
    valid_rows,
    values,
)
from gradrl.experience.rollout import Batch, Rollout
from gradrl.policies.actor import Behaviour
from gradrl.policies.networks import ActorCritic
from gradrl.returns import value_fit, vtrace


@dataclass(frozen=True, kw_only=True)
class VTraceConfig:
    """Options of the V-trace actor-critic; conf/agent/vtrace.yaml gives the defaults.

    Attributes:
        num_steps: T, environment steps per rollout and environment; one gradient step follows each.
        gamma: discount per step.
        policy_lag: updates between two refreshes of the policy that acts; 1 = it is always the newest, and
            V-trace changes nothing.
        rho_bar: upper bound of the importance weights of errors and policy gradient; below 1 the critic's
            fixed point is biased towards the policy that acts even on its own data.
        c_bar: upper bound of the importance weights along the trace; changes speed, not the fixed point.
        value_coef: weight of the value loss.
        entropy_coef: weight of the entropy bonus.
    """

    num_steps: int = 20
    gamma: float = 0.99
    policy_lag: int = 4
    rho_bar: float = 1.0
    c_bar: float = 1.0
    value_coef: float = 0.5
    entropy_coef: float = 0.01

    def __post_init__(self) -> None:
        for name in ("num_steps", "policy_lag"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer >= 1")
        require(0 <= self.gamma <= 1, "gamma", self.gamma, "in [0, 1]")
        require(0 < self.rho_bar < float("inf"), "rho_bar", self.rho_bar, "a finite number > 0")
        ok = 0 <= self.c_bar <= self.rho_bar
        require(ok, "c_bar", self.c_bar, f"in [0, rho_bar = {self.rho_bar}]")
        for name in ("value_coef", "entropy_coef"):
            ok = 0 <= getattr(self, name) < float("inf")
            require(ok, name, getattr(self, name), "a finite number >= 0")

    def check(self, num_envs: int) -> None:
        """Any number of environments fits."""

    def minibatch_size(self, num_envs: int) -> int:
        """Samples of one gradient step."""
        return self.num_steps * num_envs


class VTrace:
    """Learns from rollouts of an older copy of its policy.

    Args:
        cfg: options.
        model: policy and value function, on their device.
        optimizer: builds the optimizer of the model's parameters.
        clipper: transform of the gradient, a chain of them, or None.
        schedule: learning rate's multiplier over the progress of training.
        generator: not drawn from; on the model's device.
        monitor: what is measured of the gradient.

    Attributes:
        acting: the copy of the model that acts.
    """

    measures: ClassVar[tuple[str, ...]] = ("policy/approx_kl",)
    model_type: ClassVar[type] = ActorCritic
    off_policy: ClassVar[bool] = False

    def __init__(
        self,
        cfg: VTraceConfig,
        model: ActorCritic,
        optimizer: Component,
        clipper: Clipper | None,
        schedule: Schedule,
        generator: torch.Generator,
        monitor: MonitorConfig | None = None,
    ) -> None:
        self.cfg = cfg
        self.model = model
        self.acting = copy.deepcopy(model).requires_grad_(False)
        self.age = 0  # updates since the copy was taken
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
        """The older copy of the policy, sampled."""
        return self.acting.behaviour(generator)

    def update(self, rollout: Rollout, progress: float) -> Metrics:
        """One gradient step on one rollout of the acting policy; then that is refreshed, if it is time.

        Args:
            rollout: what the acting policy has brought about since the last update.
            progress: share of the training done, in [0, 1]; drives the schedule.

        Returns:
            The losses without their weights, and what describes the rollout. policy/approx_kl (nats, the k3
            estimator of KL(acting || learner)), policy/ratio_min and policy/ratio_max say how stale the
            rollout was before the step.
        """
        lr_scale = self.learning_rate.set(progress)
        batch, staleness = self.prepare(rollout)
        metrics = self.gradient_step(lambda: self.loss(batch), samples=len(batch)) | staleness
        metrics |= {
            **value_fit(batch.value, batch.target),
            "policy/lr": torch.tensor(self.gradient_step.base_lrs[0] * lr_scale),
        }
        self.age += 1
        if self.age >= self.cfg.policy_lag:
            self.acting.load_state_dict(self.model.state_dict())
            self.age = 0
        self.learning_rate.observe(metrics)
        return metrics

    def observe(self, rollout: Rollout) -> Batch:
        """The rollout's transitions with V-trace's targets: the batch that probes look at."""
        return self.prepare(rollout)[0]

    @torch.no_grad()
    def prepare(self, rollout: Rollout) -> tuple[Batch, Metrics]:
        """As `observe`, and how far the learner's policy has moved from the one that acted."""
        cfg = self.cfg
        rollout = rollout.to(self.device)
        value, next_value = values(self.model, rollout)
        obs, action = rollout.obs[:-1].flatten(0, 1), rollout.action.flatten(0, 1)
        acting = self.acting.policy(obs).log_prob(action)
        log_ratio = self.model.policy(obs).log_prob(action) - acting
        target, advantage = vtrace(
            log_ratio.view_as(value),
            rollout.reward,
            value,
            next_value,
            rollout.terminated,
            rollout.truncated,
            cfg.gamma,
            cfg.rho_bar,
            cfg.c_bar,
        )
        batch = flat_batch(self.acting, rollout, value, advantage, target)
        self.last = valid_rows(batch, rollout)
        log_ratio = log_ratio[rollout.valid.flatten()]
        ratio = log_ratio.exp()
        return self.last, {
            "policy/approx_kl": (ratio - 1 - log_ratio).mean(),
            "policy/ratio_min": ratio.min(),
            "policy/ratio_max": ratio.max(),
        }

    def loss(self, batch: Batch, forward: Forward | None = None) -> tuple[dict[str, Tensor], Metrics]:
        """The weighted terms whose sum is minimised; the metrics have them without weights."""
        policy, value = (forward or self.model)(batch.obs)
        return actor_critic_loss(policy, value, batch, self.cfg.value_coef, self.cfg.entropy_coef)

    def objectives(self) -> list[tuple[Objective, GradientStep]]:
        """The loss on the last rollout: what probes look at."""
        if self.last is None:
            return []
        step = self.gradient_step
        return [(batch_objective(self.model, self.last, lambda *b: self.loss(*b)[0], step), step)]

    def state_dict(self) -> StateDict:
        """What the learning rate's schedule remembers, the acting policy and its age."""
        return {
            "learning_rate": self.learning_rate.state_dict(),
            "acting": self.acting.state_dict(),
            "age": self.age,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.learning_rate.load_state_dict(state["learning_rate"])
        self.acting.load_state_dict(state["acting"])
        self.age = state["age"]
