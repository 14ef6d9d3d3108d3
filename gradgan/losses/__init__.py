"""Adversarial losses: frozen dataclasses from logits to a scalar, one file each; they share `Loss`."""

from typing import ClassVar, Protocol

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
