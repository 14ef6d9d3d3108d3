"""Adversarial losses: frozen dataclasses from logits to a scalar, one file each; they share `Loss`."""

from typing import ClassVar, Protocol

from torch import Tensor

from core.gradients import Metrics


class Loss(Protocol):
    """What the trainer asks of a loss; each file of this package holds one.

    Attributes:
        generator_uses_real: whether `generator` reads the logits of real samples; if not, the trainer saves
            their forward pass.
        has_border: whether a logit's sign says on which side D sees a sample; if not, only differences count.
    """

    generator_uses_real: ClassVar[bool]
    has_border: ClassVar[bool]

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Metrics]:
        """Scalar loss of D and its metrics, from logits [B] of real and fake samples."""
        ...

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> tuple[Tensor, Metrics]:
        """Scalar loss of G and its metrics, from logits [B]; real ones come when `generator_uses_real`."""
        ...
