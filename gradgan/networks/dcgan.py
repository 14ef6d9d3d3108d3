"""A small convolutional pair for images of 8 to 32 pixels, after DCGAN."""

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from core.checks import require
from gradgan.networks import Shape
from gradgan.networks.layers import SLOPE, convolution, doubling, halving, linear


@dataclass(frozen=True, kw_only=True)
class DCGAN:
    """Generator and discriminator that mirror each other: 4x4 kernels of stride 2 between levels.

    Unlike the original there is no batch norm in the discriminator: it would make the gradient of one sample
    depend on the others, and with it the penalties on that gradient.

    Attributes:
        width: channels at full resolution, >= 1; they double with each halving of the image.
        max_width: upper bound of the channels, >= width.
        batch_norm: batch norm in the generator, before each activation.

    Source: Radford et al. 2016, arXiv:1511.06434, section 3.
    """

    name: ClassVar[str] = "dcgan"

    width: int
    max_width: int
    batch_norm: bool

    def __post_init__(self) -> None:
        require(self.width >= 1, "width", self.width, "an integer >= 1")
        require(self.max_width >= self.width, "max_width", self.max_width, f"at least width ({self.width})")

    def check(self, shape: Shape) -> None:
        """Refuse what is not a square image of 8 to 32 pixels that halves down to 4 to 7.

        Raises:
            ValueError: names the sizes that are taken.
        """
        if len(shape) != 3 or shape[1] != shape[2] or not 8 <= shape[1] <= 32 or _base(shape[1]) is None:
            sizes = ", ".join(str(size) for size in range(8, 33) if _base(size))
            raise ValueError(f"takes square images of {sizes} pixels")

    def generator(self, latent_size: int, shape: Shape, random: torch.Generator) -> nn.Module:
        """Latents [B, latent_size] to images [B, C, H, W] in (-1, 1)."""
        base, widths = self._plan(shape)
        layers: list[nn.Module] = [
            linear(latent_size, widths[-1] * base * base, random),
            nn.Unflatten(1, (widths[-1], base, base)),
            *self._activated(widths[-1]),
        ]
        for inner, outer in zip(reversed(widths), reversed(widths[:-1]), strict=False):
            layers += [doubling(inner, outer, random), *self._activated(outer)]
        return nn.Sequential(*layers, convolution(widths[0], shape[0], random, gain=1.0), nn.Tanh())

    def discriminator(self, shape: Shape, random: torch.Generator) -> nn.Module:
        """Images [B, C, H, W] to logits [B]."""
        base, widths = self._plan(shape)
        layers: list[nn.Module] = [convolution(shape[0], widths[0], random), nn.LeakyReLU(SLOPE)]
        for outer, inner in itertools.pairwise(widths):
            layers += [halving(outer, inner, random), nn.LeakyReLU(SLOPE)]
        last = linear(widths[-1] * base * base, 1, random, gain=1.0)
        return nn.Sequential(*layers, nn.Flatten(1), last, nn.Flatten(0))

    def _plan(self, shape: Shape) -> tuple[int, list[int]]:
        """Side of the smallest level, and the channels of each level from full resolution down."""
        self.check(shape)
        base = _base(shape[1]) or 0
        levels = (shape[1] // base).bit_length()
        return base, [min(self.width << level, self.max_width) for level in range(levels)]

    def _activated(self, num_channels: int) -> list[nn.Module]:
        return (
            [nn.BatchNorm2d(num_channels), nn.LeakyReLU(SLOPE)] if self.batch_norm else [nn.LeakyReLU(SLOPE)]
        )


def _base(size: int) -> int | None:
    """The size after halving it down to 4 to 7; None if it does not halve evenly."""
    while size > 7:
        if size % 2:
            return None
        size //= 2
    return size if size >= 4 else None
