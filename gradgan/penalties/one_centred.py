"""One-centred gradient penalties: they pull the discriminator's slope to 1 between or around the samples.

    weight * mean_i (|dD/dx at x_i| - 1)^2

The norm is sqrt(|g|^2 + 1e-12): its derivative at g = 0 is then 0, where that of the bare norm is NaN, and at
a norm of 1 it is off by 5e-13. Unlike zero-centred penalties these do not vanish at the equilibrium, where D
is flat, and the game around it does not converge (Mescheder et al. 2018, arXiv:1801.04406, section 3).
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from core.checks import Finite, checked
from core.gradients import Metrics
from core.gradients.ranks import batch_std, own, whole
from core.transfer import send
from gradgan.batch import ScoredBatch
from gradgan.penalties.zero_centred import squared_gradient_norms

EPS = 1e-12  # in the squared norm


@dataclass(frozen=True, kw_only=True)
@checked
class OneCentred:
    """A slope of 1 at points that a subclass chooses.

    Attributes:
        weight: strength; the papers' lambda, 10.
        interval: computed at every `interval`-th update, and then `interval` times as strong.
    """

    weight: Annotated[float, Ge(0), Finite]
    interval: Annotated[int, Ge(1)]

    on_real: ClassVar[bool] = False
    on_fake: ClassVar[bool] = False

    def due(self, update: int) -> bool:
        """Whether update number `update`, from 0, computes the penalty."""
        return update % self.interval == 0

    def points(self, batch: ScoredBatch) -> Tensor:
        """Where the slope is measured, [B, ...]; with the graph of the batch's samples, if they have one."""
        raise TypeError(f"{type(self).__name__} has no points: use WGANGP or DRAGAN")

    def __call__(self, batch: ScoredBatch) -> tuple[Tensor, Metrics]:
        """The penalty of one update at which it is due; one more pass through the discriminator.

        Args:
            batch: its samples are where the points come from; they need no gradient.

        Returns:
            The scalar to add to the loss, `interval` times the penalty, and penalty/slope: the mean norm of
            dD/dx at the points.
        """
        points = self.points(batch).requires_grad_()
        norm = (squared_gradient_norms(batch.discriminate(points), points) + EPS).sqrt()
        penalty = self.interval * self.weight * (norm - 1).square().mean()
        return penalty, {"penalty/slope": norm.detach().mean()}


@dataclass(frozen=True, kw_only=True)
class WGANGP(OneCentred):
    """At a uniformly random point of the line between each real and each fake sample.

    Source: Gulrajani et al. 2017, arXiv:1704.00028, eq. 3 and algorithm 1.
    """

    def points(self, batch: ScoredBatch) -> Tensor:
        """[B, ...]: the i-th lies between the i-th samples."""
        real, fake = batch.real, batch.fake
        share = own(torch.rand(whole(len(real)), generator=batch.random))
        share = send(share, real).reshape(-1, *[1] * (real.dim() - 1))
        # Not torch.lerp: a generator under autocast makes bfloat16, and real samples are float32.
        return real + share * (fake - real)


@dataclass(frozen=True, kw_only=True)
class DRAGAN(OneCentred):
    """Around the real samples: real + spread * std * u, u uniform in [0, 1) for each element.

    std is the standard deviation of all elements of the real batch, a number.

    Attributes:
        spread: > 0; 0.5 in the authors' code.

    Source: Kodali et al. 2017, arXiv:1705.07215, section 2.3 and the code it names.
    """

    spread: Annotated[float, Gt(0), Finite]

    def points(self, batch: ScoredBatch) -> Tensor:
        """[B, ...]: one near each real sample."""
        real = batch.real
        noise = own(torch.rand(whole(len(real)), *real.shape[1:], generator=batch.random))
        return real + self.spread * batch_std(real) * send(noise, real)
