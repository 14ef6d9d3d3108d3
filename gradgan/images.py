"""Images in memory, and their pixels: as the networks see them, back to bytes, moved, to another size."""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.transfer import send

SPLIT_SEED = 0  # of a held-out split, which is part of the data set and not of a run


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images in memory; pixels are uint8, 0 to 255.

    The order of `train` and of `held_out` has no meaning: any first part is a random sample.

    Attributes:
        train: [N, C, H, W], what the discriminator sees (or, of data made endlessly, a fixed sample of it).
        held_out: [M, C, H, W], what metrics compare with; M = 0 where nothing is held out.
        labels: class of each image of `train` and then of `held_out`, int64 [N + M], from 0; or None.
        notes: what the user should know about how they were read, one line each; the run prints them.
    """

    train: Tensor
    held_out: Tensor
    labels: Tensor | None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("train", "held_out"):
            pixels: Tensor = getattr(self, name)
            if pixels.dtype != torch.uint8 or pixels.dim() != 4 or pixels.shape[1:] != self.train.shape[1:]:
                raise ValueError(
                    f"{name} must be uint8 [N, C, H, W], of one shape in both parts; "
                    f"got {pixels.dtype} {list(pixels.shape)}"
                )
        count = len(self.train) + len(self.held_out)
        if self.labels is not None and self.labels.shape != (count,):
            raise ValueError(f"labels must be [{count}], one for each image, got {list(self.labels.shape)}")

    @property
    def num_classes(self) -> int | None:
        """One more than the largest label; None without labels."""
        return None if self.labels is None else int(self.labels.max()) + 1

    @property
    def train_labels(self) -> Tensor | None:
        """Class of each image of `train`, int64 [N], or None."""
        return None if self.labels is None else self.labels[: len(self.train)]

    @property
    def held_out_labels(self) -> Tensor | None:
        """Class of each image of `held_out`, int64 [M], or None."""
        return None if self.labels is None else self.labels[len(self.train) :]


def normalised(pixels: Tensor) -> Tensor:
    """Pixels 0 to 255 as the networks see them, float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1.0


def to_pixels(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8, 0 to 255, rounded; what lies outside is cut off."""
    return ((images + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def moved(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Images [B, C, H, W] whose pixel (i, j) comes from (rows[b, i], columns[b, j]); int64 on the CPU."""
    place = torch.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]
    batch, row, column = (send(index, images.device) for index in place)
    return images.permute(0, 2, 3, 1)[batch, row, column].permute(0, 3, 1, 2)


def resized(pixels: Tensor, size: int | None) -> Tensor:
    """Square images with sides of `size` pixels.

    28 to 32 pixels is a border of two black ones, which changes no pixel of a digit; any other change is
    bilinear, antialiased where it shrinks (torchvision's own, on uint8).

    Args:
        pixels: uint8 [N, C, H, H].
        size: wanted side, >= 1; None = as they are.

    Returns:
        uint8 [N, C, size, size].
    """
    side = pixels.shape[-1]
    if size is None or size == side:
        return pixels
    if (side, size) == (28, 32):
        return torch.nn.functional.pad(pixels, (2, 2, 2, 2))
    from torchvision.transforms.v2 import functional  # late: importing it takes seconds

    # In pieces: what lies between the two passes over all of a large set would double the memory.
    pieces = [functional.resize(piece, [size, size], antialias=True) for piece in pixels.split(1000)]
    return torch.cat(pieces)
