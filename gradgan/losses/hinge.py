"""The hinge loss: samples on their own side by a margin of 1 no longer move the discriminator."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import relu


@dataclass(frozen=True, kw_only=True)
class Hinge:
    """Discriminator and generator losses on logits.

        L_D = mean(max(0, 1 - D(real))) + mean(max(0, 1 + D(fake)))
        L_G = -mean(D(fake))

    Source: Lim and Ye 2017, arXiv:1705.02894, for a separating hyperplane of the SVM; with spectral
    normalisation in Miyato et al. 2018, arXiv:1802.05957, eq. 16 and 17.
    """

    generator_uses_real: ClassVar[bool] = False
    has_threshold: ClassVar[bool] = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """L_D: 2 where D says 0 everywhere; no gradient from a logit beyond the margin."""
        return relu(1 - real_logits).mean() + relu(1 + fake_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """L_G: 0 where D says 0 everywhere."""
        return -fake_logits.mean()
