"""IMPALA's actor-critic, for experience of an older policy (Espeholt et al. 2018, arXiv:1802.01561).

The policy that acts is a copy, refreshed only every `policy_lag` updates, as on machines that run behind the
learner. The learner corrects for the difference with V-trace: one gradient step on each rollout.
Where the rollout or the clock cuts an episode off, the critic's value stands for what would have come.
"""

import copy
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Gt, Interval

from core.checks import Finite, checked, require
from core.gradients import GradientStep, Metrics, Objective
from core.optim.schedules import ScheduledRate
from core.state import StateDict
from gradrl.agent import Learning
from gradrl.agents.on_policy import Forward, Losses, actor_critic_loss, batch_objectives, gradient_step
from gradrl.experience.rollout import Batch, Estimates, Rollout
from gradrl.experience.shares import divided
from gradrl.policies.actor import Actor
from gradrl.policies.networks import ActorCritic
from gradrl.policies.target import Target
from gradrl.returns import value_fit, vtrace


@dataclass(frozen=True, kw_only=True)
@checked
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

    num_steps: Annotated[int, Ge(1)] = 20
    gamma: Annotated[float, Interval(ge=0, le=1)] = 0.99
    policy_lag: Annotated[int, Ge(1)] = 4
    rho_bar: Annotated[float, Gt(0), Finite] = 1.0
    c_bar: float = 1.0
    value_coef: Annotated[float, Ge(0), Finite] = 0.5
    entropy_coef: Annotated[float, Ge(0), Finite] = 0.01

    def __post_init__(self) -> None:
        ok = 0 <= self.c_bar <= self.rho_bar
        require(ok, "c_bar", self.c_bar, f"in [0, rho_bar = {self.rho_bar}]")

    def minibatches(self, num_envs: int) -> tuple[int, int]:
        """One gradient step on each rollout, and its samples."""
        return 1, self.num_steps * num_envs


class VTrace:
    """Learns from rollouts of an older copy of its policy; the arguments are those of every `Agent`.

    The generator is not drawn from.

    Attributes:
        acting: the copy of the model that acts.
    """

    measures: ClassVar[tuple[str, ...]] = ("policy/approx_kl",)
    model_type: ClassVar[type] = ActorCritic
    off_policy: ClassVar[bool] = False
    targets: ClassVar[tuple[Target, ...]] = ()

    def __init__(
        self, cfg: VTraceConfig, model: ActorCritic, learning: Learning, generator: torch.Generator
    ) -> None:
        self.cfg, self.model, self.device = cfg, model, generator.device
        self.acting = copy.deepcopy(model).requires_grad_(False)
        self.age = 0  # updates since the copy was taken
        self.gradient_step = gradient_step(learning, model.named_parameters())
        self.gradient_steps = [self.gradient_step]  # actor and critic move in one step
        self.learning_rate = ScheduledRate(learning.schedule, self.gradient_step)
        self.own_loss, self.own_count = divided()
        self.last: Batch | None = None  # the last rollout

    def make_actor(self, generator: np.random.Generator) -> Actor:
        """The older copy of the policy, sampled."""
        return self.acting.make_actor(generator)

    def update(self, rollout: Rollout, progress: float) -> Metrics:
        """One gradient step on a rollout of the acting policy, which is refreshed when its time has come.

        Returns:
            The losses without their weights, and what describes the rollout. policy/approx_kl (nats, the k3
            estimator of KL(acting || learner)), policy/ratio_min and policy/ratio_max say how stale the
            rollout was before the step.
        """
        lr = self.gradient_step.base_lrs[0] * self.learning_rate.set(progress)
        batch, staleness = self.prepare(rollout)
        closure = partial(self.own_loss, self.loss, batch)
        metrics = self.gradient_step(closure, samples=self.own_count(batch)) | staleness
        self.age += 1
        if self.age >= self.cfg.policy_lag:
            self.acting.load_state_dict(self.model.state_dict())
            self.age = 0
        metrics |= value_fit(batch.value, batch.target) | {
            "policy/advantage_std": batch.advantage.std(correction=0),  # its bars part it from target - value
            "policy/lr": torch.tensor(lr),
        }
        self.learning_rate.observe(metrics)
        return metrics

    def observe(self, rollout: Rollout) -> Batch:
        """The rollout's transitions with V-trace's targets: the batch that probes look at."""
        return self.prepare(rollout)[0]

    @torch.no_grad()
    def prepare(self, rollout: Rollout) -> tuple[Batch, Metrics]:
        """As `observe`, and how far the learner's policy has moved from the one that acted."""
        cfg, rollout = self.cfg, rollout.to(self.device)
        value, next_value = self.model.values(rollout)
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
        estimates = Estimates(rollout, value, next_value, advantage, target)
        self.last = estimates.transitions(estimates.batch(self.acting.policy))
        log_ratio = log_ratio[rollout.valid.flatten()]
        ratio = log_ratio.exp()
        return self.last, {
            "policy/approx_kl": (ratio - 1 - log_ratio).mean(),
            "policy/ratio_min": ratio.min(),
            "policy/ratio_max": ratio.max(),
        }

    def loss(self, batch: Batch, forward: Forward | None = None) -> Losses:
        """The weighted terms whose sum is minimised; the metrics have them without weights."""
        return actor_critic_loss(forward or self.model, batch, self.cfg.value_coef, self.cfg.entropy_coef)

    def objectives(self) -> list[tuple[Objective, GradientStep]]:
        """The loss on the last rollout: what probes look at."""
        return batch_objectives(self.model, self.last, (self.gradient_step, self.loss))

    def state_dict(self) -> StateDict:
        """The state of the learning rate's schedule, the acting policy and its age."""
        rate = self.learning_rate.state_dict()
        return {"learning_rate": rate, "acting": self.acting.state_dict(), "age": self.age}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.learning_rate.load_state_dict(state["learning_rate"])
        self.acting.load_state_dict(state["acting"])
        self.age = state["age"]
