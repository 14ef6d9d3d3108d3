"""Natural policy gradient, its length set by the divergence it costs (Kakade 2001).

One step on each rollout: the policy gradient is multiplied by the inverse Fisher matrix, by conjugate
gradients, and scaled so that the quadratic model of KL(old || new) is `max_kl` ("truncated natural policy
gradient" in Duan et al. 2016, arXiv:1604.06778). Whether the true divergence agrees is left to `TRPO`.
The critic then fits its returns by some epochs of minibatch steps of its own optimizer: `optimizer` and
`schedule` are the critic's. Layers that actor and critic share are moved by the policy's step alone.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from core.checks import require
from core.config import Component
from core.curvature.products import Hessian, Layout
from core.gradients import (
    Clipper,
    GradientStep,
    GradientView,
    Metrics,
    MonitorConfig,
    Objective,
    as_transforms,
)
from core.optim.factory import build_optimizer
from core.optim.natural import natural_gradient
from core.optim.schedules import Schedule, ScheduledRate
from core.state import StateDict
from gradrl.agents.actor_critic import (
    Forward,
    advantage_batch,
    batch_objective,
    frozen_policy,
    split_parameters,
    summary,
    valid_rows,
)
from gradrl.experience.rollout import Batch, Rollout
from gradrl.losses import normalize_advantage, surrogate_loss, value_loss
from gradrl.policies.actor import Behaviour
from gradrl.policies.networks import ActorCritic
from gradrl.probes.policy_gradient import Acted
from gradrl.probes.probe import PolicyObjective
from gradrl.returns import value_fit


@dataclass(frozen=True, kw_only=True)
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

    num_steps: int = 512
    gamma: float = 0.99
    gae_lambda: float = 0.95
    normalize_advantage: bool = True
    max_kl: float = 0.01
    kl_schedule: Literal["constant", "linear"] = "constant"
    cg_iterations: int = 15
    cg_damping: float = 0.1
    num_critic_updates: int = 10
    num_minibatches: int = 8

    def __post_init__(self) -> None:
        for name in ("num_steps", "cg_iterations", "num_critic_updates", "num_minibatches"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer >= 1")
        for name in ("gamma", "gae_lambda"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in [0, 1]")
        require(0 < self.max_kl < float("inf"), "max_kl", self.max_kl, "a finite number > 0")
        allowed = ("constant", "linear")
        require(self.kl_schedule in allowed, "kl_schedule", self.kl_schedule, f"one of {list(allowed)}")
        ok = 0 <= self.cg_damping < float("inf")
        require(ok, "cg_damping", self.cg_damping, "a finite number >= 0")

    def check(self, num_envs: int) -> None:
        """Raise ValueError when a rollout of `num_envs` environments cannot be cut into equal minibatches."""
        size = self.num_steps * num_envs
        ok = size % self.num_minibatches == 0
        allowed = f"a divisor of num_steps * num_envs = {self.num_steps} * {num_envs} = {size}"
        require(ok, "agent.num_minibatches", self.num_minibatches, allowed)

    def minibatch_size(self, num_envs: int) -> int:
        """Samples of one gradient step of the policy."""
        return self.num_steps * num_envs


class NPG:
    """Learns from rollouts.

    Args:
        cfg: options.
        model: policy and value function, on their device.
        optimizer: builds the optimizer of the critic's parameters; the policy takes natural steps.
        clipper: transform of both gradients, a chain of them, or None; the natural step's length is set after
            it, so of the policy's gradient only the direction can be changed.
        schedule: multiplier of the critic's learning rate over the progress of training.
        generator: shuffles the critic's minibatches; on the model's device.
        monitor: what is measured of the gradients.
    """

    measures: ClassVar[tuple[str, ...]] = ("policy/kl",)
    model_type: ClassVar[type] = ActorCritic
    off_policy: ClassVar[bool] = False
    acted: Acted | None = None  # the last rollout, and the policy that acted in it: for probes

    def __init__(
        self,
        cfg: NPGConfig,
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
        policy, critic = split_parameters(model)
        clippers = as_transforms(clipper)
        plain = torch.optim.SGD([p for _, p in policy], lr=1.0)  # the transform gives the whole step
        self.policy_step = GradientStep(
            policy, plain, [*clippers, self.to_natural], name="policy", monitor=monitor
        )
        built = build_optimizer(optimizer, critic)
        self.critic_step = GradientStep(critic, built, clippers, name="critic", monitor=monitor)
        self.learning_rate = ScheduledRate(schedule, self.critic_step)
        self.max_kl = cfg.max_kl
        self.batch: Batch  # what the policy's step is taken on

    @property
    def gradient_steps(self) -> list[GradientStep]:
        """The policy's natural step, then the critic's."""
        return [self.policy_step, self.critic_step]

    def behaviour(self, generator: np.random.Generator) -> Behaviour:
        """The policy itself, sampled."""
        return self.model.behaviour(generator)

    def update(self, rollout: Rollout, progress: float) -> Metrics:
        """One natural step of the policy, then some epochs of the critic.

        Args:
            rollout: what the policy has brought about since the last update.
            progress: share of the training done, in [0, 1); drives the schedules.

        Returns:
            Losses and ratios before and after the step: loss/policy is the surrogate before, policy/gain how
            much it has fallen, policy/kl the mean KL(old || new) in nats, in closed form.
        """
        cfg = self.cfg
        lr_scale = self.learning_rate.set(progress)
        self.max_kl = cfg.max_kl * (1 - progress if cfg.kl_schedule == "linear" else 1)
        whole, batch = self.observe(rollout)
        valid = rollout.valid.flatten().to(self.device)
        metrics = self.update_policy(batch)
        history: list[Metrics] = []
        for _ in range(cfg.num_critic_updates):
            minibatches = whole.shuffled(valid, rollout.num_valid, cfg.num_minibatches, self.generator)
            history += [self.update_critic(minibatch) for minibatch in minibatches]
        metrics |= summary(history) | {
            **value_fit(batch.value, batch.target),
            "critic/lr": torch.tensor(self.critic_step.base_lrs[0] * lr_scale),
        }
        self.learning_rate.observe(metrics)
        return metrics

    def observe(self, rollout: Rollout) -> tuple[Batch, Batch]:
        """The rollout as the critic and as the policy takes it; remembered for probes.

        Returns:
            All T N rows; the valid ones, their advantages normalised.
        """
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
        self.batch = batch
        return whole, batch

    def update_policy(self, batch: Batch) -> Metrics:
        """The natural step, and what it has brought about."""
        old = frozen_policy(self.model, batch.obs)
        metrics = self.policy_step(lambda: self.surrogate(batch), samples=len(batch))
        new = frozen_policy(self.model, batch.obs)
        loss, ratios = surrogate_loss(new.log_prob(batch.action), batch.log_prob, batch.advantage)
        gain = metrics["loss/policy"] - loss
        return metrics | ratios | {"policy/gain": gain, "policy/kl": old.kl(new).mean()}

    def surrogate(self, batch: Batch, forward: Forward | None = None) -> tuple[Tensor, Metrics]:
        """The surrogate loss; the forward must give a policy first."""
        policy = self.model.policy(batch.obs) if forward is None else forward(batch.obs)[0]
        loss, _ = surrogate_loss(policy.log_prob(batch.action), batch.log_prob, batch.advantage)
        return loss, {"loss/policy": loss.detach(), "policy/entropy": policy.entropy().mean().detach()}

    def to_natural(self, gradients: GradientView, memory: StateDict) -> None:
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
        fisher = Hessian(frozen_policy(self.model, self.batch.obs).kl(policy).mean(), gradients.parameters)
        return natural_gradient(
            fisher,
            layout.join(gradients.values),
            max_kl=self.max_kl,
            iterations=cfg.cg_iterations,
            damping=cfg.cg_damping,
        )

    def update_critic(self, batch: Batch) -> Metrics:
        """One gradient step of the critic."""
        return self.critic_step(lambda: self.critic_loss(batch), samples=len(batch))

    def critic_loss(self, batch: Batch, forward: Forward | None = None) -> tuple[Tensor, Metrics]:
        """Half the mean squared error of the values."""
        value = self.model.value(batch.obs) if forward is None else forward(batch.obs)[1]
        loss = value_loss(value, batch.target)
        return loss, {"loss/value": loss.detach()}

    def objectives(self) -> list[tuple[Objective, GradientStep]]:
        """Surrogate and value loss on the last rollout: what probes look at."""
        if self.acted is None:
            return []
        surrogate = batch_objective(
            self.model, self.batch, lambda *b: {"policy": self.surrogate(*b)[0]}, self.policy_step
        )
        critic = batch_objective(
            self.model, self.batch, lambda *b: {"value": self.critic_loss(*b)[0]}, self.critic_step
        )
        return [(PolicyObjective(surrogate, self.acted), self.policy_step), (critic, self.critic_step)]

    def state_dict(self) -> StateDict:
        """What the schedule of the critic's learning rate remembers."""
        return {"learning_rate": self.learning_rate.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.learning_rate.load_state_dict(state["learning_rate"])
