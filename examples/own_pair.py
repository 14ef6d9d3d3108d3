"""A generator and a discriminator of your own.

python examples/own_pair.py data=ring network._target_=own_pair.Pair network.width=64

What the class must have stands in gradgan.networks.Network.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from core.cli.command import launch
from gradgan.networks import Shape


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two networks of two layers, for points."""

    name: ClassVar[str] = "pair"
    spectral_norm: bool = False  # true: every weight of D is divided by its largest singular value
    width: int = 32

    def check(self, shape: Shape) -> None:
        """Raise ValueError where these are not the samples that it takes."""

    def generator(self, latent_size: int, shape: Shape, random: torch.Generator) -> nn.Module:
        """Latents [B, latent_size] to samples [B, *shape]."""
        return nn.Sequential(nn.Linear(latent_size, self.width), nn.ReLU(), nn.Linear(self.width, shape[0]))

    def body(self, shape: Shape, random: torch.Generator) -> tuple[nn.Module, int]:
        """D without its last layer, and F: samples [B, *shape] to features [B, F]; no batch norm."""
        return nn.Sequential(nn.Linear(shape[0], self.width), nn.LeakyReLU(0.2)), self.width


if __name__ == "__main__":
    launch("gan")
