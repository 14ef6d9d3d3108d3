"""Images of your own for a GAN: it says how they are loaded, and gets the rest from ImageData.

python examples/own_data.py data._target_=own_data.Bars data.count=4096 total_images=50000
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge

from core.checks import checked
from core.cli.command import launch
from gradgan.data.images import ImageData
from gradgan.images import Images
from gradgan.networks import Shape


@dataclass(frozen=True, kw_only=True)
@checked
class Bars(ImageData):
    """Black images with one white bar, upright or lying; the class says in which column or row."""

    name: ClassVar[str] = "bars"
    shape: ClassVar[Shape] = (1, 8, 8)  # channels, height, width
    num_classes: ClassVar[int] = 8
    count: Annotated[int, Ge(256)] = 2048

    def load(self) -> Images:
        """All images, uint8 [N, C, H, W]; a quarter is kept from training, for the metrics."""
        place, kind = torch.randint(8, (2, self.count), generator=torch.Generator().manual_seed(0))
        pixels = torch.eye(8)[place][:, None, None].expand(-1, 1, 8, -1) * 255
        pixels = torch.where(kind[:, None, None, None] < 4, pixels.mT, pixels).to(torch.uint8)
        train, held_out = pixels.tensor_split([self.count - self.count // 4])
        return Images(train=train, held_out=held_out, labels=place)


if __name__ == "__main__":
    launch("gan")
