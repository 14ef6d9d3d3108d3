"""The relativistic average loss: each sample is compared with the mean of the other kind."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus

from core.gradients.ranks import batch_mean


@dataclass(frozen=True, kw_only=True)
class RelativisticAverage:
    """Discriminator and generator losses on logits against the other batch's mean, in nats.

        L_D = (mean softplus(m_fake - D(real)) + mean softplus(D(fake) - m_real)) / 2
        L_G = (mean softplus(m_real - D(fake)) + mean softplus(D(real) - m_fake)) / 2

    with m the mean logit of a batch, of all its ranks, which carries a gradient too. The half, as in the
    author's code, keeps the loss of one scale with the pairing one.

    Source: Jolicoeur-Martineau 2018, arXiv:1807.00734, section 4.2 (RaSGAN).
    """

    generator_uses_real: ClassVar[bool] = True
    has_threshold: ClassVar[bool] = False

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """L_D: log 2 where D cannot tell."""
        return _against_means(real_logits, fake_logits)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """L_G: the discriminator's loss with the two batches swapped.

        Raises:
            ValueError: `real_logits` is missing.
        """
        if real_logits is None:
            raise ValueError("the relativistic generator loss wants the logits of real samples, got None")
        return _against_means(fake_logits, real_logits)


def _against_means(higher: Tensor, lower: Tensor) -> Tensor:
    """Small where each of `higher` lies above the mean of `lower`, and the other way round."""
    above = softplus(batch_mean(lower) - higher).mean()
    return 0.5 * (above + softplus(lower - batch_mean(higher)).mean())
