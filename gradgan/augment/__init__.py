"""Augmentation of all that the discriminator sees: frozen dataclasses, one file each; they share `Augment`.

Real and generated images are transformed alike, and the generator's gradient comes back through the
transformation: so the generator learns the images, and the discriminator cannot memorise them.
"""

from typing import Protocol

import torch
from torch import Tensor

from gradgan.networks import Shape


class Augment(Protocol):
    """What the trainer asks of an augmentation."""

    @property
    def initial(self) -> float:
        """Probability of each transformation at the start, in [0, 1]."""
        ...

    def check(self, shape: Shape) -> None:
        """Raise ValueError, saying which samples it takes, if those of this shape are not among them."""
        ...

    def __call__(self, images: Tensor, p: Tensor, random: torch.Generator) -> Tensor:
        """Transform each image by itself, differentiably.

        Args:
            images: [B, C, H, W] in [-1, 1].
            p: probability of each transformation, 0-d, on the images' device.
            random: on the CPU.
        """
        ...

    def adapt(self, p: Tensor, real_sign: Tensor, images: int) -> Tensor:
        """The probability after an update, 0-d; the host does not wait for the device.

        Args:
            p: before it.
            real_sign: mean sign of the discriminator's logits of real images in it, 0-d, in [-1, 1].
            images: real images seen in it.
        """
        ...
