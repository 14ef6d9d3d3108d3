"""The digits of scikit-learn: real images that need no download."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval

from core.checks import checked
from gradgan.data.images import ImageData
from gradgan.images import SPLIT_SEED, Images
from gradgan.networks import Shape


@dataclass(frozen=True, kw_only=True)
@checked
class Digits(ImageData):
    """The 1,797 handwritten digits of scikit-learn, 8x8 pixels of 17 grey levels; nothing to download.

    Attributes:
        held_out: images kept from training, for the metrics; 1 to 1,796.

    Source: UCI "Optical recognition of handwritten digits" (test part), as in sklearn.datasets.load_digits.
    """

    name: ClassVar[str] = "digits"
    shape: ClassVar[Shape] = (1, 8, 8)
    num_classes: ClassVar[int] = 10

    held_out: Annotated[int, Interval(ge=1, le=1796)]

    def load(self) -> Images:
        """All digits, split; grey level 16 becomes 255."""
        from sklearn.datasets import load_digits  # late: importing it takes seconds

        data, target = load_digits(return_X_y=True)
        pixels = (torch.as_tensor(data) * (255 / 16)).round().to(torch.uint8).reshape(-1, *self.shape)
        labels = torch.as_tensor(target, dtype=torch.int64)
        order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(SPLIT_SEED))
        held_out, train = order.split([self.held_out, len(order) - self.held_out])
        both = torch.cat([train, held_out])
        return Images(train=pixels[train], held_out=pixels[held_out], labels=labels[both])
