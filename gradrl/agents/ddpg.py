"""Deep deterministic policy gradient (Lillicrap et al. 2016, arXiv:1509.02971).

A critic learns the action value of a deterministic policy from replayed transitions; the policy climbs that
value by the chain rule through the action (Silver et al. 2014, theorem 1). Exploration is noise on the
actions. Unlike in the paper, the critic's weights do not decay, nothing is batch normalised, the last layers
begin like all others (there uniformly in +-3e-3), the action enters the critic at its first layer (there at
the second), and the noise is Gaussian unless `agent.noise.kind` says otherwise (there Ornstein-Uhlenbeck).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from core.config import Component
from core.gradients import Clipper, GradientStep, Metrics, MonitorConfig, Objective
from core.optim.schedules import Schedule
from core.state import StateDict
from gradrl.agents.off_policy import Explorer, OffPolicyConfig, ReplayLearner, gradient_step
from gradrl.experience.replay import Transitions
from gradrl.experience.rollout import Rollout
from gradrl.policies.actor import Actor
from gradrl.policies.exploration_noise import NoiseConfig, make_noise
from gradrl.policies.q_networks import DeterministicActorCritics
from gradrl.policies.target import Target
from gradrl.q_losses import critic_loss, td_target


@dataclass(frozen=True, kw_only=True)
class DDPGConfig(OffPolicyConfig):
    """Options of DDPG beside those of every off-policy agent; conf/agent/ddpg.yaml gives the defaults.

    Attributes:
        noise: exploration noise.
    """

    noise: NoiseConfig = field(default_factory=NoiseConfig)


class DDPG:
    """Learns from a replay.

    Args:
        cfg: options.
        model: actor and critics, on their device.
        optimizer: builds the optimizers of actor and critics.
        clipper: transform of each gradient, a chain of them, or None.
        schedule: learning rates' multiplier over the progress of training.
        generator: samples the replay; on the model's device.
        monitor: what is measured of the gradients.
    """

    measures: ClassVar[tuple[str, ...]] = ()
    model_type: ClassVar[type] = DeterministicActorCritics
    off_policy: ClassVar[bool] = True

    def __init__(
        self,
        cfg: DDPGConfig,
        model: DeterministicActorCritics,
        optimizer: Component,
        clipper: Clipper | None,
        schedule: Schedule,
        generator: torch.Generator,
        monitor: MonitorConfig | None = None,
    ) -> None:
        self.cfg, self.model, self.generator = cfg, model, generator
        common = optimizer, clipper, monitor, cfg.batch_size
        self.critic_step = gradient_step("critic", model.critic, *common, lr=cfg.critic_lr)
        self.actor_step = gradient_step("actor", model.actor, *common)
        self.gradient_steps = self.critic_step, self.actor_step  # the critic's are the updates that count
        self.target_actor, self.target_critic = Target(model.actor, cfg.tau), Target(model.critic, cfg.tau)
        self.targets = [self.target_critic, self.target_actor]
        self.learner = ReplayLearner(cfg, schedule, self.gradient_steps, generator.device)
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
        target = self.target(batch)

        def closure() -> tuple[Tensor, Metrics]:
            q = self.model.critic(batch.obs, batch.action)
            loss = critic_loss(q, target)
            return loss, {"loss/critic": loss.detach(), "value/q_mean": q.detach().mean()}

        return self.critic_step(closure)

    def update_actor(self, batch: Transitions) -> Metrics:
        """Climb Q(s, mu(s))."""

        def closure() -> tuple[Tensor, Metrics]:
            loss = self.actor_loss(self.model.actor, batch.obs)
            return loss, {"loss/actor": loss.detach()}

        return self.actor_step(closure)

    @torch.no_grad()
    def target(self, batch: Transitions) -> Tensor:
        """What Q(s, a) should be: r + gamma (1 - terminated) Q'(s', mu'(s')), the least of several, [B]."""
        next_action = self.target_actor.net(batch.next_obs)
        next_value = self.target_critic.net(batch.next_obs, next_action).amin(0)
        return td_target(batch.reward, batch.terminated, next_value, self.cfg.gamma)

    def actor_loss(self, actor: Callable[[Tensor], Tensor], obs: Tensor) -> Tensor:
        """Minus the mean value of what the actor does, by the first critic; moves the actor alone."""
        return -self.model.critic.first(obs, actor(obs)).mean()

    def objectives(self) -> list[tuple[Objective, GradientStep]]:
        """Both losses on transitions from the replay: what probes look at; none before the first update."""
        if self.learner.warming_up:
            return []
        batch = self.learner.frozen_batch()

        def of_critic(critic: Callable[..., Tensor], obs: Tensor, action: Tensor, target: Tensor) -> Tensor:
            return critic_loss(critic(obs, action), target)

        rows = batch.obs, batch.action, self.target(batch)
        return [
            (
                Objective(self.model.critic, of_critic, rows, batch_names=("obs", "action", "target")),
                self.critic_step,
            ),
            (
                Objective(self.model.actor, self.actor_loss, [batch.obs], batch_names=("obs",)),
                self.actor_step,
            ),
        ]

    def state_dict(self) -> StateDict:
        """Replay, targets and what the schedules remember."""
        return self.learner.state_dict() | {
            "target_actor": self.target_actor.state_dict(),
            "target_critic": self.target_critic.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.learner.load_state_dict(state)
        self.target_actor.load_state_dict(state["target_actor"])
        self.target_critic.load_state_dict(state["target_critic"])
