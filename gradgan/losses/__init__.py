"""Adversarial losses: frozen dataclasses from logits to a scalar, one file each; they share `Loss`."""

from copy import deepcopy
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


def common_slope(loss: Loss) -> float:
    """1 where both players lower their losses by raising the logits of samples, -1 by lowering them, else 0.

    Players who want the same are no opponents: the sign of a loss is turned, or real and fake are exchanged.
    Taken at logits of 0, where no loss is flat; of a copy, since a loss of one's own may count its calls.
    """
    own = deepcopy(loss)
    real, fake = torch.zeros(2), torch.zeros(2, requires_grad=True)
    with torch.enable_grad():
        losses = own.discriminator(real, fake), own.generator(fake, real)
        slopes = [torch.autograd.grad(each, fake, allow_unused=True)[0] for each in losses]
    signs = [0.0 if slope is None else slope.sum().sign().item() for slope in slopes]
    return -signs[0] if signs[0] == signs[1] else 0.0


def learns_everywhere(loss: Loss) -> bool:
    """Whether the discriminator learns from a generated sample whatever its logit; hinge is flat below -1.

    Taken at logits of both signs and of sizes up to 30, of a copy.
    """
    fake = torch.tensor([-30.0, -6.7, -2.9, -1.3, -0.4, 0.3, 1.7, 3.1, 6.9, 30.0], dtype=torch.float64)
    fake.requires_grad_()
    with torch.enable_grad():
        value = deepcopy(loss).discriminator(torch.zeros_like(fake), fake)
        (slopes,) = torch.autograd.grad(value, fake, allow_unused=True)
    return slopes is not None and bool((slopes != 0).all())


def compares_samples(loss: Loss) -> bool:
    """Whether a loss is more than the mean of what each pair of samples contributes on its own."""
    real, fake = torch.tensor([[0.7, -1.2, 0.1], [-0.4, 0.9, 1.6]], dtype=torch.float64)
    own = [
        loss.discriminator(r, f) + loss.generator(f, r)
        for r, f in zip(real.split(1), fake.split(1), strict=True)
    ]
    whole = loss.discriminator(real, fake) + loss.generator(fake, real)
    return not torch.allclose(whole, torch.stack(own).mean(), equal_nan=True)
