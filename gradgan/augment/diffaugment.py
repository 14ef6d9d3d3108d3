"""Differentiable augmentation with fixed strength: colour, translation and cutout of every image."""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.checks import require
from core.gradients.ranks import own, whole
from core.transfer import send
from gradgan.images import moved
from gradgan.networks import Shape

POLICIES = ("colour", "translation", "cutout")
SHIFT = 1 / 8  # of the side: largest translation either way
HOLE = 1 / 2  # of the side: that of the square cut out


@dataclass(frozen=True, kw_only=True)
class DiffAugment:
    """Each chosen transformation of every image, in the order colour, translation, cutout.

    colour: brightness b - 1/2 added, saturation scaled by 2 s around the mean of the channels, contrast
    scaled by c + 1/2 around the mean of the image; b, s, c uniform in [0, 1) for each image. translation:
    whole pixels up to an eighth of the side either way, zeros (mid-grey) move in. cutout: a square of half
    the side becomes zero; its centre is anywhere in the image.

    Attributes:
        policy: some of colour, translation, cutout; at least one.

    Source: Zhao et al. 2020, arXiv:2006.10738, section 4 and appendix.
    """

    policy: tuple[str, ...]

    def __post_init__(self) -> None:
        require(len(self.policy) > 0, "policy", self.policy, f"some of {', '.join(POLICIES)}")
        for name in self.policy:
            require(name in POLICIES, "policy", name, f"some of {', '.join(POLICIES)}")

    @property
    def initial(self) -> float:
        """Always 1: every image is transformed."""
        return 1.0

    def check(self, shape: Shape) -> None:
        """Refuse what is not an image."""
        if len(shape) != 3:
            raise ValueError("augment transforms images; these samples are points")

    def __call__(self, images: Tensor, p: Tensor, random: torch.Generator) -> Tensor:
        """Transform each image by itself; `p` is not read."""
        for name, transform in zip(POLICIES, (colour, translation, cutout), strict=True):
            if name in self.policy:
                images = transform(images, random)
        return images

    def adapt(self, p: Tensor, real_sign: Tensor, images: int) -> Tensor:
        """Nothing adapts."""
        return p


def colour(images: Tensor, random: torch.Generator) -> Tensor:
    """Random brightness, saturation and contrast of each image, [B, C, H, W]."""
    brightness, saturation, contrast = _tones(images, random)
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + 2 * saturation * (images - grey)
    level = images.mean(dim=(1, 2, 3), keepdim=True)
    return level + (contrast + 0.5) * (images - level)


def _tones(images: Tensor, random: torch.Generator) -> Tensor:
    """Three numbers in [0, 1) for each image, [3, B, 1, 1, 1]."""
    return send(own(torch.rand(3, whole(len(images)), 1, 1, 1, generator=random), dim=1), images)


def translation(images: Tensor, random: torch.Generator) -> Tensor:
    """Shift each image, [B, C, H, W], by whole pixels; zeros move in."""
    count, _, height, width = images.shape
    rows, inside_rows = _shifted(height, count, random)
    columns, inside_columns = _shifted(width, count, random)
    inside = send(inside_rows[:, :, None] & inside_columns[:, None, :], images)
    return moved(images, rows, columns) * inside.unsqueeze(1)


def cutout(images: Tensor, random: torch.Generator) -> Tensor:
    """Set a square of each image, [B, C, H, W], to zero; it may lie partly outside."""
    count, _, height, width = images.shape
    row, column = _inside_hole(height, count, random), _inside_hole(width, count, random)
    hole = send(row[:, :, None] & column[:, None, :], images.device)
    return images.masked_fill(hole.unsqueeze(1), 0.0)


def _shifted(side: int, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each image and place along a side: where it comes from, and whether that is inside; [B, side]."""
    reach = round(side * SHIFT)
    shift = own(torch.randint(-reach, reach + 1, (whole(count), 1), generator=random))
    origin = torch.arange(side) - shift
    return origin.clamp(0, side - 1), (origin >= 0) & (origin < side)


def _inside_hole(side: int, count: int, random: torch.Generator) -> Tensor:
    """For each image and place along a side: whether the hole covers it; [B, side]."""
    size = round(side * HOLE)
    centre = own(torch.randint(0, side + 1 - size % 2, (whole(count), 1), generator=random))
    first = centre - size // 2
    place = torch.arange(side)
    return (place >= first) & (place < first + size)
