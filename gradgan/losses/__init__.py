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
        """Scalar loss of D, from logits [B] of real and fake samples."""
        ...

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Scalar loss of G, from logits [B]; real ones come when `generator_uses_real`."""
        ...
