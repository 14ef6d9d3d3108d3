"""Trust region policy optimisation (Schulman et al. 2015, arXiv:1502.05477, appendix C).

The natural step of `NPG`, shortened until it keeps its promise: a backtracking line search takes the first
length that improves the surrogate objective and keeps the true mean KL(old || new) within `max_kl`. Where
none does, the policy stays as it is.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from core.curvature.products import Layout
from core.gradients import GradientView, Metrics
from gradrl.agents.npg import NPG, NPGConfig
from gradrl.agents.on_policy import frozen_policy
from gradrl.experience.rollout import Batch
from gradrl.losses import surrogate_loss
from gradrl.policies.distributions import Policy


@dataclass(frozen=True, kw_only=True)
class TRPOConfig(NPGConfig):
    """Options of TRPO; conf/agent/trpo.yaml gives the defaults.

    Attributes:
        line_search_steps: lengths tried at most, the whole step first.
        line_search_shrink: each length is this share of the one before.
    """

    line_search_steps: Annotated[int, Ge(1)] = 10
    line_search_shrink: Annotated[float, Interval(gt=0, lt=1)] = 0.8


class TRPO(NPG):
    """Learns from rollouts; the arguments are those of `NPG`."""

    cfg: TRPOConfig
    fraction = 0.0  # of the natural step that the last line search took

    def update_policy(self, batch: Batch) -> Metrics:
        """As NPG's; policy/step_fraction is the share of the natural step that was taken, 0 = none."""
        metrics = super().update_policy(batch)
        return metrics | {"policy/step_fraction": torch.tensor(self.fraction)}

    @torch.no_grad()
    def natural_step(self, gradients: GradientView, layout: Layout) -> Tensor:
        """The natural step shortened by the line search, [d]; the parameters are put back where they were.

        The host waits for two numbers per length tried.
        """
        with torch.enable_grad():
            step = super().natural_step(gradients, layout)
        parameters = list(gradients.parameters)
        start = [p.clone() for p in parameters]
        old = frozen_policy(self.model, self.batch.obs)
        before, _ = self.loss_and_kl(old)
        for exponent in range(self.cfg.line_search_steps):
            self.fraction = self.cfg.line_search_shrink**exponent
            shortened = self.fraction * step
            torch._foreach_copy_(parameters, torch._foreach_sub(start, layout.split(shortened)))
            loss, kl = self.loss_and_kl(old)
            if loss < before and kl <= self.max_kl:  # false for NaN
                break
        else:
            self.fraction, shortened = 0.0, torch.zeros_like(step)
        torch._foreach_copy_(parameters, start)
        return shortened

    def loss_and_kl(self, old: Policy) -> tuple[Tensor, Tensor]:
        """Surrogate loss, and mean KL(old || now) in nats, of the policy as it now is."""
        batch, policy = self.batch, self.model.policy(self.batch.obs)
        loss, _ = surrogate_loss(policy.log_prob(batch.action), batch.log_prob, batch.advantage)
        return loss, old.kl(policy).mean()
