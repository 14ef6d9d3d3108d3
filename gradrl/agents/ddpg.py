"""Deep deterministic policy gradient (Lillicrap et al. 2016, arXiv:1509.02971).

A critic learns the action value of a deterministic policy from replayed transitions; the policy climbs that
value by the chain rule through the action (Silver et al. 2014, theorem 1). Exploration is noise on the
actions. Unlike in the paper, the critic's weights do not decay, nothing is batch normalised, the last layers
begin like all others (there uniformly in +-3e-3), the action enters the critic at its first layer (there at
the second), and the noise is Gaussian unless `agent.noise.kind` says otherwise (there Ornstein-Uhlenbeck).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from core.gradients import GradientStep, Metrics, Objective
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
from gradrl.experience.replay import Transitions
from gradrl.experience.rollout import Rollout
from gradrl.policies.actor import Actor
from gradrl.policies.exploration_noise import NoiseConfig, make_noise
from gradrl.policies.q_networks import DeterministicActorCritics
from gradrl.policies.target import Target
from gradrl.q_losses import td_target


@dataclass(frozen=True, kw_only=True)
class DDPGConfig(OffPolicyConfig):
    """Options of DDPG and of every off-policy agent; conf/agent/ddpg.yaml gives the defaults.

    Attributes:
        noise: exploration noise.
    """

    noise: NoiseConfig = field(default_factory=NoiseConfig)


class DDPG:
    """Learns from a replay; the arguments are those of every `Agent`; the generator samples the replay."""

    measures: ClassVar[tuple[str, ...]] = ()
    model_type: ClassVar[type] = DeterministicActorCritics
    off_policy: ClassVar[bool] = True

    def __init__(
        self,
        cfg: DDPGConfig,
        model: DeterministicActorCritics,
        learning: Learning,
        generator: torch.Generator,
    ) -> None:
        self.cfg, self.model, self.generator = cfg, model, generator
        self.critic_step = gradient_step("critic", model.critic, learning, cfg.batch_size, cfg.critic_lr)
        self.actor_step = gradient_step("actor", model.actor, learning, cfg.batch_size)
        self.gradient_steps = self.critic_step, self.actor_step  # the critic's are the updates that count
        self.target_actor, self.target_critic = Target(model.actor, cfg.tau), Target(model.critic, cfg.tau)
        self.targets = [self.target_critic, self.target_actor]
        self.learner = ReplayLearner(cfg, learning.schedule, self.gradient_steps, generator.device)
        self.replay = self.learner.replay

    def make_actor(self, generator: np.random.Generator) -> Actor:
        """Uniformly random at first, then the policy with noise."""
        policy = self.model.make_actor(generator, deterministic=True)
        noise = make_noise(self.cfg.noise, generator)
        return Explorer(policy, self.model.action, generator, lambda: self.learner.at_random, noise)

    def observe(self, rollout: Rollout) -> None:
        """Take a rollout into the replay."""
        self.replay.add(rollout)

    def update(self, rollout: Rollout, progress: float) -> Metrics:
        """Take a rollout into the replay, then learn; empty while there is too little to learn from."""
        return self.learner.round(rollout, progress, self.update_once)

    def update_once(self) -> Metrics:
        """One gradient step of critic and actor on the same transitions; then the targets follow."""
        batch = self.replay.sample(self.cfg.batch_size, self.generator)
        metrics = self.update_critic(batch) | self.update_actor(batch)
        self.target_critic.follow()
        self.target_actor.follow()
        return metrics

    def update_critic(self, batch: Transitions) -> Metrics:
        """Move Q(s, a) towards its target."""
        return self.critic_step(partial(self.critic_loss, batch, self.draw_noise(batch)))

    def critic_loss(self, batch: Transitions, noise: torch.Generator | Tensor) -> tuple[Tensor, Metrics]:
        """The loss of the critic as it now is, and its metrics; arguments as `target`."""
        return measured_critic_loss(self.model.critic, batch, self.target(batch, noise))

    def draw_noise(self, batch: Transitions) -> torch.Generator | Tensor:
        """What the target needs of random numbers: nothing is drawn."""
        return self.generator

    def update_actor(self, batch: Transitions) -> Metrics:
        """Climb Q(s, mu(s))."""
        return self.actor_step(partial(self.measured_actor_loss, batch.obs))

    @torch.no_grad()
    def target(self, batch: Transitions, noise: torch.Generator | Tensor) -> Tensor:
        """What Q(s, a) should be, by the critic with the smallest value, [B]; nothing is drawn.

        y = r + gamma (1 - terminated) min_c Q'_c(s', mu'(s'))
        """
        next_action = self.target_actor.net(batch.next_obs)
        next_value = self.target_critic.net(batch.next_obs, next_action).amin(0)
        return td_target(batch.reward, batch.terminated, next_value, self.cfg.gamma)

    def actor_loss(self, actor: Callable[[Tensor], Tensor], obs: Tensor) -> Tensor:
        """Minus the mean value of what the actor does, by the first critic; moves the actor alone."""
        return -self.model.critic.first(obs, actor(obs)).mean()

    def measured_actor_loss(self, obs: Tensor) -> tuple[Tensor, Metrics]:
        """The loss of the actor as it now is, and its metric."""
        loss = self.actor_loss(self.model.actor, obs)
        return loss, {"loss/actor": loss.detach()}

    def objectives(self) -> list[tuple[Objective, GradientStep]]:
        """Both losses on transitions from the replay: what probes look at; none before the first update."""
        if self.learner.warming_up:
            return []
        batch = self.learner.frozen_batch()
        target = self.target(batch, self.learner.frozen_generator())
        of_actor = Objective(self.model.actor, self.actor_loss, [batch.obs], batch_names=("obs",))
        of_critic = critic_objective(self.model.critic, batch, target)
        return [(of_critic, self.critic_step), (of_actor, self.actor_step)]

    def state_dict(self) -> StateDict:
        """Replay, targets and the state of the schedules."""
        return self.learner.state_dict() | {
            "target_actor": self.target_actor.state_dict(),
            "target_critic": self.target_critic.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.learner.load_state_dict(state)
        self.target_actor.load_state_dict(state["target_actor"])
        self.target_critic.load_state_dict(state["target_critic"])
