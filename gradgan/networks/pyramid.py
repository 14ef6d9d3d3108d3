"""What the convolutional pairs share: which images they take, and how many channels at each resolution."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from annotated_types import Ge

from core.checks import checked, require
from gradgan.networks import Shape

SMALLEST, LARGEST = 8, 128  # pixels of a side


class Pyramid(NamedTuple):
    """Resolutions from the full one down, each half as wide as the one before.

    Attributes:
        base: side of the smallest level, 4 to 7 pixels.
        widths: channels of each level, from full resolution down; two or more.
    """

    base: int
    widths: list[int]


@dataclass(frozen=True, kw_only=True)
@checked
class ImagePair:
    """Options of every convolutional pair.

    Attributes:
        width: channels at full resolution; they double with each halving of the image.
        max_width: upper bound of the channels, >= width.
        spectral_norm: each weight of the discriminator divided by its largest singular value.
    """

    width: Annotated[int, Ge(1)]
    max_width: int
    spectral_norm: bool

    def __post_init__(self) -> None:
        require(self.max_width >= self.width, "max_width", self.max_width, f"at least width ({self.width})")

    def check(self, shape: Shape) -> None:
        """Refuse what is not a square image of 8 to 128 pixels that halves down to 4 to 7.

        Raises:
            ValueError: names the sizes that are taken.
        """
        if len(shape) != 3 or shape[1] != shape[2] or not _taken(shape[1]):
            sizes = ", ".join(str(size) for size in range(SMALLEST, LARGEST + 1) if _taken(size))
            raise ValueError(f"takes square images of {sizes} pixels")

    def levels(self, shape: Shape) -> Pyramid:
        """Channels begin with `width` at full resolution and double with each halving, up to `max_width`.

        Raises:
            ValueError: as `check`.
        """
        self.check(shape)
        base = _base(shape[1])
        count = (shape[1] // base).bit_length()
        return Pyramid(base, [min(self.width << level, self.max_width) for level in range(count)])


def _taken(size: int) -> bool:
    return SMALLEST <= size <= LARGEST and _base(size) > 0


def _base(size: int) -> int:
    """The size after halving it down to 4 to 7; 0 if it does not halve evenly."""
    while size > 7:
        if size % 2:
            return 0
        size //= 2
    return size if size >= 4 else 0
