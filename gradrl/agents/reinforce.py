"""REINFORCE: the Monte Carlo policy gradient (Williams 1992, Machine Learning 8, 229-256).

One gradient step on each rollout along mean_t (G_t - b) grad log pi(a_t|s_t), with return-to-go G and one of
three baselines b. What the rollout or the clock cuts off is dealt with differently:

- `none` and `mean` have no critic, so a cut counts as an end: G is what the rollout still holds of the
  episode. With `none` and gamma = 1 the step is, without bias, the gradient of each episode's expected reward
  up to the rollout's end, given where it began. To leave out the episodes that are cut off would favour
  short ones instead. The rollout's `mean` adds a bias that vanishes with the number of episodes in it.
- `learned` continues G by V at a cut, and subtracts V(s): no bias from the cut beyond the critic's error.

As is usual, the factor gamma^t of the discounted start-state objective is left out of the step.
"""

from dataclasses import dataclass
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
from gradrl.agents.actor_critic import (
    Forward,
    actor_critic_loss,
    batch_objective,
    flat_batch,
    split_parameters,
    valid_rows,
    values,
)
from gradrl.experience.rollout import Batch, Rollout
from gradrl.policies.actor import Behaviour
from gradrl.policies.networks import ActorCritic
from gradrl.probes.policy_gradient import Acted, remember
from gradrl.probes.probe import PolicyObjective
from gradrl.returns import discounted_return, value_fit


@dataclass(frozen=True, kw_only=True)
class REINFORCEConfig:
    """Options of REINFORCE; conf/agent/reinforce.yaml gives the defaults.

    Attributes:
        num_steps: T, environment steps per rollout and environment; one gradient step follows each. Without a
            critic nothing behind the rollout's end is seen, so it should hold several episodes.
        gamma: discount per step.
        baseline: what is subtracted from the return: nothing, its mean over the rollout, or V(s).
        value_coef: weight of the value loss; only `learned` has one.
        entropy_coef: weight of the entropy bonus.
    """

    num_steps: int = 500
    gamma: float = 0.99
    baseline: Literal["none", "mean", "learned"] = "learned"
    value_coef: float = 0.5
    entropy_coef: float = 0.0

    def __post_init__(self) -> None:
        require(self.num_steps >= 1, "num_steps", self.num_steps, "an integer >= 1")
        require(0 <= self.gamma <= 1, "gamma", self.gamma, "in [0, 1]")
        allowed = ("none", "mean", "learned")
        require(self.baseline in allowed, "baseline", self.baseline, f"one of {list(allowed)}")
        for name in ("value_coef", "entropy_coef"):
            ok = 0 <= getattr(self, name) < float("inf")
            require(ok, name, getattr(self, name), "a finite number >= 0")

    def check(self, num_envs: int) -> None:
        """Any number of environments fits."""

    def minibatch_size(self, num_envs: int) -> int:
        """Samples of one gradient step."""
        return self.num_steps * num_envs


class REINFORCE:
    """Learns from rollouts.

    Args:
        cfg: options.
        model: policy and value function, on their device; without a learned baseline the value function stays
            as it is.
        optimizer: builds the optimizer of the parameters.
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
        cfg: REINFORCEConfig,
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
        self.learned = cfg.baseline == "learned"
        named = list(model.named_parameters()) if self.learned else split_parameters(model)[0]
        built = build_optimizer(optimizer, named)
        self.gradient_step = GradientStep(named, built, as_transforms(clipper), monitor=monitor)
        self.learning_rate = ScheduledRate(schedule, self.gradient_step)
        self.last: Batch | None = None  # the last rollout

    @property
    def gradient_steps(self) -> list[GradientStep]:
        """Policy and learned baseline move in one step."""
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
        metrics = self.gradient_step(lambda: self.loss(batch), samples=len(batch))
        if self.learned:
            metrics |= value_fit(batch.value, batch.target)
        metrics["policy/lr"] = torch.tensor(self.gradient_step.base_lrs[0] * lr_scale)
        self.learning_rate.observe(metrics)
        return metrics

    @torch.no_grad()
    def observe(self, rollout: Rollout) -> Batch:
        """The rollout's transitions with their returns, less the baseline; remembered for probes."""
        rollout = rollout.to(self.device)
        value = next_value = torch.zeros_like(rollout.reward)
        if self.learned:
            value, next_value = values(self.model, rollout)
        ends = rollout.terminated, rollout.truncated
        returns = discounted_return(rollout.reward, next_value, *ends, self.cfg.gamma)
        advantage = returns - value
        if self.cfg.baseline == "mean":
            advantage = returns - (returns * rollout.valid).sum() / rollout.num_valid
        self.acted = remember(
            self.model,
            rollout,
            advantage,
            value if self.learned else None,
            next_value if self.learned else None,
            gamma=self.cfg.gamma,
            gae_lambda=None,
            minibatch_size=rollout.num_valid,
            normalize=False,
        )
        self.last = valid_rows(flat_batch(self.model, rollout, value, advantage, returns), rollout)
        return self.last

    def loss(self, batch: Batch, forward: Forward | None = None) -> tuple[dict[str, Tensor], Metrics]:
        """The weighted terms whose sum is minimised; the metrics have them without weights."""
        policy, value = (forward or self.model)(batch.obs)
        losses, metrics = actor_critic_loss(policy, value, batch, self.cfg.value_coef, self.cfg.entropy_coef)
        if not self.learned:
            del losses["value"], metrics["loss/value"]
        return losses, metrics

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
