"""Weight clipping: a crude bound of the critic's slope, as in the first Wasserstein GAN."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn

from core.checks import Finite, checked
from core.gradients import Metrics
from core.state import StateDict
from gradgan.batch import ScoredBatch
from gradgan.networks import Shape


@dataclass(frozen=True, kw_only=True)
@checked
class WeightClipping:
    """After each of the discriminator's updates every parameter is cut to [-bound, bound].

    The authors call it a terrible way to enforce a Lipschitz constraint: most weights end at a bound, and
    gradients vanish or explode with depth. It is here so that this can be observed.

    Attributes:
        bound: > 0; 0.01 in the paper.

    Source: Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1 and section 3.
    """

    bound: Annotated[float, Gt(0), Finite]

    def check(self, shape: Shape) -> None:
        """It takes any samples."""

    def due(self, update: int) -> bool:
        """It has no term."""
        return False

    def loss(self, batch: ScoredBatch, update: int, state: StateDict) -> tuple[Tensor | None, Metrics]:
        """No term."""
        return None, {}

    @torch.no_grad()
    def after(self, discriminator: nn.Module, metrics: Metrics, state: StateDict) -> None:
        """Cut the parameters."""
        parameters: list[Tensor] = [p for p in discriminator.parameters() if p.requires_grad]
        torch._foreach_clamp_max_(parameters, self.bound)
        torch._foreach_clamp_min_(parameters, -self.bound)
