"""Pairs of networks: frozen dataclasses that build a generator and a discriminator's body, one file each.

The discriminator's last layer is not among them: what it asks (real or not, which class) depends on the
conditioning, and `gradgan.game.players` puts it on.
"""

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

    @property
    def spectral_norm(self) -> bool:
        """Whether every weight of the discriminator shall be divided by its largest singular value."""
        ...

    def check(self, shape: Shape) -> None:
        """Raise ValueError, saying what samples this pair takes, if `shape` is not among them."""
        ...

    def generator(self, latent_size: int, shape: Shape, random: torch.Generator) -> nn.Module:
        """A module from latents [B, latent_size] to samples [B, *shape].

        Images are made for [-1, 1]; each pair documents whether they can leave that range. Weights are drawn
        from `random`, or from torch's global generator on the CPU, which is seeded for each player.
        """
        ...

    def body(self, shape: Shape, random: torch.Generator) -> tuple[nn.Module, int]:
        """The discriminator without its last layer, and F: from samples [B, *shape] to features [B, F].

        It must not mix the samples of a batch: penalties and probes take the gradient of each sample's logit
        as its own. That rules out batch norm and minibatch statistics.
        """
        ...
