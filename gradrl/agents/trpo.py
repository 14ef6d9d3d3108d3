"""Trust region policy optimisation (Schulman et al. 2015, arXiv:1502.05477, appendix C).

The natural step of `NPG`, shortened until it keeps its promise: a backtracking line search takes the first
length that improves the surrogate objective and keeps the true mean KL(old || new) within `max_kl`. Where
none does, the policy stays as it is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.checks import require
from core.config import Component
from core.curvature.products import Layout
from core.gradients import Clipper, GradientView, Metrics, MonitorConfig
from core.optim.schedules import Schedule
from gradrl.agents.actor_critic import frozen_policy
from gradrl.agents.npg import NPG, NPGConfig
from gradrl.experience.rollout import Batch
from gradrl.losses import surrogate_loss
from gradrl.policies.distributions import Policy
from gradrl.policies.networks import ActorCritic


@dataclass(frozen=True, kw_only=True)
class TRPOConfig(NPGConfig):
    """Options of TRPO; conf/agent/trpo.yaml gives the defaults.

    Attributes:
        line_search_steps: lengths tried at most, the whole step first.
        line_search_shrink: each is this share of the one before; in (0, 1).
    """

    line_search_steps: int = 10
    line_search_shrink: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.line_search_steps >= 1, "line_search_steps", self.line_search_steps, "an integer >= 1")
        ok = 0 < self.line_search_shrink < 1
        require(ok, "line_search_shrink", self.line_search_shrink, "in (0, 1)")


class TRPO(NPG):
    """Learns from rollouts; arguments as for `NPG`."""

    def __init__(
        self,
        cfg: TRPOConfig,
        model: ActorCritic,
        optimizer: Component,
        clipper: Clipper | None,
        schedule: Schedule,
        generator: torch.Generator,
        monitor: MonitorConfig | None = None,
    ) -> None:
        super().__init__(cfg, model, optimizer, clipper, schedule, generator, monitor)
        self.search = cfg
        self.fraction = 0.0  # of the natural step that the last line search took

    def update_policy(self, batch: Batch) -> Metrics:
        """As NPG's; policy/step_fraction is the share of the natural step that was taken, 0 = none."""
        metrics = super().update_policy(batch)
        return metrics | {"policy/step_fraction": torch.tensor(self.fraction)}

    @torch.no_grad()
    def natural_step(self, gradients: GradientView, layout: Layout) -> Tensor:
        """The natural step shortened by the line search, [d]; the parameters are put back where they were.

        The host looks at two numbers per length tried.
        """
        with torch.enable_grad():
            step = super().natural_step(gradients, layout)
        parameters = list(gradients.parameters)
        start = [p.clone() for p in parameters]
        old = frozen_policy(self.model, self.batch.obs)
        before, _ = self.loss_and_kl(old)
        for exponent in range(self.search.line_search_steps):
            self.fraction = self.search.line_search_shrink**exponent
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
