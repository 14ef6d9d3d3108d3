"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), and its form for a choice among actions
(Christodoulou 2019, arXiv:1910.07207).

A stochastic policy learns from replayed transitions to maximise return plus temperature times entropy; the
smaller of two critics counts. The temperature is a third player: it rises while the entropy is below its
target. The two forms differ in one place, `value`: by one sampled action, or exactly by all of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Gt
from torch import Tensor, nn

from core.checks import Finite, require
from core.config import AUTO
from core.gradients import GradientStep, Metrics, Objective
from core.gradients.ranks import own, whole
from core.optim.groups import own_groups
from core.state import StateDict
from gradrl.agent import Learning
from gradrl.agents.off_policy import (
    Explorer,
    OffPolicyConfig,
    ReplayLearner,
    critic_objective,
    gradient_step,
    measured_critic_loss,
)
from gradrl.envs.spaces import DiscreteAction
from gradrl.experience.replay import Transitions
from gradrl.experience.rollout import Rollout
from gradrl.policies.actor import Actor
from gradrl.policies.distributions import Categorical
from gradrl.policies.q_networks import Critics, SoftPolicy, StochasticActorCritics
from gradrl.policies.target import Target
from gradrl.q_losses import expected_soft_value, soft_value, td_target, temperature_loss


@dataclass(frozen=True, kw_only=True)
class SACConfig(OffPolicyConfig):
    """Options of SAC and of every off-policy agent; conf/agent/sac.yaml gives the defaults.

    Attributes:
        temperature: alpha, return per nat of entropy, kept at this; "auto" = learnt.
        initial_temperature: where a learnt one begins.
        target_entropy: nats, of a learnt temperature; None = minus the number of dimensions of a vector
            (measured within [-1, 1] each), or 0.98 log A for a choice among A.
    """

    temperature: str | float = AUTO
    initial_temperature: Annotated[float, Gt(0), Finite] = 1.0
    target_entropy: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        value = self.temperature
        ok = value == AUTO if isinstance(value, str) else 0 <= value < math.inf
        require(ok, "temperature", value, "auto or a finite number >= 0")


class SAC:
    """Learns from a replay; the arguments are those of every `Agent`.

    The generator samples the replay and the policy. The temperature's gradient is not clipped.
    """

    measures: ClassVar[tuple[str, ...]] = ()
    model_type: ClassVar[type] = StochasticActorCritics
    off_policy: ClassVar[bool] = True

    def __init__(
        self, cfg: SACConfig, model: StochasticActorCritics, learning: Learning, generator: torch.Generator
    ) -> None:
        self.cfg, self.model, self.generator = cfg, model, generator
        self.learns_temperature = cfg.temperature == AUTO
        self.target_entropy = (
            default_target_entropy(model) if cfg.target_entropy is None else cfg.target_entropy
        )
        start = cfg.initial_temperature if isinstance(cfg.temperature, str) else cfg.temperature
        self.log_temperature = nn.Parameter(torch.tensor(start, device=generator.device).log())
        self.critic_step = gradient_step("critic", model.critic, learning, cfg.batch_size, cfg.critic_lr)
        self.actor_step = gradient_step("actor", model.actor, learning, cfg.batch_size)
        self.gradient_steps = [self.critic_step, self.actor_step]  # the critics' are the updates that count
        if self.learns_temperature:
            named = [("log_temperature", self.log_temperature)]
            plain = own_groups(learning.optimizer, [])  # groups are for networks
            bare = replace(learning, optimizer=plain, clipper=None)
            self.temperature_step = gradient_step("temperature", named, bare, cfg.batch_size)
            self.gradient_steps.append(self.temperature_step)
        self.target_critic = Target(model.critic, cfg.tau)
        self.targets = [self.target_critic]
        self.learner = ReplayLearner(cfg, learning.schedule, self.gradient_steps, generator.device)
        self.replay = self.learner.replay

    def make_actor(self, generator: np.random.Generator) -> Actor:
        """Uniformly random at first, then the policy, sampled."""
        policy = self.model.make_actor(generator)
        return Explorer(policy, self.model.action, generator, lambda: self.learner.at_random)

    def observe(self, rollout: Rollout) -> None:
        """Take a rollout into the replay."""
        self.replay.add(rollout)

    def update(self, rollout: Rollout, progress: float) -> Metrics:
        """Take a rollout into the replay, then learn; empty while there is too little to learn from."""
        return self.learner.round(rollout, progress, self.update_once)

    def update_once(self) -> Metrics:
        """One gradient step of every player on the same transitions; then the target follows."""
        batch = self.replay.sample(self.cfg.batch_size, self.generator)
        temperature = self.log_temperature.detach().exp()
        metrics = self.update_critic(batch, temperature) | self.update_actor(batch, temperature)
        if self.learns_temperature:
            metrics |= self.update_temperature(metrics["policy/entropy"])
        self.target_critic.follow()
        return metrics | {"policy/temperature": temperature}

    def update_critic(self, batch: Transitions, temperature: Tensor) -> Metrics:
        """Move both Q(s, a) towards their common target."""
        noise = self.action_noise(batch, self.generator)
        return self.critic_step(partial(self.critic_loss, batch, temperature, noise))

    def critic_loss(
        self, batch: Transitions, temperature: Tensor, noise: torch.Generator | Tensor
    ) -> tuple[Tensor, Metrics]:
        """The loss of the critics as they now are, and its metrics; arguments as `target`."""
        return measured_critic_loss(self.model.critic, batch, self.target(batch, temperature, noise))

    def update_actor(self, batch: Transitions, temperature: Tensor) -> Metrics:
        """Climb the soft value of the policy."""
        # Drawn once: an optimizer that looks more than once (SAM, LBFGS) has to see the same loss.
        noise = self.action_noise(batch, self.generator)
        return self.actor_step(partial(self.actor_loss, batch.obs, temperature, noise))

    def actor_loss(
        self, obs: Tensor, temperature: Tensor, noise: torch.Generator | Tensor
    ) -> tuple[Tensor, Metrics]:
        """Minus the mean soft value of the policy as it now is, and its metrics; arguments as `value`."""
        value, entropy = self.value(self.model.actor(obs), self.model.critic, obs, temperature, noise)
        loss = -value.mean()
        return loss, {"loss/actor": loss.detach(), "policy/entropy": entropy.detach().mean()}

    def update_temperature(self, entropy: Tensor) -> Metrics:
        """Raise the temperature where the entropy, 0-d, is below its target; lower it above."""
        return self.temperature_step(partial(self.temperature_loss, entropy))

    def temperature_loss(self, entropy: Tensor) -> tuple[Tensor, Metrics]:
        """The loss of the temperature as it now is, and its metric."""
        loss = temperature_loss(self.log_temperature, entropy, self.target_entropy)
        return loss, {"loss/temperature": loss.detach()}

    @torch.no_grad()
    def target(self, batch: Transitions, temperature: Tensor, noise: torch.Generator | Tensor) -> Tensor:
        """What Q(s, a) should be: r + gamma (1 - terminated) V(s'), V by the target critics, [B]."""
        policy = self.model.actor(batch.next_obs)
        next_value, _ = self.value(policy, self.target_critic.net, batch.next_obs, temperature, noise)
        return td_target(batch.reward, batch.terminated, next_value, self.cfg.gamma)

    def value(
        self,
        policy: SoftPolicy,
        critics: Critics,
        obs: Tensor,
        temperature: Tensor,
        noise: torch.Generator | Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Soft value of states under a policy, and the policy's entropy there: [B] each, both differentiable.

        Args:
            policy: pi(.|s).
            critics: value its actions.
            obs: s, [B, D].
            temperature: alpha, 0-d.
            noise: draws one action per state, or the standard normal numbers that decide it, [B, A]; a choice
                among actions needs neither.

        Returns:
            The value; and the entropy in nats, of a squashed Gaussian the estimate -log pi(a|s).
        """
        if isinstance(policy, Categorical):
            return expected_soft_value(critics.all(obs), policy.log_probs, temperature), policy.entropy()
        action, log_prob = policy.rsample_with_log_prob(noise)
        return soft_value(critics(obs, action), log_prob, temperature), -log_prob

    def action_noise(self, batch: Transitions, generator: torch.Generator) -> torch.Generator | Tensor:
        """Standard normal numbers that decide one action per state, [B, A]; for a choice none are drawn."""
        if isinstance(self.model.action, DiscreteAction):
            return generator
        shape = whole(len(batch)), self.model.action.size
        return own(torch.randn(shape, generator=generator, device=generator.device))

    def objectives(self) -> list[tuple[Objective, GradientStep]]:
        """Losses of actor and critics on transitions from the replay; none before the first update."""
        if self.learner.warming_up:
            return []
        batch, generator = self.learner.frozen_batch(), self.learner.frozen_generator()
        temperature, device = self.log_temperature.detach().exp(), generator.device
        noise = torch.randn(len(batch), self.model.action.size, generator=generator, device=device)
        target = self.target(batch, temperature, generator)

        def actor_loss(actor: Callable[..., SoftPolicy], obs: Tensor, noise: Tensor) -> Tensor:
            return -self.value(actor(obs), self.model.critic, obs, temperature, noise)[0].mean()

        rows, names = (batch.obs, noise), ("obs", "noise")
        of_actor = Objective(self.model.actor, actor_loss, rows, batch_names=names)
        of_critic = critic_objective(self.model.critic, batch, target)
        return [(of_critic, self.critic_step), (of_actor, self.actor_step)]

    def state_dict(self) -> StateDict:
        """Replay, target, temperature, and the state of the schedules."""
        return self.learner.state_dict() | {
            "target_critic": self.target_critic.state_dict(),
            "log_temperature": self.log_temperature.detach(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.learner.load_state_dict(state)
        self.target_critic.load_state_dict(state["target_critic"])
        with torch.no_grad():
            self.log_temperature.copy_(state["log_temperature"])


def default_target_entropy(model: StochasticActorCritics) -> float:
    """Minus the dimensions of a vector (Haarnoja et al., table 1), or 0.98 log A (Christodoulou)."""
    action = model.action
    return 0.98 * math.log(action.size) if isinstance(action, DiscreteAction) else -float(action.size)
