"""LeCam: the logits of each kind are kept near the moving average of the other kind."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from core.checks import Finite, checked
from core.form import Begun, Scalar
from core.gradients import Metrics
from core.state import StateDict
from gradgan.batch import ScoredBatch
from gradgan.networks import Shape


@dataclass(frozen=True, kw_only=True)
@checked
class LeCam:
    """A term that keeps a discriminator with few data from drawing real and fake logits ever further apart.

        weight * (mean relu(D(real) - a_fake)^2 + mean relu(a_real - D(fake))^2)

    with a_real and a_fake the moving averages of the mean logits of either kind over the past updates. (The
    paper's eq. 3 has the bare squares; the authors' code, and this, count only what exceeds the anchor.) With
    the Wasserstein loss it makes the generator minimise a weighted LeCam divergence.

    Attributes:
        weight: strength; 0.01 to 0.3 in the paper.
        decay: of the averages per update.
        warm_up: updates before the first in which the term counts, while the averages settle.

    Source: Tseng et al. 2021, arXiv:2104.03310, eq. 3.
    """

    weight: Annotated[float, Ge(0), Finite]
    decay: Annotated[float, Interval(ge=0, lt=1)]
    warm_up: Annotated[int, Ge(1)]

    def check(self, shape: Shape) -> None:
        """It takes any samples."""

    def due(self, update: int) -> bool:
        """Whether the term counts in the discriminator's update number `update`, from 0."""
        return update >= self.warm_up

    def loss(self, batch: ScoredBatch, update: int, state: StateDict) -> tuple[Tensor | None, Metrics]:
        """The term, once the averages have settled."""
        if not self.due(update) or not state:
            return None, {}
        above = (batch.real_logits - state["fake"]).relu().square().mean()
        below = (state["real"] - batch.fake_logits).relu().square().mean()
        return self.weight * (above + below), {"regularizer/lecam": (above + below).detach()}

    def state_form(self) -> Begun:
        """What its state must look like: the two averages."""
        return Begun({"real": Scalar(), "fake": Scalar()})

    def after(self, discriminator: nn.Module, metrics: Metrics, state: StateDict) -> None:
        """Update the averages; they begin at the first values, and only finite ones count."""
        for kind in ("real", "fake"):
            mean = metrics[f"logits/{kind}"]
            # In bfloat16 an average would stop moving: a hundredth of the difference is below its resolution.
            mean = mean.to(torch.promote_types(mean.dtype, torch.float32))
            last = state.get(kind, mean)
            moved = torch.where(last.isfinite(), mean.lerp(last, self.decay), mean)
            state[kind] = torch.where(mean.isfinite(), moved, last)
