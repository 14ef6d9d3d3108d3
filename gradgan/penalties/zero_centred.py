"""Zero-centred gradient penalties on the discriminator: R1 on real samples, R2 on fake ones, or both.

They make the two-player game contract around its equilibrium, where the unregularised one only turns. The
penalty is on the squared norm, so it is smooth at a zero gradient (the square root of a norm is what turns
gradient penalties into NaN), and it reaches D's weights through `create_graph`.

Source: Mescheder et al. 2018, arXiv:1801.04406, eq. 9 (R1) and 10 (R2); computed only every few updates as
in Karras et al. 2020, arXiv:1912.04958, section 3.1.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from core.checks import Finite, checked
from core.gradients import Metrics
from core.gradients.ranks import batch_mean
from gradgan.batch import ScoredBatch


def squared_gradient_norms(logits: Tensor, inputs: Tensor) -> Tensor:
    """The squared Euclidean norm of each sample's input gradient, |d D(x_i) / d x_i|^2.

    Taking the gradient of the summed logits gives every sample its own gradient as long as D does not mix the
    samples of a batch: with batch norm in D this is not the penalty of the paper.

    Args:
        logits: D(inputs), [B], computed from `inputs` with a graph.
        inputs: [B, ...], requiring a gradient; a sample's gradient has all dimensions but the first.

    Returns:
        [B], differentiable with respect to D's parameters, in nats^2 per squared unit of the input.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1)


@dataclass(frozen=True, kw_only=True)
@checked
class ZeroCentred:
    """(gamma / 2) mean |dD/dx|^2, added to the discriminator's loss.

    Attributes:
        gamma: strength at the start.
        final: share of gamma that is left at the end; it falls along half a cosine. A strong
            penalty first makes the discriminator smooth enough to lead samples to far modes, a weak one
            later lets it see details. 1 keeps gamma.
        interval: computed at every `interval`-th update, and then `interval` times as strong, so that its
            mean over updates stays the same.
    """

    gamma: Annotated[float, Ge(0), Finite]
    final: Annotated[float, Interval(ge=0, le=1)]
    interval: Annotated[int, Ge(1)]

    on_real: ClassVar[bool] = False
    on_fake: ClassVar[bool] = False

    def due(self, update: int) -> bool:
        """Whether update number `update`, from 0, computes the penalty."""
        return update % self.interval == 0

    def strength(self, progress: float | Tensor) -> float | Tensor:
        """Give gamma at this share of the training, in [0, 1], without the factor for lazy updates.

        In a compiled graph the share is a 0-d tensor, and the result too.
        """
        angle = math.pi * progress
        cosine = angle.cos() if isinstance(angle, Tensor) else math.cos(angle)
        return self.gamma * (self.final + (1.0 - self.final) * 0.5 * (1.0 + cosine))

    def __call__(self, batch: ScoredBatch) -> tuple[Tensor, Metrics]:
        """The penalty of one update at which it is due.

        Args:
            batch: its real (fake) samples require a gradient if `on_real` (`on_fake`).

        Returns:
            The scalar to add to the loss, `interval` times (gamma / 2) mean |dD/dx|^2, and
            penalty/real_gradient and penalty/fake_gradient: root mean square norms of dD/dx, without gamma.
        """
        terms = {}
        if self.on_real:
            terms["penalty/real_gradient"] = squared_gradient_norms(batch.real_logits, batch.real).mean()
        if self.on_fake:
            terms["penalty/fake_gradient"] = squared_gradient_norms(batch.fake_logits, batch.fake).mean()
        total = torch.stack(list(terms.values())).sum()
        metrics = {name: batch_mean(term.detach()).sqrt() for name, term in terms.items()}
        return 0.5 * self.interval * self.strength(batch.progress) * total, metrics


@dataclass(frozen=True, kw_only=True)
class R1(ZeroCentred):
    """The penalty on real samples."""

    on_real: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class R2(ZeroCentred):
    """The penalty on fake samples."""

    on_fake: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class R1R2(ZeroCentred):
    """The penalty on both, each with the full gamma, as R3GAN uses it (arXiv:2501.05441, section 2.3)."""

    on_real: ClassVar[bool] = True
    on_fake: ClassVar[bool] = True
