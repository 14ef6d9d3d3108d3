"""Layers of StyleGAN2: weights of unit variance scaled when used, modulation, and a smoothing filter.

A stored weight has the same size whatever its fan-in, so an optimizer with a fixed step length (Adam) learns
at the same relative speed in every layer; a smaller stored scale means a smaller learning rate.

`num_in` and `num_out` count the channels that come and leave; `random` draws the weights.

Source: Karras et al. 2018, arXiv:1710.10196, section 4.1 (equalised learning rate); Karras et al. 2020,
arXiv:1912.04958, section 2 (modulation and demodulation).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu, linear

from gradgan.networks.layers import LEAKY, SLOPE

EPSILON = 1e-8  # under the roots


class Activation(nn.Module):
    """A leaky ReLU times the gain that keeps the mean square, so that no weight has to."""

    def forward(self, x: Tensor) -> Tensor:
        """Activate and scale."""
        return leaky_relu(x, SLOPE) * LEAKY


class ScaledLinear(nn.Module):
    """A linear layer [B, num_in] to [B, num_out] with a learning rate of its own.

    Args:
        gain: initial standard deviation of an output where the inputs have mean square 1.
        bias: initial value of the biases.
        lr_multiplier: what steps on the stored parameters are multiplied by when they are used, > 0.
        equalised: False stores the weight as it is used; under spectral norm the stored scale has no meaning.
    """

    def __init__(
        self,
        num_in: int,
        num_out: int,
        random: torch.Generator,
        *,
        gain: float = 1.0,
        bias: float = 0.0,
        lr_multiplier: float = 1.0,
        equalised: bool = True,
    ) -> None:
        super().__init__()
        std = gain * num_in**-0.5
        self.scale = std * lr_multiplier if equalised else 1.0
        self.bias_scale = lr_multiplier
        self.weight = nn.Parameter(torch.randn(num_out, num_in, generator=random) * (std / self.scale))
        self.bias = nn.Parameter(torch.full((num_out,), bias / lr_multiplier))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and apply."""
        return linear(x, self.weight * self.scale, self.bias * self.bias_scale)


class ScaledConvolution(nn.Module):
    """A convolution with an odd kernel; it keeps height and width, or halves them with a filter before it.

    Args:
        kernel: pixels of a side of the kernel, 1 or 3.
        gain: initial standard deviation of an output where the inputs have mean square 1.
        halve: smooth, then step over every second pixel.
        bias: whether it has biases (they begin at zero).
        equalised: as in `ScaledLinear`.
    """

    def __init__(
        self,
        num_in: int,
        num_out: int,
        random: torch.Generator,
        *,
        kernel: int = 3,
        gain: float = 1.0,
        halve: bool = False,
        bias: bool = True,
        equalised: bool = True,
    ) -> None:
        super().__init__()
        std = gain * (num_in * kernel**2) ** -0.5
        self.scale = std if equalised else 1.0
        weight = torch.randn(num_out, num_in, kernel, kernel, generator=random)
        self.weight = nn.Parameter(weight * (std / self.scale))
        self.bias = nn.Parameter(torch.zeros(num_out)) if bias else None
        # Padded as far as filter and kernel reach together, so that exactly half of the pixels come out.
        self.smooth = Smooth(padding=1 + kernel // 2, stride=2 if kernel == 1 else 1) if halve else None
        self.stride = 2 if halve and kernel > 1 else 1
        self.padding = 0 if halve else kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """Smooth where it halves, scale and apply."""
        if self.smooth is not None:
            x = self.smooth(x)
        return conv2d(x, self.weight * self.scale, self.bias, self.stride, self.padding)


class ModulatedConvolution(nn.Module):
    """A convolution whose input channels are weighted by a style, different for each sample.

        w'_oik = s_i w_oik,    w''_oik = w'_oik / sqrt(sum over i, k of w'_oik^2 + 1e-8)

    The weights of a sample are never formed: its input is multiplied by s and its output by the root, which
    is the same function. Against one grouped convolution over all samples this took 0.5 to 0.9 times as long
    for channels-last maps on a CPU, needs no weight [B, out, in, h, w], and keeps the memory format.

    Args:
        kernel: pixels of a side of the kernel, 1 or 3.
        gain: initial standard deviation of an output where the inputs have mean square 1; without
            demodulation only, with it that is 1.
        demodulate: bring each output channel back to unit scale.
        double: double height and width by a transposed convolution of stride 2, smoothed after it.

    Source: Karras et al. 2020, arXiv:1912.04958, eq. 1 and 3.
    """

    def __init__(
        self,
        num_in: int,
        num_out: int,
        style_size: int,
        random: torch.Generator,
        *,
        kernel: int = 3,
        gain: float = 1.0,
        demodulate: bool = True,
        double: bool = False,
    ) -> None:
        super().__init__()
        self.style = ScaledLinear(style_size, num_in, random, gain=1.0, bias=1.0)
        self.weight = nn.Parameter(torch.randn(num_out, num_in, kernel, kernel, generator=random))
        self.bias = nn.Parameter(torch.zeros(num_out))
        self.scale = gain * (num_in * kernel**2) ** -0.5
        self.demodulate = demodulate
        self.padding = kernel // 2
        # Of the pixels that go into a transposed convolution of stride 2 only one in four is not zero.
        self.smooth = Smooth(padding=1, gain=4.0) if double else None

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Maps [B, num_in, H, W] and styles [B, style_size] to [B, num_out, H, W], or twice the side."""
        weight = self.weight * self.scale
        modulation = self.style(style)
        x = x * modulation[:, :, None, None]
        if self.smooth is None:
            x = conv2d(x, weight, padding=self.padding)
        else:
            x = self.smooth(conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        if self.demodulate:
            power = modulation.square() @ weight.square().sum(dim=(2, 3)).T
            x = x * (power + EPSILON).rsqrt()[:, :, None, None]
        return x + self.bias[:, None, None]


class Smooth(nn.Module):
    """The fixed binomial filter [1, 3, 3, 1] along both axes of every channel; its weights sum to `gain`.

    It removes what a step over every second pixel, or the zeros of a transposed convolution, would alias.

    Args:
        padding: zeros around the maps; a side of H pixels becomes (H + 2 padding - 4) // stride + 1.
        stride: step between outputs.
        gain: sum of the filter.

    Source: Zhang 2019, arXiv:1904.11486; Karras et al. 2019, arXiv:1812.04948, section 2.
    """

    filter: Tensor

    def __init__(self, *, padding: int, stride: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        line = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("filter", gain / 64.0 * torch.outer(line, line)[None, None], persistent=False)
        self.padding = padding
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Filter every channel by itself."""
        channels = x.shape[1]
        return conv2d(
            x, self.filter.expand(channels, -1, -1, -1), None, self.stride, self.padding, groups=channels
        )
