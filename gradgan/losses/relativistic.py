"""The relativistic pairing loss: each fake sample is compared with a real one, not with a threshold."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus


@dataclass(frozen=True, kw_only=True)
class Relativistic:
    """Discriminator and generator losses on paired logits, in nats.

        L_D = mean(softplus(D(fake) - D(real)))
        L_G = mean(softplus(D(real) - D(fake)))

    Only differences of logits count, so the discriminator cannot answer with one threshold for all modes,
    which is what lets a generator drop some of them. On its own the game does not converge (the eigenvalues
    at its equilibrium are imaginary): use it with the R1 and R2 penalties.

    Source: Jolicoeur-Martineau 2018, arXiv:1807.00734, section 4.1 (RpGAN); with R1 and R2: Huang et al.
    2024, arXiv:2501.05441, section 2.
    """

    generator_uses_real: ClassVar[bool] = True
    has_threshold: ClassVar[bool] = False

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """L_D: sample i of one batch is paired with sample i of the other; log 2 where D cannot tell.

        Raises:
            ValueError: the two batches differ in shape ([B] against [B, 1] would pair all with all).
        """
        return softplus(_difference(fake_logits, real_logits)).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """L_G: the discriminator's loss with the two batches swapped.

        Raises:
            ValueError: `real_logits` is missing, or the two batches differ in shape.
        """
        if real_logits is None:
            raise ValueError("the relativistic generator loss wants the logits of real samples, got None")
        return softplus(_difference(real_logits, fake_logits)).mean()


def _difference(left: Tensor, right: Tensor) -> Tensor:
    if left.shape != right.shape:
        shapes = f"{tuple(left.shape)} and {tuple(right.shape)}"
        raise ValueError(f"the relativistic loss pairs logits of one shape, got {shapes}")
    return left - right
