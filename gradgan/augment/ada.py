"""Adaptive discriminator augmentation: as strong as the discriminator's overfitting asks for.

Each image is moved (mirrored, turned, scaled, shifted) by one affine map and recoloured by one 4x4 matrix,
both products of transformations that each happen with probability p. While D is right about real images more
often than it should be, p grows; else it falls.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt, Interval
from torch import Tensor

from core.checks import Finite, checked
from core.gradients.ranks import own, whole
from core.transfer import send
from gradgan.augment.sampling import bilinear
from gradgan.networks import Shape

SHIFT = 1 / 8  # of the side: bound of whole-pixel shifts, deviation of fractional ones
LOG_SCALE = 0.2  # deviation of log2 of a scaling
BRIGHTNESS, LOG_CONTRAST, LOG_SATURATION = 0.2, 0.5, 1.0  # deviations; the last two of log2


@dataclass(frozen=True, kw_only=True)
@checked
class ADA:
    """Mirror, quarter turns, shifts, scaling, rotation; brightness, contrast, luma flip, hue, saturation.

    Grey images take the first three of the colour transformations. Images are resampled bilinearly, with
    their reflections around them (the authors filter with wavelets in between, which is sharper and slower).

    Attributes:
        initial: p at the start.
        target: mean sign of D(real) to keep.
        speed: images in which p goes from 0 to 1 at most.

    Source: Karras et al. 2020, arXiv:2006.06676, section 3 and appendix B; without its image-space filtering,
    noise and cutout.
    """

    initial: Annotated[float, Interval(ge=0, le=1)]
    target: Annotated[float, Interval(ge=-1, le=1)]
    speed: Annotated[float, Gt(0), Finite]

    def check(self, shape: Shape) -> None:
        """Refuse what is not a square image in grey or three colours."""
        if len(shape) != 3 or shape[1] != shape[2] or shape[0] not in (1, 3):
            raise ValueError("augment=ada transforms square images of 1 or 3 channels")

    def __call__(self, images: Tensor, p: Tensor, random: torch.Generator) -> Tensor:
        """Transform each image; the result may leave [-1, 1], and p = 0 gives the images back exactly."""
        wide = images.to(torch.promote_types(images.dtype, torch.float32))
        # Positions in bfloat16, which autocast multiplies matrices in, are off by up to half a pixel.
        with torch.autocast(images.device.type, enabled=False):
            draws = _Draws(wide, p, random)
            moved = bilinear(wide, movement(draws, wide.shape[-1]))
            return recoloured(moved, colouring(draws)).to(images.dtype)

    def adapt(self, p: Tensor, real_sign: Tensor, images: int) -> Tensor:
        """Towards more where the sign is above its target, towards less below; by images / speed.

        A sign that is NaN moves nothing.
        """
        moved = (p + torch.sign(real_sign - self.target) * (images / self.speed)).clamp(0.0, 1.0)
        return torch.where(real_sign.isnan(), p, moved)


class _Draws:
    """Random numbers for each image, each kept with the probability that its transformation has."""

    def __init__(self, images: Tensor, p: Tensor, random: torch.Generator) -> None:
        self.images, self.count = images, whole(len(images))
        self.p = p
        self.random = random

    def kept(self, values: Tensor, otherwise: float, p: Tensor | None = None) -> Tensor:
        """`values` [B] where a draw says so, else `otherwise`."""
        happens = send(own(torch.rand(whole(len(values)), generator=self.random)), self.images)
        return torch.where(happens < (self.p if p is None else p), values, otherwise)

    def uniform(self, low: float, high: float) -> Tensor:
        """[B]."""
        return send(low + (high - low) * own(torch.rand(self.count, generator=self.random)), self.images)

    def normal(self) -> Tensor:
        """[B]."""
        return send(own(torch.randn(self.count, generator=self.random)), self.images)

    def integers(self, low: int, high: int) -> Tensor:
        """[B], from low to high - 1."""
        return send(own(torch.randint(low, high, (self.count,), generator=self.random)), self.images)


def movement(draws: _Draws, side: int) -> Tensor:
    """Where each pixel of the new image comes from in the old one: affine maps [B, 2, 3].

    In pixels around the centre, x to the right and y down.
    """
    zero = draws.images.new_zeros(len(draws.images))
    one = zero + 1
    # A rotation comes before and after the scaling: that at least one happens shall have probability p.
    rotates = 1 - (1 - draws.p).sqrt()
    quarter = draws.kept(draws.integers(0, 4), 0.0) * (math.pi / 2)
    cos, sin = quarter.cos().round(), quarter.sin().round()  # exactly 0 and 1
    reach = round(side * SHIFT)
    steps = [
        # Half of those chosen are mirrored: if all were, p = 1/2 would hide the orientation of images.
        _map(draws.kept(1 - 2 * draws.integers(0, 2), 1.0), zero, zero, one, zero, zero),
        _map(cos, -sin, sin, cos, zero, zero),
        _shift(draws, draws.integers(-reach, reach + 1), draws.integers(-reach, reach + 1)),
        _scaled(scale := draws.kept(torch.exp2(LOG_SCALE * draws.normal()), 1.0), scale),
        _turned(draws.kept(draws.uniform(-math.pi, math.pi), 0.0, rotates)),
        _scaled(scale := draws.kept(torch.exp2(LOG_SCALE * draws.normal()), 1.0), 1 / scale),
        _turned(draws.kept(draws.uniform(-math.pi, math.pi), 0.0, rotates)),
        _shift(draws, side * SHIFT * draws.normal(), side * SHIFT * draws.normal()),
    ]
    whole = steps[0]
    for step in steps[1:]:
        whole = whole @ step
    return whole[:, :2]


def colouring(draws: _Draws) -> Tensor:
    """What becomes of a colour (r, g, b, 1): matrices [B, 4, 4]."""
    eye = send(torch.eye(4), draws.images)
    white = send(torch.tensor([1.0, 1.0, 1.0, 0.0]), draws.images)
    luma = white / math.sqrt(3)
    along = torch.outer(luma, luma)

    def factor(log2_deviation: float) -> Tensor:
        return draws.kept(torch.exp2(log2_deviation * draws.normal()), 1.0)[:, None, None]

    colours = torch.diag(white)
    last = eye - colours
    shift = torch.outer(colours.diagonal(), last.diagonal())
    whole = eye + draws.kept(BRIGHTNESS * draws.normal(), 0.0)[:, None, None] * shift
    whole = (factor(LOG_CONTRAST) * colours + last) @ whole
    flipped = draws.kept(draws.integers(0, 2), 0.0)[:, None, None]
    whole = (eye - 2 * flipped * along) @ whole
    if draws.images.shape[1] == 1:
        return whole
    whole = _around(luma, draws.kept(draws.uniform(-math.pi, math.pi), 0.0)) @ whole
    return (eye + (factor(LOG_SATURATION) - 1) * (colours - along)) @ whole


def recoloured(images: Tensor, matrices: Tensor) -> Tensor:
    """Apply matrices [B, 4, 4] to every pixel of images [B, C, H, W]; grey ones as (x, x, x, 1), averaged."""
    linear, constant = matrices[:, :3, :3], matrices[:, :3, 3]
    if images.shape[1] == 1:
        scale = linear.sum(dim=2).mean(dim=1)
        return images * scale[:, None, None, None] + constant.mean(dim=1)[:, None, None, None]
    return torch.einsum("bij,bjhw->bihw", linear, images) + constant[:, :, None, None]


def _map(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Homogeneous maps [B, 3, 3] with rows (a, b, x), (c, d, y), (0, 0, 1)."""
    zero = torch.zeros_like(a)
    rows = [a, b, x, c, d, y, zero, zero, zero + 1]
    return torch.stack(rows, dim=1).reshape(-1, 3, 3)


def _scaled(x: Tensor, y: Tensor) -> Tensor:
    """The inverse of a scaling by x and y."""
    zero = torch.zeros_like(x)
    return _map(1 / x, zero, zero, 1 / y, zero, zero)


def _turned(angle: Tensor) -> Tensor:
    zero = torch.zeros_like(angle)
    return _map(angle.cos(), -angle.sin(), angle.sin(), angle.cos(), zero, zero)


def _shift(draws: _Draws, right: Tensor, down: Tensor) -> Tensor:
    """The inverse of a shift, both ways by the same draw of whether it happens."""
    happens = draws.kept(torch.ones_like(right), 0.0)
    one, zero = torch.ones_like(right), torch.zeros_like(right)
    return _map(one, zero, zero, one, -right * happens, -down * happens)


def _around(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotations of (r, g, b) around a unit axis [4], [B, 4, 4] (Rodrigues' formula)."""
    x, y, z, zero = axis  # not as numbers: reading them would wait for the device
    cross = torch.stack([zero, -z, y, zero, z, zero, -x, zero, -y, x, *[zero] * 6]).reshape(4, 4)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return send(torch.eye(4), axis) + sin * cross + (1 - cos) * (cross @ cross)
