"""REINFORCE: the Monte Carlo policy gradient (Williams 1992, Machine Learning 8, 229-256).

One gradient step on each rollout along mean_t (G_t - b) grad log pi(a_t|s_t), with return-to-go G and one of
three baselines b. They treat episodes that the rollout or the clock cuts off differently:

- `none` and `mean` have no critic, so a cut counts as an end: G is what the rollout still holds of the
  episode. With `none` and gamma = 1 the step is, without bias, the gradient of each episode's expected reward
  up to the rollout's end, given where it began. To leave out the episodes that are cut off would favour
  short ones instead. The rollout's `mean` adds a bias that vanishes with the number of episodes in it.
- `learned` continues G by V at a cut, and subtracts V(s): no bias from the cut beyond the critic's error.

As usual, the step leaves out the factor gamma^t of the discounted start-state objective.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Interval

from core.checks import Finite, checked
from core.gradients import GradientStep, Metrics, Objective
from core.optim.schedules import ScheduledRate
from core.state import StateDict
from gradrl.agent import Learning
from gradrl.agents.on_policy import (
    Forward,
    Losses,
    actor_critic_loss,
    batch_objectives,
    gradient_step,
    split_parameters,
)
from gradrl.experience.rollout import Batch, Estimates, Rollout
from gradrl.experience.shares import divided
from gradrl.policies.actor import Actor
from gradrl.policies.networks import ActorCritic
from gradrl.policies.target import Target
from gradrl.returns import discounted_return, value_fit


@dataclass(frozen=True, kw_only=True)
@checked
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

    num_steps: Annotated[int, Ge(1)] = 500
    gamma: Annotated[float, Interval(ge=0, le=1)] = 0.99
    baseline: Literal["none", "mean", "learned"] = "learned"
    value_coef: Annotated[float, Ge(0), Finite] = 0.5
    entropy_coef: Annotated[float, Ge(0), Finite] = 0.0

    gae_lambda = None  # no options, but what probes ask of every on-policy agent
    normalize_advantage = False

    def minibatches(self, num_envs: int) -> tuple[int, int]:
        """One gradient step on each rollout, and its samples."""
        return 1, self.num_steps * num_envs


class REINFORCE:
    """Learns from rollouts; the arguments are those of every `Agent`; the generator is not drawn from.

    Without a learned baseline the value function stays as it is.
    """

    measures: ClassVar[tuple[str, ...]] = ()
    model_type: ClassVar[type] = ActorCritic
    off_policy: ClassVar[bool] = False
    targets: ClassVar[tuple[Target, ...]] = ()
    estimates: Estimates | None = None  # of the last rollout

    def __init__(
        self, cfg: REINFORCEConfig, model: ActorCritic, learning: Learning, generator: torch.Generator
    ) -> None:
        self.cfg, self.model, self.device = cfg, model, generator.device
        self.learned = cfg.baseline == "learned"
        named = model.named_parameters() if self.learned else split_parameters(model)[0]
        self.gradient_step = gradient_step(learning, named)
        self.gradient_steps = [self.gradient_step]  # policy and learned baseline move in one step
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
        if self.learned:
            metrics |= value_fit(batch.value, batch.target)
        metrics["policy/lr"] = torch.tensor(lr)
        self.learning_rate.observe(metrics)
        return metrics

    @torch.no_grad()
    def observe(self, rollout: Rollout) -> Batch:
        """The rollout's transitions with their returns, less the baseline."""
        rollout = rollout.to(self.device)
        value = next_value = torch.zeros_like(rollout.reward)
        if self.learned:
            value, next_value = self.model.values(rollout)
        ends = rollout.terminated, rollout.truncated
        returns = discounted_return(rollout.reward, next_value, *ends, self.cfg.gamma)
        advantage = returns - value
        if self.cfg.baseline == "mean":
            advantage = returns - (returns * rollout.valid).sum() / rollout.num_valid
        self.estimates = Estimates(rollout, value, next_value, advantage, returns, self.learned)
        self.last = self.estimates.transitions(self.estimates.batch(self.model.policy))
        return self.last

    def loss(self, batch: Batch, forward: Forward | None = None) -> Losses:
        """The weighted terms whose sum is minimised; the metrics have them without weights."""
        cfg = self.cfg
        losses, metrics = actor_critic_loss(forward or self.model, batch, cfg.value_coef, cfg.entropy_coef)
        if not self.learned:
            del losses["value"], metrics["loss/value"]
        return losses, metrics

    def objectives(self) -> list[tuple[Objective, GradientStep]]:
        """The loss on the last rollout: what probes look at."""
        return batch_objectives(self.model, self.last, (self.gradient_step, self.loss))

    def state_dict(self) -> StateDict:
        """The state of the learning rate's schedule."""
        return {"learning_rate": self.learning_rate.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.learning_rate.load_state_dict(state["learning_rate"])
