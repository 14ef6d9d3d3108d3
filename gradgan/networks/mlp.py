"""A pair of multilayer perceptrons: for points in the plane, and for small images taken as vectors."""

import itertools
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Interval
from torch import nn

from core.checks import checked
from gradgan.networks import Shape
from gradgan.networks.layers import SLOPE, he_gain, linear


@dataclass(frozen=True, kw_only=True)
@checked
class MLP:
    """Two perceptrons of the same width and depth.

    Attributes:
        width: units of each hidden layer.
        depth: hidden layers.
        slope: of the generator's leaky ReLU on the negative side; 0 is the plain ReLU, whose
            sharper creases let it part its latents into modes with less in between. The discriminator's is
            0.2: pressed flat by its penalties near the equilibrium, plain units die for good, and the game
            with them.
        spectral_norm: each weight of the discriminator divided by its largest singular value.
    """

    name: ClassVar[str] = "mlp"

    width: Annotated[int, Ge(1)]
    depth: Annotated[int, Ge(1)]
    slope: Annotated[float, Interval(ge=0, lt=1)]
    spectral_norm: bool

    def check(self, shape: Shape) -> None:
        """Any shape is taken, flattened."""

    def generator(self, latent_size: int, shape: Shape, random: torch.Generator) -> nn.Module:
        """Latents [B, latent_size] to samples [B, *shape]; images end in tanh, points are unbounded."""
        last: list[nn.Module] = [linear(self.width, math.prod(shape), random, gain=1.0)]
        if len(shape) > 1:
            last += [nn.Tanh(), nn.Unflatten(1, shape)]
        return nn.Sequential(*self._hidden(latent_size, self.slope, random), *last)

    def body(self, shape: Shape, random: torch.Generator) -> tuple[nn.Module, int]:
        """Samples [B, *shape] to the last hidden layer [B, width]."""
        body = nn.Sequential(nn.Flatten(1), *self._hidden(math.prod(shape), SLOPE, random))
        return body, self.width

    def _hidden(self, num_in: int, slope: float, random: torch.Generator) -> list[nn.Module]:
        sizes = [num_in] + [self.width] * self.depth
        layers: list[nn.Module] = []
        for size, following in itertools.pairwise(sizes):
            layers += [linear(size, following, random, gain=he_gain(slope)), nn.LeakyReLU(slope)]
        return layers
