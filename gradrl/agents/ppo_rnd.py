"""PPO with a reward for novelty: random network distillation (Burda et al. 2018, arXiv:1810.12894).

Where the environment hardly ever rewards, the agent is rewarded for what it has not seen yet. The two rewards
have critics and discounts of their own, and novelty's sum goes on when an episode ends: dying is no escape
from a place that has become dull, and only as bad as having to see the beginning again.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar, cast

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from core.checks import Finite, checked, require
from core.gradients import Metrics
from core.optim.groups import own_groups
from core.optim.schedules import ScheduledRate
from core.state import StateDict
from gradrl.agent import Learning
from gradrl.agents.novelty import Curiosity, NoveltyActorCritic
from gradrl.agents.on_policy import Losses, gradient_step
from gradrl.agents.ppo import PPO, PPOConfig
from gradrl.experience.rollout import Batch, Estimates, Rollout, epoch_order
from gradrl.losses import mean_metrics
from gradrl.policies.networks import ActorCritic
from gradrl.returns import explained_variance, generalized_advantage_estimate


@dataclass(frozen=True, kw_only=True)
@checked
class PPORNDConfig(PPOConfig):
    """Options of PPO and of novelty; conf/agent/ppo_rnd.yaml gives the defaults.

    Attributes:
        value_coef: weight of the mean of both critics' losses.
        recompute_advantage: must be false.
        extrinsic_coef: weight of the environment's advantages.
        intrinsic_coef: weight of novelty's.
        intrinsic_gamma: discount per step of novelty, which is not cut off where episodes end.
        novelty_epochs: the predictor's passes over each rollout.
        novelty_share: share of each rollout that the predictor learns from; less keeps things new for longer.
    """

    value_coef: Annotated[float, Ge(0), Finite] = 1.0
    extrinsic_coef: Annotated[float, Ge(0), Finite] = 2.0
    intrinsic_coef: Annotated[float, Ge(0), Finite] = 1.0
    intrinsic_gamma: Annotated[float, Interval(ge=0, lt=1)] = 0.99
    novelty_epochs: Annotated[int, Ge(1)] = 1
    novelty_share: Annotated[float, Interval(gt=0, le=1)] = 1.0

    def __post_init__(self) -> None:
        require(not self.recompute_advantage, "recompute_advantage", "true", "false with novelty")


class PPORND(PPO):
    """Learns from rollouts; the arguments are PPO's.

    A batch's values and targets are [B, 2]: the environment's and novelty's.
    """

    model_type: ClassVar[type] = NoveltyActorCritic
    model: NoveltyActorCritic
    cfg: PPORNDConfig

    def __init__(
        self, cfg: PPORNDConfig, model: NoveltyActorCritic, learning: Learning, generator: torch.Generator
    ) -> None:
        super().__init__(cfg, cast(ActorCritic, model), learning, generator)
        named = list(model.named_parameters())
        others = [(name, p) for name, p in named if not name.startswith("predictor.")]
        predictor = [(name, p) for name, p in named if name.startswith("predictor.")]
        self.gradient_step, self.novelty_step = (
            gradient_step(replace(learning, optimizer=own_groups(learning.optimizer, own)), own, name)
            for own, name in ((others, "actor_critic"), (predictor, "novelty"))
        )
        self.gradient_steps = [self.gradient_step, self.novelty_step]
        # The predictor's learning rate stays as it is.
        self.learning_rate = ScheduledRate(learning.schedule, self.gradient_step)
        self.curiosity = Curiosity(model, cfg.intrinsic_gamma)

    def update(self, rollout: Rollout, progress: float) -> Metrics:
        """Learn from one rollout; then the predictor learns what has been seen in it.

        Returns:
            As PPO, and novelty/reward (mean, in deviations of its discounted sum), novelty/explained_variance
            of its critic, loss/novelty.
        """
        metrics = super().update(rollout, progress)
        assert self.last is not None
        batch, valid = self.last
        environments, noveltys = zip(batch.value[valid].T, batch.target[valid].T, strict=True)
        return metrics | {
            "policy/explained_variance": explained_variance(*environments),
            "policy/advantage_std": batch.advantage[valid].std(correction=0),
            "novelty/explained_variance": explained_variance(*noveltys),
            "novelty/reward": self.intrinsic_reward[rollout.valid.to(self.device)].mean(),
            "loss/novelty": self.update_novelty(valid, rollout.num_valid),
        }

    @torch.no_grad()
    def observe(self, rollout: Rollout) -> tuple[Batch, Tensor]:
        """The rollout as a batch of T N rows, and which of them are transitions, bool [T N]."""
        rollout = rollout.to(self.device)
        self.seen = self.curiosity.rows(rollout)
        self.intrinsic_reward = self.curiosity.reward(rollout, self.seen)
        both = self.estimate(rollout)
        self.estimates = replace(both, value=both.value[..., 0], next_value=both.next_value[..., 0])
        self.last = both.batch(self.model.policy), rollout.valid.flatten()
        return self.last

    @torch.no_grad()
    def estimate(self, rollout: Rollout) -> Estimates:
        """Values and targets of both critics, [T, N, 2], and the weighted sum of both advantages, [T, N].

        What follows the end of an episode is, to novelty, the first observation of the next.
        """
        cfg = self.cfg
        value = self.model.value(rollout.obs)
        final_value = self.model.value(rollout.final_obs)[..., 0]
        next_value = torch.stack([rollout.next_value(value[..., 0], final_value), value[1:, :, 1]], -1)
        value = value[:-1]
        never = torch.zeros_like(rollout.terminated)
        kinds = (
            (rollout.reward, rollout.terminated, rollout.truncated, cfg.gamma),
            (self.intrinsic_reward, never, never, cfg.intrinsic_gamma),
        )
        advantages = [
            generalized_advantage_estimate(
                reward, value[..., i], next_value[..., i], terminated, truncated, gamma, cfg.gae_lambda
            )
            for i, (reward, terminated, truncated, gamma) in enumerate(kinds)
        ]
        advantage = torch.stack(advantages, -1)
        weight = torch.tensor([cfg.extrinsic_coef, cfg.intrinsic_coef], device=self.device)
        return Estimates(rollout, value, next_value, (advantage * weight).sum(-1), advantage + value)

    def update_novelty(self, valid: Tensor, num_valid: int) -> Tensor:
        """Let the predictor learn from the last rollout; its mean loss, 0-d.

        Args:
            valid: which steps were transitions, bool, [T N].
            num_valid: how many.
        """
        cfg, seen = self.cfg, self.seen.flatten(0, 1)
        history = [
            self.novelty_step(
                partial(self.novelty_loss, seen[rows[: math.ceil(cfg.novelty_share * len(rows))]])
            )
            for _ in range(cfg.novelty_epochs)
            for rows in epoch_order(valid, num_valid, self.generator).chunk(cfg.num_minibatches)
        ]
        return mean_metrics(history)["loss/novelty"]

    def novelty_loss(self, rows: Tensor) -> Losses:
        """Mean novelty of normalised observations [B, D]."""
        loss = self.model.novelty(rows).mean()
        return {"novelty": loss}, {"loss/novelty": loss.detach()}

    def state_dict(self) -> StateDict:
        """As PPO, and the statistics of novelty."""
        return super().state_dict() | {"curiosity": self.curiosity.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        super().load_state_dict(state)
        self.curiosity.load_state_dict(state["curiosity"])
