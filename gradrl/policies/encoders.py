"""From rows to features: convolutions for images, everything else as it is."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, TypeVar

import torch
from annotated_types import Ge
from torch import Tensor, nn

from core.checks import checked, require
from gradrl.envs.observations import Observation

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


@dataclass(frozen=True, kw_only=True)
@checked
class ConvolutionConfig:
    """Convolutions for images, each followed by ReLU, and a linear layer behind them.

    Attributes:
        channels: of each convolution.
        kernel_sizes: of each, pixels.
        strides: of each, pixels.
        features: numbers that one image becomes.

    Source: Mnih et al. 2015, "Human-level control through deep reinforcement learning", methods.
    """

    channels: tuple[int, ...] = (32, 64, 64)
    kernel_sizes: tuple[int, ...] = (8, 4, 3)
    strides: tuple[int, ...] = (4, 2, 1)
    features: Annotated[int, Ge(1)] = 512

    def __post_init__(self) -> None:
        for name in ("channels", "kernel_sizes", "strides"):
            value = getattr(self, name)
            ok = len(value) == len(self.channels) and all(v >= 1 for v in value)
            require(ok, name, value, f"{len(self.channels)} integers >= 1, one per convolution")


class Encoder(nn.Module):
    """Rows [..., D] to features [..., F]: images through convolutions, vectors beside them, masks left out.

    Args:
        cfg: of the convolutions.
        observation: the rows' parts.
        orthogonal: weights with gain sqrt(2) and zero biases; otherwise uniform in +-1/sqrt(fan_in).
        generator: draws the initial weights, on the CPU.

    Attributes:
        size: F.

    Raises:
        ValueError: an image is too small for the convolutions.
    """

    def __init__(
        self, cfg: ConvolutionConfig, observation: Observation, orthogonal: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.parts, self.features = observation.parts, cfg.features
        self.images = nn.ModuleList([
            convolutions(cfg, part.shape, orthogonal, generator)
            for part in self.parts if part.kind == "image"
        ])  # fmt: skip
        vectors = sum(part.shape[0] for part in self.parts if part.kind == "vector")
        self.size = vectors + cfg.features * len(self.images)

    def forward(self, rows: Tensor) -> Tensor:
        """Features [..., F] of rows [..., D]."""
        images = iter(self.images)
        features = []
        for part in self.parts:
            columns = rows[..., part.start : part.stop]
            if part.kind == "image":
                pixels = columns.reshape(-1, *part.shape) / 255  # of bytes: float32
                features.append(next(images)(pixels).reshape(*rows.shape[:-1], self.features))
            else:
                features.append(columns)
        return features[0] if len(features) == 1 else torch.cat(features, -1)


def needs_encoder(observation: Observation) -> bool:
    """Whether rows are anything but the one vector that a network sees."""
    return observation.mask is not None or any(part.kind == "image" for part in observation.parts)


def convolutions(
    cfg: ConvolutionConfig, shape: tuple[int, ...], orthogonal: bool, generator: torch.Generator
) -> nn.Sequential:
    """Images [B, C, H, W] with values in [0, 1] to features [B, F]."""
    channels, *sides = shape
    layers: list[nn.Module] = []
    for out, kernel, stride in zip(cfg.channels, cfg.kernel_sizes, cfg.strides, strict=True):
        if min(sides) < kernel:
            raise ValueError(f"images of shape {shape} are too small for policy.convolutions")
        make = partial(nn.Conv2d, channels, out, kernel, stride)
        layers += [initialised(make, orthogonal, generator), nn.ReLU()]
        channels, sides = out, [(side - kernel) // stride + 1 for side in sides]
    flat = channels * math.prod(sides)
    linear = initialised(partial(nn.Linear, flat, cfg.features), orthogonal, generator)
    return nn.Sequential(*layers, nn.Flatten(), linear, nn.ReLU())


def initialised(
    make: Callable[[], Layer], orthogonal: bool, generator: torch.Generator, gain: float = math.sqrt(2)
) -> Layer:
    """A layer whose weights come from `generator` alone.

    torch's own constructors draw from the global generator; the fork hands that back untouched.
    (nn.utils.skip_init would not draw, but imports torch._dynamo, which takes seconds.)
    """
    with torch.random.fork_rng(devices=[]):
        layer = make()
    bias = layer.bias
    assert bias is not None
    if orthogonal:
        nn.init.orthogonal_(layer.weight, gain, generator=generator)
        nn.init.zeros_(bias)
    else:
        bound = 1 / math.sqrt(layer.weight[0].numel())
        nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        nn.init.uniform_(bias, -bound, bound, generator=generator)
    return layer
