"""An agent of your own: one class and one YAML file, without any change to the package.

python examples/own_agent.py --config-dir examples/conf agent=rpo env=pendulum
PYTHONPATH=examples python scripts/train_rl.py --config-dir examples/conf agent=rpo env=pendulum

`agent=rpo` finds examples/conf/agent/rpo.yaml; its `_target_` names the class below, in a module that Python
must be able to import: hence the folder on PYTHONPATH, where a script's own folder is anyway. The launcher
checks every option against the type of `cfg` before it makes anything.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from core.checks import Finite
from core.cli.command import launch
from core.gradients import Metrics
from gradrl.agents.on_policy import Forward, Losses
from gradrl.agents.ppo import PPO, PPOConfig
from gradrl.experience.rollout import Batch
from gradrl.policies.distributions import DiagonalGaussian, Policy


@dataclass(frozen=True, kw_only=True)
class RPOConfig(PPOConfig):
    """Options of PPO and one more.

    Attributes:
        alpha: half-width of the noise on the mean of an action, whose box spans [-1, 1].
    """

    alpha: Annotated[float, Ge(0), Finite] = 0.5


class RPO(PPO):
    """Robust policy optimisation: PPO whose loss sees the mean of every action shifted at random.

    So the policy cannot become certain of its actions too early.

    Source: Rahman and Xue 2022, arXiv:2212.07536.
    """

    cfg: RPOConfig
    shift: Tensor | None = None  # z of the minibatch that is learnt from, [B, A]

    def update_minibatch(self, batch: Batch) -> Metrics:
        """One gradient step, with noise drawn for it: an optimizer may look at the loss more than once."""
        alpha = self.cfg.alpha
        self.shift = torch.empty_like(batch.action).uniform_(-alpha, alpha, generator=self.generator)
        metrics = super().update_minibatch(batch)
        self.shift = None
        return metrics

    def loss(self, batch: Batch, forward: Forward | None = None) -> Losses:
        """PPO's, with mean + z, z ~ U(-alpha, alpha), in place of the mean; probes see it without z."""

        def shifted(obs: Tensor) -> tuple[Policy, Tensor]:
            policy, value = (forward or self.model)(obs)
            if not isinstance(policy, DiagonalGaussian):
                raise ValueError(f"RPO needs Box actions that are not squashed, got {type(policy).__name__}")
            mean = policy.mean if self.shift is None else policy.mean + self.shift
            return DiagonalGaussian(mean, policy.log_std), value

        return super().loss(batch, shifted)


if __name__ == "__main__":
    launch("rl", by_id="env")
