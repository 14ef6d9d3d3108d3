"""The non-saturating loss of the first GAN paper: two logistic classifications with swapped labels."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus


@dataclass(frozen=True, kw_only=True)
class NonSaturating:
    """Discriminator and generator losses on logits, in nats.

        L_D = mean(softplus(-D(real))) + mean(softplus(D(fake)))
        L_G = mean(softplus(-D(fake)))

    with softplus(x) = log(1 + e^x), which neither overflows nor returns log 0. The generator minimises
    -log sigmoid(D(fake)) instead of log(1 - sigmoid(D(fake))), whose gradient vanishes where the
    discriminator wins.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, eq. 1 and the end of section 3.
    """

    generator_uses_real: ClassVar[bool] = False
    has_threshold: ClassVar[bool] = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """L_D: 2 log 2 where D says 0 everywhere."""
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """L_G: log 2 where D says 0 everywhere."""
        return softplus(-fake_logits).mean()
