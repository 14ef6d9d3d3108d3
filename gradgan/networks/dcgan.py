"""DCGAN for images of 8 to 128 pixels: nothing but 4x4 convolutions of stride 2."""

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from gradgan.networks import Shape
from gradgan.networks.batch_norm import BatchNorm2d
from gradgan.networks.layers import SLOPE, doubling, halving, linear
from gradgan.networks.pyramid import ImagePair


@dataclass(frozen=True, kw_only=True)
class DCGAN(ImagePair):
    """Generator and discriminator that mirror each other; the image itself is one end of the first kernel.

    Unlike the original there is no batch norm in the discriminator: it would make the gradient of one sample
    depend on the others, and with it the penalties on that gradient. The generator's activations leak too,
    and its latent enters, as D's logit leaves, through a linear layer.

    Attributes:
        width: channels at half the image's resolution; they double with each further halving.
        batch_norm: batch norm in the generator, before each activation.

    Source: Radford et al. 2016, arXiv:1511.06434, section 3; with spectral norm: Miyato et al. 2018,
    arXiv:1802.05957, table 3.
    """

    name: ClassVar[str] = "dcgan"

    batch_norm: bool

    def generator(self, latent_size: int, shape: Shape, random: torch.Generator) -> nn.Module:
        """Latents [B, latent_size] to images [B, C, H, W] in (-1, 1)."""
        base, widths = self._levels(shape)
        image = nn.Unflatten(1, (widths[-1], base, base))
        layers: list[nn.Module] = [linear(latent_size, widths[-1] * base * base, random)]
        # Activated as a vector: with a gradient in channels_last, a map in torch's usual layout takes ten
        # times as long. Batch norm wants the map.
        layers += [image, *self._activated(widths[-1])] if self.batch_norm else [nn.LeakyReLU(SLOPE), image]
        for inner, outer in itertools.pairwise(reversed(widths)):
            layers += [doubling(inner, outer, random), *self._activated(outer)]
        return nn.Sequential(*layers, doubling(widths[0], shape[0], random, gain=1.0), nn.Tanh())

    def body(self, shape: Shape, random: torch.Generator) -> tuple[nn.Module, int]:
        """Images [B, C, H, W] to the smallest level as a vector, [B, channels * base * base]."""
        base, widths = self._levels(shape)
        layers: list[nn.Module] = []
        for outer, inner in itertools.pairwise([shape[0], *widths]):
            layers += [halving(outer, inner, random), nn.LeakyReLU(SLOPE)]
        layers[-1:] = [nn.Flatten(1), layers[-1]]  # the last ones activated as a vector, as in the generator
        body = nn.Sequential(*layers)
        return body, widths[-1] * base * base

    def _levels(self, shape: Shape) -> tuple[int, list[int]]:
        """Side of the smallest level, and the channels of each from half resolution down."""
        base, widths = self.levels(shape)
        return base, widths[:-1]

    def _activated(self, num_channels: int) -> list[nn.Module]:
        return [BatchNorm2d(num_channels), nn.LeakyReLU(SLOPE)] if self.batch_norm else [nn.LeakyReLU(SLOPE)]
