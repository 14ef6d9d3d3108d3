"""Adversarial losses: frozen dataclasses from logits to a scalar, one file each; they share `Loss`."""

from typing import ClassVar, Protocol

import torch
from torch import Tensor


class Loss(Protocol):
    """What the trainer asks of a loss; each file of this package holds one.

    Attributes:
        generator_uses_real: whether `generator` reads the logits of real samples; if not, the trainer saves
            their forward pass.
        has_threshold: whether 0 separates the logits of what D takes for real from those of what it takes for
            fake; if not, only differences of logits count.
    """

    generator_uses_real: ClassVar[bool]
    has_threshold: ClassVar[bool]

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """L_D, a scalar.

        Args:
            real_logits: D(real), [B]; carries the gradient.
            fake_logits: D(G(z)), [B]; carries the gradient into D alone.
        """
        ...

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """L_G, a scalar.

        Args:
            fake_logits: D(G(z)), [B]; carries the gradient into G.
            real_logits: D(real), [B], where `generator_uses_real`; needs no gradient. Not read elsewhere, so
                that every loss is called alike.
        """
        ...


def compares_samples(loss: Loss) -> bool:
    """Whether a loss is more than the mean of what each pair of samples contributes on its own."""
    real, fake = torch.tensor([[0.7, -1.2, 0.1], [-0.4, 0.9, 1.6]], dtype=torch.float64)
    own = [
        loss.discriminator(r, f) + loss.generator(f, r)
        for r, f in zip(real.split(1), fake.split(1), strict=True)
    ]
    whole = loss.discriminator(real, fake) + loss.generator(fake, real)
    return not torch.allclose(whole, torch.stack(own).mean(), equal_nan=True)
