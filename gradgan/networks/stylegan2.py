"""A small style-based pair for images of 8 to 128 pixels, after StyleGAN2."""

import itertools
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from core.checks import Finite
from gradgan.networks import Shape
from gradgan.networks.equalised import (
    EPSILON,
    Activation,
    ModulatedConvolution,
    ScaledConvolution,
    ScaledLinear,
)
from gradgan.networks.pyramid import ImagePair, Pyramid


@dataclass(frozen=True, kw_only=True)
class StyleGAN2(ImagePair):
    """A mapping network, modulated convolutions with skips to the image, and a residual discriminator.

    Left out on purpose: the noise added to every layer, so that a sample is a function of its latent (what
    is drawn twice, differentiated or averaged is the same sample); the standard deviation over the minibatch
    in the discriminator, because it must not mix the samples of a batch; style mixing, path length
    regularisation and truncation.

    Attributes:
        style_size: numbers in a style, and units of each layer of the mapping network.
        mapping_depth: layers of the mapping network.
        mapping_lr: learning rate of the mapping network as a share of the generator's, through the scale
            of its stored weights: exact for Adam and its like, whose steps do not depend on the gradient's
            scale.
        spectral_norm: not a published combination: the first logits are small (0.002 at width 32).

    Source: Karras et al. 2020, arXiv:1912.04958, figures 2 and 7; mapping network: Karras et al. 2019,
    arXiv:1812.04948, section 2; with 2 layers instead of 8 for 32-pixel images: Karras et al. 2020,
    arXiv:2006.06676.
    """

    name: ClassVar[str] = "stylegan2"

    style_size: Annotated[int, Ge(1)]
    mapping_depth: Annotated[int, Ge(1)]
    mapping_lr: Annotated[float, Gt(0), Finite]

    def generator(self, latent_size: int, shape: Shape, random: torch.Generator) -> nn.Module:
        """Latents [B, latent_size] to images [B, C, H, W]; pixels may leave [-1, 1] (linear last layer)."""
        levels = self.levels(shape)
        sizes = [latent_size] + [self.style_size] * self.mapping_depth
        mapping = [
            layer
            for size, following in itertools.pairwise(sizes)
            for layer in (
                ScaledLinear(size, following, random, lr_multiplier=self.mapping_lr),
                Activation(),
            )
        ]
        return StyleGenerator(nn.Sequential(Normalise(), *mapping), self.style_size, levels, shape[0], random)

    def body(self, shape: Shape, random: torch.Generator) -> tuple[nn.Module, int]:
        """Images [B, C, H, W] to the last hidden layer [B, channels of the smallest level]."""
        base, widths = self.levels(shape)
        plain = {"equalised": not self.spectral_norm}
        body = nn.Sequential(
            ScaledConvolution(shape[0], widths[0], random, kernel=1, **plain),
            Activation(),
            *(ResidualBlock(outer, inner, random, **plain) for outer, inner in itertools.pairwise(widths)),
            ScaledConvolution(widths[-1], widths[-1], random, **plain),
            Activation(),
            nn.Flatten(1),
            ScaledLinear(widths[-1] * base * base, widths[-1], random, **plain),
            Activation(),
        )
        return body, widths[-1]


class StyleGenerator(nn.Module):
    """Latents [B, latent_size] to images [B, image_channels, H, W]: every level adds to the enlarged image.

    Args:
        mapping: latents to styles [B, style_size].
        levels: sides and channels.
    """

    def __init__(
        self,
        mapping: nn.Module,
        style_size: int,
        levels: Pyramid,
        image_channels: int,
        random: torch.Generator,
    ) -> None:
        super().__init__()
        base, widths = levels
        self.mapping = mapping
        self.constant = nn.Parameter(torch.randn(widths[-1], base, base, generator=random))
        gain = len(widths) ** -0.5  # so that the sum of all levels begins with about unit variance
        self.levels = nn.ModuleList(
            StyleLevel(inner, outer, style_size, image_channels, random, double=double, gain=gain)
            for inner, outer, double in [
                (widths[-1], widths[-1], False),
                *((inner, outer, True) for outer, inner in reversed(list(itertools.pairwise(widths)))),
            ]
        )

    def forward(self, z: Tensor) -> Tensor:
        """Styles first, then level by level from the learned constant."""
        style = self.mapping(z)
        x = self.constant.expand(z.shape[0], -1, -1, -1)  # len() would be a constant of an exported file
        image: Tensor | None = None
        for level in self.levels:
            x, image = level(x, image, style)
        assert image is not None
        return image


class StyleLevel(nn.Module):
    """One resolution of the generator: a modulated convolution, a second one where it doubles, an image.

    Args:
        double: whether it begins by doubling height and width; the first level does not.
        gain: initial standard deviation of its pixels.
    """

    def __init__(
        self,
        num_in: int,
        num_out: int,
        style_size: int,
        image_channels: int,
        random: torch.Generator,
        *,
        double: bool,
        gain: float,
    ) -> None:
        super().__init__()
        convolutions = [ModulatedConvolution(num_in, num_out, style_size, random, double=double)]
        if double:
            convolutions += [ModulatedConvolution(num_out, num_out, style_size, random)]
        self.convolutions = nn.ModuleList(convolutions)
        self.activation = Activation()
        self.to_image = ModulatedConvolution(
            num_out, image_channels, style_size, random, kernel=1, gain=gain, demodulate=False
        )

    def forward(self, x: Tensor, image: Tensor | None, style: Tensor) -> tuple[Tensor, Tensor]:
        """Maps of this level, and the image so far, enlarged, with what this level adds."""
        for convolution in self.convolutions:
            x = self.activation(convolution(x, style))
        own = self.to_image(x, style)
        if image is None:
            return x, own
        return x, own + nn.functional.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut, [B, num_in, H, W] to [B, num_out, H / 2, W / 2]."""

    def __init__(self, num_in: int, num_out: int, random: torch.Generator, *, equalised: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            ScaledConvolution(num_in, num_in, random, equalised=equalised),
            Activation(),
            ScaledConvolution(num_in, num_out, random, halve=True, equalised=equalised),
            Activation(),
        )
        self.shortcut = ScaledConvolution(
            num_in, num_out, random, kernel=1, gain=1.0, halve=True, bias=False, equalised=equalised
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shortcut and branch added, scaled to keep the variance of two unrelated summands."""
        return (self.shortcut(x) + self.branch(x)) * 0.5**0.5


class Normalise(nn.Module):
    """Scale each latent [B, n] to mean square 1: its direction alone decides."""

    def forward(self, z: Tensor) -> Tensor:
        """Divide by the root mean square."""
        return z * (z.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt()
