"""Layers initialised from an explicit generator; torch's constructors would draw from the global one.

`num_in` and `num_out` count the numbers or channels that come and leave; `random` draws the weights.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2  # of the leaky ReLU on the negative side (Radford et al. 2016, arXiv:1511.06434, section 3)
POWER_ITERATIONS = 15  # before the first forward, as many as torch runs on its own random vectors


def he_gain(slope: float) -> float:
    """The gain that keeps the mean square through a (leaky) ReLU of this slope: sqrt(2 / (1 + slope^2)).

    Source: He et al. 2015, arXiv:1502.01852, eq. 15.
    """
    return (2.0 / (1.0 + slope**2)) ** 0.5


LEAKY, RELU = he_gain(SLOPE), he_gain(0.0)


def linear(
    num_in: int, num_out: int, random: torch.Generator, *, gain: float = LEAKY, bias: bool = True
) -> nn.Module:
    """A linear layer: normal weights of standard deviation gain / sqrt(num_in), zero biases."""
    return _initialised(lambda: nn.Linear(num_in, num_out, bias=bias), random, gain)


def embedding(num_classes: int, num_features: int, random: torch.Generator) -> nn.Module:
    """One vector for each class, normal of standard deviation 1 / sqrt(num_features)."""
    return _initialised(lambda: nn.Embedding(num_classes, num_features), random, 1.0)


def convolution(
    num_in: int,
    num_out: int,
    random: torch.Generator,
    *,
    gain: float = LEAKY,
    kernel: int = 3,
    groups: int = 1,
    bias: bool = True,
) -> nn.Module:
    """A convolution with an odd kernel that keeps height and width, 3x3 unless told."""
    return _initialised(
        lambda: nn.Conv2d(num_in, num_out, kernel, padding=kernel // 2, groups=groups, bias=bias),
        random,
        gain,
    )


def summary(num_channels: int, side: int, random: torch.Generator) -> nn.Module:
    """A weighted sum of each channel's pixels: maps [B, C, side, side] to [B, C, 1, 1], without bias."""
    return _initialised(
        lambda: nn.Conv2d(num_channels, num_channels, side, groups=num_channels, bias=False), random, 1.0
    )


def halving(num_in: int, num_out: int, random: torch.Generator) -> nn.Module:
    """A 4x4 convolution of stride 2: halves height and width."""
    return _initialised(lambda: nn.Conv2d(num_in, num_out, kernel_size=4, stride=2, padding=1), random, LEAKY)


def doubling(num_in: int, num_out: int, random: torch.Generator, *, gain: float = LEAKY) -> nn.Module:
    """A 4x4 transposed convolution of stride 2: doubles height and width."""
    return _initialised(
        lambda: nn.ConvTranspose2d(num_in, num_out, kernel_size=4, stride=2, padding=1), random, gain
    )


def normalise_spectra(module: nn.Module, random: torch.Generator) -> None:
    """Divide every weight in the module by an estimate of its largest singular value, from now on.

    A kernel [out, in, h, w] counts as the matrix [out, in h w]. The estimate follows the weight by one power
    iteration at each forward in training mode (none in evaluation mode); biases stay as they are. Weights
    must not be zero: 0 / 0.

    Args:
        module: changed in place; its weights' names get torch's `parametrizations.weight.original`.
        random: draws the vectors that the power iteration starts from.

    Source: Miyato et al. 2018, arXiv:1802.05957, algorithm 1; torch.nn.utils.parametrizations.spectral_norm.
    """
    for layer in list(module.modules()):
        weight = layer._parameters.get("weight")
        if weight is None or weight.ndim < 2:
            continue
        with torch.random.fork_rng(devices=[]):
            spectral_norm(layer)
        assert isinstance(layer.parametrizations, nn.ModuleDict)
        chain = layer.parametrizations["weight"]
        assert isinstance(chain, parametrize.ParametrizationList)
        with torch.no_grad():
            for name in ("_u", "_v"):
                vector = chain[0].get_buffer(name)
                vector.copy_(normalize(vector.normal_(generator=random), dim=0))
            for _ in range(POWER_ITERATIONS):
                chain()


def _initialised(make: Callable[[], nn.Module], random: torch.Generator, gain: float) -> nn.Module:
    """Make a layer and draw its weights; the variance counts the inputs that reach one output."""
    # Its constructor draws from the global generator, which is handed back untouched. skip_init would draw
    # nothing, but imports torch._dynamo, which takes seconds.
    with torch.random.fork_rng(devices=[]):
        layer = make()
    weight, bias = layer.get_parameter("weight"), getattr(layer, "bias", None)
    fan_in = weight[0].numel()
    if isinstance(layer, nn.ConvTranspose2d):
        fan_in = weight.shape[0] * 4  # of the 16 taps a stride of 2 leaves 4 for each output pixel
    with torch.no_grad():
        weight.normal_(0.0, gain * fan_in**-0.5, generator=random)
        if bias is not None:
            bias.zero_()
    return layer
