"""Mixtures of Gaussians in the plane: real data whose modes are known."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from core.checks import Finite, checked
from core.transfer import send
from gradgan.batch import Batch
from gradgan.data import FreshStream, Stream
from gradgan.evaluation.evaluator import FixedLatents, MixtureEvaluator
from gradgan.features import Features
from gradgan.networks import Shape


@dataclass(frozen=True, kw_only=True)
@checked
class Mixture:
    """Equally likely Gaussians in the plane; a subclass says where they are.

    The networks see points in units of `scale`, the root mean square coordinate, so that one learning rate
    fits a ring of radius 1 and a grid of side 8.

    Attributes:
        std: standard deviation of each Gaussian along each axis.
    """

    shape: ClassVar[Shape] = (2,)
    name: ClassVar[str]

    std: Annotated[float, Gt(0), Finite]

    @property
    def centres(self) -> Tensor:
        """Means of the Gaussians, float32 [K, 2]."""
        raise TypeError(f"{type(self).__name__} has no centres: use Ring or Grid")

    @property
    def num_classes(self) -> int:
        """K: the label of a point is the index of the Gaussian that it came from."""
        return len(self.centres)

    @property
    def scale(self) -> float:
        """Root mean square coordinate of a sample."""
        return math.sqrt(self.centres.double().square().mean().item() + self.std**2)

    def notes(self) -> tuple[str, ...]:
        """Nothing is read."""
        return ()

    def limits(self) -> dict[str, float]:
        """How many modes there are, for the diagnosis."""
        return {"modes": float(len(self.centres))}

    def stream(self, batch_size: int, random: torch.Generator, device: torch.device) -> Stream:
        """Endless fresh points in units of `scale`, float32 [B, 2], and the Gaussian of each, int64 [B]."""
        centres, scale = self.centres, self.scale

        def batch() -> Batch:
            mode = torch.randint(len(centres), (batch_size,), generator=random)
            noise = torch.randn(batch_size, 2, generator=random)
            return Batch(send((centres[mode] + self.std * noise) / scale, device), send(mode, device))

        return FreshStream(batch)

    def draw(self, count: int, random: torch.Generator, device: torch.device) -> Batch:
        """`count` fresh samples."""
        return self.stream(count, random, device).next()

    def references(
        self, count: int, random: torch.Generator, device: torch.device
    ) -> tuple[Batch, Batch | None]:
        """`count` samples for training ones, and as many others for held-out ones."""
        stream = self.stream(count, random, device)
        return stream.next(), stream.next()

    def evaluator(
        self, latents: FixedLatents, samples: int, features: Features, say: Callable[[str], None] = print
    ) -> MixtureEvaluator:
        """Measures and draws generators of such points; reads no `features` and says nothing."""
        real = self.draw(samples, torch.Generator().manual_seed(0), torch.device("cpu")).x * self.scale
        return MixtureEvaluator(latents, centres=self.centres, std=self.std, scale=self.scale, real=real)


@dataclass(frozen=True, kw_only=True)
class Ring(Mixture):
    """Gaussians evenly on a circle.

    Attributes:
        num_modes: how many.
        radius: of the circle.
    """

    name: ClassVar[str] = "ring"

    num_modes: Annotated[int, Ge(1)]
    radius: Annotated[float, Gt(0), Finite]

    @property
    def centres(self) -> Tensor:
        """[num_modes, 2], the first at angle 0."""
        angle = torch.arange(self.num_modes, dtype=torch.float64) * (2 * math.pi / self.num_modes)
        return (self.radius * torch.stack([angle.cos(), angle.sin()], dim=1)).float()


@dataclass(frozen=True, kw_only=True)
class Grid(Mixture):
    """Gaussians on a square lattice around the origin.

    Attributes:
        side: Gaussians along each side.
        spacing: between neighbours.
    """

    name: ClassVar[str] = "grid"

    side: Annotated[int, Ge(1)]
    spacing: Annotated[float, Gt(0), Finite]

    @property
    def centres(self) -> Tensor:
        """[side^2, 2]."""
        line = (torch.arange(self.side) - (self.side - 1) / 2) * self.spacing
        return torch.cartesian_prod(line, line).reshape(-1, 2)
