"""Least squares: the discriminator regresses labels, and also penalises logits beyond them."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LeastSquares:
    """Discriminator and generator losses on logits, squared.

        L_D = mean((D(real) - 1)^2) / 2 + mean((D(fake) + 1)^2) / 2
        L_G = mean(D(fake)^2) / 2

    The labels a = -1, b = 1, c = 0 fulfil b - c = 1 and b - a = 2, under which the optimal discriminator
    makes the generator minimise Pearson's chi^2 between p_real + p_fake and 2 p_fake. With 0 and 1 instead a
    linear discriminator without a bias has a degenerate equilibrium, and 0 would not be the border between
    the two sides as it is under the other losses.

    Source: Mao et al. 2017, arXiv:1611.04076, eq. 2, 7 and 8.
    """

    generator_uses_real: ClassVar[bool] = False
    has_threshold: ClassVar[bool] = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """L_D: 1 where D says 0 everywhere."""
        return 0.5 * ((real_logits - 1).square().mean() + (fake_logits + 1).square().mean())

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """L_G: 0 where D says 0 everywhere."""
        return 0.5 * fake_logits.square().mean()
