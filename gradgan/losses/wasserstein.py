"""The Wasserstein loss: the discriminator becomes a critic, whose slope something else must bound."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from core.gradients import Metrics
from gradgan.losses.said import ranks


@dataclass(frozen=True, kw_only=True)
class Wasserstein:
    """Critic and generator losses, in the units of the samples where the critic's slope is at most 1.

        L_D = mean(D(fake)) - mean(D(real))
        L_G = -mean(D(fake))

    -L_D approaches the Wasserstein-1 distance if D is kept 1-Lipschitz: `penalty=wgan_gp`, or
    `regularizer=weight_clipping` for the first version. Without either, L_D has no lower bound.

    Attributes:
        generator_uses_real: whether the generator's loss reads the logits of real samples.
        has_border: whether a logit's sign says on which side it is; if not, only differences count.

    Source: Arjovsky et al. 2017, arXiv:1701.07875, eq. 2 and algorithm 1.
    """

    generator_uses_real: ClassVar[bool] = False
    has_border: ClassVar[bool] = False

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Metrics]:
        """The critic's loss.

        Args:
            real_logits: D(real), [B]; carries the gradient.
            fake_logits: D(fake), [B]; carries the gradient.

        Returns:
            The scalar loss, and the metrics of `said.ranks`: a critic has no border between the sides.
        """
        return fake_logits.mean() - real_logits.mean(), ranks(real_logits, fake_logits)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> tuple[Tensor, Metrics]:
        """The generator's loss; `real_logits` is not read.

        Args:
            fake_logits: D(G(z)), [B]; carries the gradient into G.
            real_logits: ignored, so that every loss is called alike.

        Returns:
            The scalar loss, and no metrics.
        """
        return -fake_logits.mean(), {}
