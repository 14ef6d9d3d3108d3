"""A residual pair for images of 8 to 128 pixels, after SNGAN."""

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gradgan.networks import Shape
from gradgan.networks.batch_norm import BatchNorm2d
from gradgan.networks.layers import RELU, convolution, linear
from gradgan.networks.pyramid import ImagePair


@dataclass(frozen=True, kw_only=True)
class ResNet(ImagePair):
    """Two 3x3 convolutions and a shortcut for each level; pixels are doubled, or averaged, in between.

    The published networks have 128 or 256 channels at every level of a 32-pixel image, and 64 doubling to
    1024 for 128 pixels: `width` and `max_width` say both. Unlike the published ones, the branches begin
    scaled by 1 / sqrt(blocks), so that depth alone does not make the first outputs larger. Labels come with
    the latent, not through the batch norm.

    Attributes:
        batch_norm: batch norm in the generator, before each activation.
        spectral_norm: the published pair has it.

    Source: Miyato et al. 2018, arXiv:1802.05957, appendix B.4.
    """

    name: ClassVar[str] = "resnet"

    batch_norm: bool

    def generator(self, latent_size: int, shape: Shape, random: torch.Generator) -> nn.Module:
        """Latents [B, latent_size] to images [B, C, H, W] in (-1, 1)."""
        base, widths = self.levels(shape)
        share = (len(widths) - 1) ** -0.5
        return nn.Sequential(
            linear(latent_size, widths[-1] * base * base, random, gain=1.0),
            nn.Unflatten(1, (widths[-1], base, base)),
            *(
                UpBlock(inner, outer, random, batch_norm=self.batch_norm, share=share)
                for outer, inner in reversed(list(itertools.pairwise(widths)))
            ),
            *([BatchNorm2d(widths[0])] if self.batch_norm else []),
            nn.ReLU(),
            convolution(widths[0], shape[0], random, gain=1.0),
            nn.Tanh(),
        )

    def body(self, shape: Shape, random: torch.Generator) -> tuple[nn.Module, int]:
        """Images [B, C, H, W] to the sum over the smallest level's pixels, [B, channels]."""
        base, widths = self.levels(shape)
        share = len(widths) ** -0.5
        body = nn.Sequential(
            DownBlock(shape[0], widths[0], random, first=True, halve=True, share=share),
            *(
                DownBlock(outer, inner, random, halve=True, share=share)
                for outer, inner in itertools.pairwise(widths[:-1])
            ),
            DownBlock(widths[-2], widths[-1], random, share=share),
            nn.ReLU(),
            # Spectral norm leaves small activations, which the published sum makes up for. Without it the
            # sum of 16 to 49 numbers >= 0 made the first logits 3 to 9; divided by the side they are about 1.
            SumPool(1.0 if self.spectral_norm else 1.0 / base),
        )
        return body, widths[-1]


class UpBlock(nn.Module):
    """Feature maps [B, num_in, H, W] to [B, num_out, 2H, 2W].

    Args:
        batch_norm: batch norm before both activations.
        share: initial scale of the branch against the shortcut.
    """

    def __init__(
        self, num_in: int, num_out: int, random: torch.Generator, *, batch_norm: bool, share: float
    ) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *([BatchNorm2d(num_in)] if batch_norm else []),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="nearest"),
            convolution(num_in, num_out, random, gain=RELU),
            *([BatchNorm2d(num_out)] if batch_norm else []),
            nn.ReLU(),
            convolution(num_out, num_out, random, gain=RELU * share),
        )
        # Copying pixels before or after a 1x1 convolution is the same; after, it sees a quarter of them.
        self.shortcut = nn.Sequential(
            convolution(num_in, num_out, random, gain=1.0, kernel=1),
            nn.Upsample(scale_factor=2, mode="nearest"),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shortcut and branch added."""
        return self.shortcut(x) + self.branch(x)


class DownBlock(nn.Module):
    """Feature maps [B, num_in, H, W] to [B, num_out, H / 2, W / 2], or [B, num_out, H, W].

    Args:
        share: initial scale of the branch against the shortcut.
        first: the input is an image, so no activation comes before the first convolution.
        halve: average each 2x2 pixels at the end.
    """

    def __init__(
        self,
        num_in: int,
        num_out: int,
        random: torch.Generator,
        *,
        share: float,
        first: bool = False,
        halve: bool = False,
    ) -> None:
        super().__init__()
        pool: list[nn.Module] = [nn.AvgPool2d(2)] if halve else []
        self.branch = nn.Sequential(
            *([] if first else [nn.ReLU()]),
            convolution(num_in, num_out, random, gain=1.0 if first else RELU),
            nn.ReLU(),
            convolution(num_out, num_out, random, gain=RELU * share),
            *pool,
        )
        same = not halve and num_in == num_out
        learned = [] if same else [convolution(num_in, num_out, random, gain=1.0, kernel=1)]
        self.shortcut = nn.Sequential(*pool, *learned)  # averaging commutes with a 1x1 convolution

    def forward(self, x: Tensor) -> Tensor:
        """Shortcut and branch added."""
        return self.shortcut(x) + self.branch(x)


class SumPool(nn.Module):
    """The sum of each channel over all pixels, times a constant: [B, C, H, W] to [B, C]."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Sum and scale."""
        return x.sum(dim=(2, 3)) * self.scale
