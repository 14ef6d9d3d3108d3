"""The Wasserstein loss: the discriminator becomes a critic whose slope must be bounded by something else."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Wasserstein:
    """Critic and generator losses, in the units of the samples where the critic's slope is at most 1.

        L_D = mean(D(fake)) - mean(D(real))
        L_G = -mean(D(fake))

    -L_D approaches the Wasserstein-1 distance if D is kept 1-Lipschitz: `penalty=wgan_gp`, or
    `regularizer=weight_clipping` for the first version. Without either, L_D has no lower bound.

    Source: Arjovsky et al. 2017, arXiv:1701.07875, eq. 2 and algorithm 1.
    """

    generator_uses_real: ClassVar[bool] = False
    has_threshold: ClassVar[bool] = False

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """L_D; may be negative."""
        return fake_logits.mean() - real_logits.mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """L_G; may be negative."""
        return -fake_logits.mean()
