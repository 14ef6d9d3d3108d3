"""Twin delayed deterministic policy gradient (Fujimoto et al. 2018, arXiv:1802.09477).

DDPG with three cures for values that are too high: the smaller of two critics (how many there are is the
model's), targets smoothed over neighbouring actions, and an actor (with all targets) that moves more rarely
than the critics.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from core.checks import Finite
from core.gradients import Metrics
from core.gradients.ranks import own, whole
from core.state import StateDict
from gradrl.agents.ddpg import DDPG, DDPGConfig
from gradrl.experience.replay import Transitions
from gradrl.q_losses import smoothed_action, td_target


@dataclass(frozen=True, kw_only=True)
class TD3Config(DDPGConfig):
    """Options of TD3 and of DDPG; conf/agent/td3.yaml gives the defaults.

    Attributes:
        policy_delay: gradient steps of the critics per one of the actor and the targets.
        target_noise: standard deviation of the noise on the target's action, whose box spans [-1, 1].
        target_noise_clip: largest absolute value of that noise.
    """

    policy_delay: Annotated[int, Ge(1)] = 2
    target_noise: Annotated[float, Ge(0), Finite] = 0.2
    target_noise_clip: Annotated[float, Ge(0), Finite] = 0.5


class TD3(DDPG):
    """Learns from a replay; the arguments are DDPG's. The generator also smooths the targets.

    The critics learn, and the actor climbs the first of them, as in DDPG.
    """

    cfg: TD3Config
    updates = 0  # gradient steps of the critics so far

    def update_once(self) -> Metrics:
        """One gradient step of the critics; every `policy_delay` of them one of the actor and the targets."""
        batch = self.replay.sample(self.cfg.batch_size, self.generator)
        metrics = self.update_critic(batch)
        self.updates += 1
        if self.updates % self.cfg.policy_delay == 0:
            metrics |= self.update_actor(batch)
            self.target_critic.follow()
            self.target_actor.follow()
        return metrics

    def draw_noise(self, batch: Transitions) -> Tensor:
        """Standard normal numbers for the target, [B, A]."""
        shape = whole(len(batch)), *batch.action.shape[1:]
        return own(torch.randn(shape, generator=self.generator, device=self.generator.device))

    @torch.no_grad()
    def target(self, batch: Transitions, noise: torch.Generator | Tensor) -> Tensor:
        """What Q(s, a) should be: r + gamma (1 - terminated) min_c Q'_c(s', a'), a' near mu'(s'), [B].

        Args:
            batch: transitions.
            noise: standard normal numbers that keep a' near and not at mu'(s'), [B, A], or what draws them.
        """
        cfg = self.cfg
        next_action = self.target_actor.net(batch.next_obs)
        next_action = smoothed_action(next_action, cfg.target_noise, cfg.target_noise_clip, noise)
        next_value = self.target_critic.net(batch.next_obs, next_action).amin(0)
        return td_target(batch.reward, batch.terminated, next_value, cfg.gamma)

    def state_dict(self) -> StateDict:
        """As DDPG, and the count of updates."""
        return super().state_dict() | {"updates": self.updates}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        super().load_state_dict(state)
        self.updates = state["updates"]
