"""A residual pair without normalisation for images of 8 to 128 pixels, after R3GAN."""

import itertools
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn

from core.checks import require
from gradgan.networks import Shape
from gradgan.networks.layers import LEAKY, SLOPE, convolution, linear, summary
from gradgan.networks.pyramid import ImagePair


@dataclass(frozen=True, kw_only=True)
class R3GAN(ImagePair):
    """Inverted bottlenecks with grouped 3x3 convolutions; resampling is bilinear up and averaging down.

    Every residual branch begins as exactly zero (fix-up initialisation), so both networks begin as linear
    maps and no normalisation is needed. Unlike the published pair, the layers next to the image have biases.

    Attributes:
        max_width: the published networks have the same number at each resolution: max_width = width.
        blocks: residual blocks at each resolution.
        expansion: channels inside a block for each channel outside.
        group_size: channels in one group of the 3x3 convolutions; divides expansion * width and
            expansion * max_width.
        spectral_norm: a zero weight has no direction to keep, so the discriminator's branches then begin
            random instead of zero. Not a published combination: the first logits are small (0.001 at width
            32), as no layer has a gain.

    Source: Huang et al. 2024, arXiv:2501.05441, section 3; fix-up: Zhang et al. 2019,
    arXiv:1901.09321, section 3.
    """

    name: ClassVar[str] = "r3gan"

    blocks: Annotated[int, Ge(1)]
    expansion: Annotated[int, Ge(1)]
    group_size: Annotated[int, Ge(1)]

    def __post_init__(self) -> None:
        super().__post_init__()
        inside = [self.expansion * width for width in (self.width, self.max_width)]
        require(
            all(width % self.group_size == 0 for width in inside),
            "group_size",
            self.group_size,
            f"a divisor of expansion * width ({inside[0]}) and expansion * max_width ({inside[1]})",
        )

    def generator(self, latent_size: int, shape: Shape, random: torch.Generator) -> nn.Module:
        """Latents [B, latent_size] to images [B, C, H, W]; pixels may leave [-1, 1] (linear last layer)."""
        base, widths = self.levels(shape)
        layers: list[nn.Module] = [
            Basis(latent_size, widths[-1], base, random),
            *self._stage(widths[-1], len(widths), random, zero=True),
        ]
        for outer, inner in reversed(list(itertools.pairwise(widths))):
            if inner != outer:
                layers += [convolution(inner, outer, random, gain=1.0, kernel=1, bias=False)]
            layers += [nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)]
            layers += self._stage(outer, len(widths), random, zero=True)
        return nn.Sequential(*layers, convolution(widths[0], shape[0], random, gain=1.0, kernel=1))

    def body(self, shape: Shape, random: torch.Generator) -> tuple[nn.Module, int]:
        """Images [B, C, H, W] to one weighted sum of each channel at the smallest level, [B, channels]."""
        base, widths = self.levels(shape)
        zero = not self.spectral_norm
        layers: list[nn.Module] = [
            convolution(shape[0], widths[0], random, gain=1.0, kernel=1),
            *self._stage(widths[0], len(widths), random, zero=zero),
        ]
        for outer, inner in itertools.pairwise(widths):
            layers += [nn.AvgPool2d(2)]
            if inner != outer:
                layers += [convolution(outer, inner, random, gain=1.0, kernel=1, bias=False)]
            layers += self._stage(inner, len(widths), random, zero=zero)
        body = nn.Sequential(*layers, summary(widths[-1], base, random), nn.Flatten(1))
        return body, widths[-1]

    def _stage(self, width: int, levels: int, random: torch.Generator, *, zero: bool) -> list[nn.Module]:
        """The residual blocks of one resolution."""
        inside = self.expansion * width
        gain = LEAKY * (levels * self.blocks) ** -0.25
        return [Bottleneck(width, inside, self.group_size, random, gain, zero) for _ in range(self.blocks)]


class Bottleneck(nn.Module):
    """A residual block [B, C, H, W] to itself: widen (1x1), mix pixels in groups (3x3), narrow (1x1).

    Args:
        num_channels: C.
        num_inside: channels of the 3x3 convolution.
        group_size: channels of one of its groups; divides `num_inside`.
        gain: initial gain of the first two convolutions. Fix-up: with m = 3 layers in each of L branches it
            is scaled by L^(-1 / (2 m - 2)) = L^-0.25.
        zero: begin the last convolution as zero.
    """

    def __init__(
        self,
        num_channels: int,
        num_inside: int,
        group_size: int,
        random: torch.Generator,
        gain: float,
        zero: bool,
    ) -> None:
        super().__init__()
        groups = num_inside // group_size
        self.branch = nn.Sequential(
            convolution(num_channels, num_inside, random, gain=gain, kernel=1),
            nn.LeakyReLU(SLOPE),
            convolution(num_inside, num_inside, random, gain=gain, groups=groups),
            nn.LeakyReLU(SLOPE),
            convolution(num_inside, num_channels, random, gain=0.0 if zero else 1.0, kernel=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The input and the branch added."""
        return x + self.branch(x)


class Basis(nn.Module):
    """Latents [B, latent_size] to maps [B, C, side, side]: learned maps, each weighted by the latent."""

    def __init__(self, latent_size: int, num_channels: int, side: int, random: torch.Generator) -> None:
        super().__init__()
        self.maps = nn.Parameter(torch.randn(num_channels, side, side, generator=random))
        self.weights = linear(latent_size, num_channels, random, gain=1.0, bias=False)

    def forward(self, z: Tensor) -> Tensor:
        """Weigh the maps."""
        return self.weights(z)[:, :, None, None] * self.maps
