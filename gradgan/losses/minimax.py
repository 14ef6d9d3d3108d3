"""The loss of the game in its first form: the generator minimises what the discriminator maximises."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus


@dataclass(frozen=True, kw_only=True)
class Minimax:
    """Discriminator and generator losses on logits, in nats; also called saturating.

        L_D = mean(softplus(-D(real))) + mean(softplus(D(fake)))
        L_G = -mean(softplus(D(fake))) = mean log(1 - sigmoid(D(fake)))

    A zero-sum game: the generator's loss is the part of -L_D that it can change. Its gradient by a logit is
    -sigmoid(D(fake)), which vanishes exactly where the discriminator is sure that a sample is generated, so
    a generator that starts far off learns nothing. It is included so that this failure can be observed.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, eq. 1.
    """

    generator_uses_real: ClassVar[bool] = False
    has_threshold: ClassVar[bool] = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """L_D: 2 log 2 where D says 0 everywhere."""
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """L_G: -log 2 where D says 0 everywhere."""
        return -softplus(fake_logits).mean()
