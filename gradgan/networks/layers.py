"""Layers initialised from an explicit generator; torch's constructors would draw from the global one."""

from contextlib import AbstractContextManager

import torch
from torch import nn

SLOPE = 0.2  # of the leaky ReLU on the negative side (Radford et al. 2016, arXiv:1511.06434, section 3)


def he_gain(slope: float) -> float:
    """The gain that keeps the mean square through a (leaky) ReLU of this slope: sqrt(2 / (1 + slope^2)).

    Source: He et al. 2015, arXiv:1502.01852, eq. 15.
    """
    return (2.0 / (1.0 + slope**2)) ** 0.5


LEAKY = he_gain(SLOPE)


def linear(num_in: int, num_out: int, random: torch.Generator, *, gain: float = LEAKY) -> nn.Module:
    """A linear layer: normal weights of standard deviation gain / sqrt(num_in), zero biases."""
    with _aside():
        layer = nn.Linear(num_in, num_out)
    return _initialised(layer, random, gain)


def convolution(num_in: int, num_out: int, random: torch.Generator, *, gain: float = LEAKY) -> nn.Module:
    """A 3x3 convolution that keeps height and width."""
    with _aside():
        layer = nn.Conv2d(num_in, num_out, kernel_size=3, padding=1)
    return _initialised(layer, random, gain)


def halving(num_in: int, num_out: int, random: torch.Generator) -> nn.Module:
    """A 4x4 convolution of stride 2: halves height and width."""
    with _aside():
        layer = nn.Conv2d(num_in, num_out, kernel_size=4, stride=2, padding=1)
    return _initialised(layer, random, LEAKY)


def doubling(num_in: int, num_out: int, random: torch.Generator) -> nn.Module:
    """A 4x4 transposed convolution of stride 2: doubles height and width."""
    with _aside():
        layer = nn.ConvTranspose2d(num_in, num_out, kernel_size=4, stride=2, padding=1)
    return _initialised(layer, random, LEAKY)


def _aside() -> AbstractContextManager[None]:
    """Around a constructor that draws from the global generator: hands that back untouched.

    torch.nn.utils.skip_init would draw nothing, but imports torch._dynamo, which takes seconds.
    """
    return torch.random.fork_rng(devices=[])


def _initialised(layer: nn.Module, random: torch.Generator, gain: float) -> nn.Module:
    """Draw the weights of a fresh layer; the variance counts the inputs that reach one output."""
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    fan_in = weight[0].numel()
    if isinstance(layer, nn.ConvTranspose2d):
        fan_in = weight.shape[0] * 4  # of the 16 taps a stride of 2 leaves 4 for each output pixel
    with torch.no_grad():
        weight.normal_(0.0, gain * fan_in**-0.5, generator=random)
        bias.zero_()
    return layer
