"""Pairs of generator and discriminator: frozen dataclasses that build both, one file each."""

from typing import ClassVar, Protocol

import torch
from torch import nn

Shape = tuple[int, ...]  # of one sample: (2,) for a point, (channels, height, width) for an image


class Network(Protocol):
    """What the trainer asks of a pair; each file of this package holds one.

    Attributes:
        name: as the user writes it, `network=<name>`.
    """

    name: ClassVar[str]

    def check(self, shape: Shape) -> None:
        """Raise ValueError, saying what samples this pair takes, if `shape` is not among them."""
        ...

    def generator(self, latent_size: int, shape: Shape, random: torch.Generator) -> nn.Module:
        """A module from latents [B, latent_size] to samples [B, *shape]; images in (-1, 1)."""
        ...

    def discriminator(self, shape: Shape, random: torch.Generator) -> nn.Module:
        """A module from samples [B, *shape] to logits [B]; it must not mix the samples of a batch."""
        ...
