"""Natural policy gradient, its length set by the divergence it costs (Kakade 2001).

One step on each rollout: the policy gradient is multiplied by the inverse Fisher matrix, by conjugate
gradients, and scaled so that the quadratic model of KL(old || new) is `max_kl` ("truncated natural policy
gradient" in Duan et al. 2016, arXiv:1604.06778). Whether the true divergence agrees is left to `TRPO`.
The critic then fits its returns by some epochs of minibatch steps of its own optimizer: `optimizer` and
`schedule` are the critic's. Layers that actor and critic share are moved by the policy's step alone.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from core.checks import Finite, checked
from core.curvature.products import Hessian, Layout
from core.gradients import GradientStep, GradientView, Metrics, Objective, as_transforms
from core.optim.natural import natural_gradient
from core.optim.schedules import ScheduledRate
from core.state import StateDict
from gradrl.agent import Learning
from gradrl.agents.on_policy import (
    Forward,
    Losses,
    batch_objectives,
    frozen_policy,
    gradient_step,
    minibatch_size,
    split_parameters,
)
from gradrl.experience.rollout import Batch, Estimates, Rollout
from gradrl.losses import mean_metrics, normalize_advantage, surrogate_loss, value_loss
from gradrl.policies.actor import Actor
from gradrl.policies.networks import ActorCritic
from gradrl.policies.target import Target
from gradrl.returns import generalized_estimates, value_fit


@dataclass(frozen=True, kw_only=True)
@checked
class NPGConfig:
    """Options of the natural policy gradient; conf/agent/npg.yaml gives the defaults.

    Attributes:
        num_steps: T, environment steps per rollout and environment; one policy step follows each.
        gamma: discount per step.
        gae_lambda: bias against variance of the advantage.
        normalize_advantage: mean 0 and deviation 1 within each rollout; changes the direction by the mean
            only, the length not at all.
        max_kl: delta, nats; mean KL(old || new) that a step may cost.
        kl_schedule: "linear" lets delta fall to 0 with the progress of training.
        cg_iterations: products with the Fisher matrix per step, at most.
        cg_damping: added to the Fisher matrix's diagonal for the direction.
        num_critic_updates: passes of the critic over each rollout.
        num_minibatches: critic's gradient steps per pass; divides num_steps * num_envs.
    """

    num_steps: Annotated[int, Ge(1)] = 512
    gamma: Annotated[float, Interval(ge=0, le=1)] = 0.99
    gae_lambda: Annotated[float, Interval(ge=0, le=1)] = 0.95
    normalize_advantage: bool = True
    max_kl: Annotated[float, Gt(0), Finite] = 0.01
    kl_schedule: Literal["constant", "linear"] = "constant"
    cg_iterations: Annotated[int, Ge(1)] = 15
    cg_damping: Annotated[float, Ge(0), Finite] = 0.1
    num_critic_updates: Annotated[int, Ge(1)] = 10
    num_minibatches: Annotated[int, Ge(1)] = 8

    def minibatches(self, num_envs: int) -> tuple[int, int]:
        """One step of the policy on each rollout, and its samples; ValueError if the critic's do not fit."""
        minibatch_size(self.num_steps, num_envs, self.num_minibatches)
        return 1, self.num_steps * num_envs


class NPG:
    """Learns from rollouts; the arguments are those of every `Agent`.

    The optimizer and the schedule are the critic's, whose minibatches the generator shuffles; the policy
    takes natural steps. The clipper transforms both gradients; the length of the natural step is set after
    it, so it can change only the direction of the policy's.
    """

    measures: ClassVar[tuple[str, ...]] = ("policy/kl",)
    model_type: ClassVar[type] = ActorCritic
    off_policy: ClassVar[bool] = False
    targets: ClassVar[tuple[Target, ...]] = ()
    estimates: Estimates | None = None  # of the last rollout

    def __init__(
        self, cfg: NPGConfig, model: ActorCritic, learning: Learning, generator: torch.Generator
    ) -> None:
        self.cfg, self.model, self.generator, self.device = cfg, model, generator, generator.device
        policy, critic = split_parameters(model)
        plain = torch.optim.SGD([p for _, p in policy], lr=1.0)  # the transform gives the whole step
        transforms = [*as_transforms(learning.clipper), self.to_natural]
        self.policy_step = GradientStep(policy, plain, transforms, name="policy", monitor=learning.monitor)
        self.critic_step = gradient_step(learning, critic, "critic")
        self.learning_rate = ScheduledRate(learning.schedule, self.critic_step)
        self.gradient_steps = [self.policy_step, self.critic_step]
        self.max_kl = cfg.max_kl
        self.batch: Batch  # what the policy's step is taken on

    def make_actor(self, generator: np.random.Generator) -> Actor:
        """The policy itself, sampled."""
        return self.model.make_actor(generator)

    def update(self, rollout: Rollout, progress: float) -> Metrics:
        """One natural step of the policy, then some epochs of the critic.

        Returns:
            Losses and ratios before and after the step: loss/policy is the surrogate before, policy/gain how
            much it has fallen, policy/kl the mean KL(old || new) in nats, in closed form.
        """
        cfg = self.cfg
        lr = self.critic_step.base_lrs[0] * self.learning_rate.set(progress)
        self.max_kl = cfg.max_kl * (1 - progress if cfg.kl_schedule == "linear" else 1)
        whole, batch = self.observe(rollout)
        valid = rollout.valid.flatten().to(self.device)
        metrics = self.update_policy(batch)
        history: list[Metrics] = []
        for _ in range(cfg.num_critic_updates):
            minibatches = whole.shuffled(valid, rollout.num_valid, cfg.num_minibatches, self.generator)
            history += [self.update_critic(minibatch) for minibatch in minibatches]
        metrics |= mean_metrics(history) | value_fit(batch.value, batch.target)
        metrics["critic/lr"] = torch.tensor(lr)
        self.learning_rate.observe(metrics)
        return metrics

    def observe(self, rollout: Rollout) -> tuple[Batch, Batch]:
        """The rollout as the critic and as the policy takes it.

        Returns:
            All T N rows; the valid ones, their advantages normalised.
        """
        cfg, rollout = self.cfg, rollout.to(self.device)
        values = self.model.values(rollout)
        self.estimates = generalized_estimates(rollout, *values, cfg.gamma, cfg.gae_lambda)
        whole = self.estimates.batch(self.model.policy)
        batch = self.estimates.transitions(whole)
        if cfg.normalize_advantage:
            batch = replace(batch, advantage=normalize_advantage(batch.advantage))
        self.batch = batch
        return whole, batch

    def update_policy(self, batch: Batch) -> Metrics:
        """The natural step, and what it has changed."""
        old = frozen_policy(self.model, batch.obs)
        metrics = self.policy_step(partial(self.loss, batch), samples=len(batch))
        new = frozen_policy(self.model, batch.obs)
        loss, ratios = surrogate_loss(new.log_prob(batch.action), batch.log_prob, batch.advantage)
        gain = metrics["loss/policy"] - loss
        return metrics | ratios | {"policy/gain": gain, "policy/kl": old.kl(new).mean()}

    def loss(self, batch: Batch, forward: Forward | None = None) -> Losses:
        """The surrogate loss of the policy; the forward must give a policy first."""
        policy = self.model.policy(batch.obs) if forward is None else forward(batch.obs)[0]
        loss, _ = surrogate_loss(policy.log_prob(batch.action), batch.log_prob, batch.advantage)
        entropy = policy.entropy().mean()
        return {"policy": loss}, {"loss/policy": loss.detach(), "policy/entropy": entropy.detach()}

    def to_natural(self, gradients: GradientView, state: StateDict) -> None:
        """Put the natural step in the place of the gradient: a link in the chain of transforms."""
        layout = Layout(gradients.parameters)
        step = self.natural_step(gradients, layout)
        torch._foreach_copy_(gradients.dense(), layout.split(step))
        gradients.changed()

    def natural_step(self, gradients: GradientView, layout: Layout) -> Tensor:
        """What to subtract from the policy's parameters, flat, [d]."""
        cfg = self.cfg
        policy = self.model.policy(self.batch.obs)
        # The divergence from where the policy stands: its Hessian there is the Fisher matrix.
        divergence = frozen_policy(self.model, self.batch.obs).kl(policy).mean()
        fisher = Hessian(divergence, gradients.parameters, check=False)
        return natural_gradient(
            fisher,
            layout.join(gradients.values),
            max_kl=self.max_kl,
            iterations=cfg.cg_iterations,
            damping=cfg.cg_damping,
        )

    def update_critic(self, batch: Batch) -> Metrics:
        """One gradient step of the critic."""
        return self.critic_step(partial(self.critic_loss, batch), samples=len(batch))

    def critic_loss(self, batch: Batch, forward: Forward | None = None) -> Losses:
        """Half the mean squared error of the values."""
        value = self.model.value(batch.obs) if forward is None else forward(batch.obs)[1]
        loss = value_loss(value, batch.target)
        return {"value": loss}, {"loss/value": loss.detach()}

    def objectives(self) -> list[tuple[Objective, GradientStep]]:
        """Surrogate and value loss on the last rollout: what probes look at."""
        players = (self.policy_step, self.loss), (self.critic_step, self.critic_loss)
        return batch_objectives(self.model, self.batch if self.estimates else None, *players)

    def state_dict(self) -> StateDict:
        """The state of the schedule of the critic's learning rate."""
        return {"learning_rate": self.learning_rate.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.learning_rate.load_state_dict(state["learning_rate"])
