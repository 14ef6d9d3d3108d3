"""Stacked-MNIST: three digits as the colours of one image, which makes 1,000 known modes."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from core.checks import checked
from core.transfer import send
from gradgan.batch import Batch
from gradgan.data import FreshStream, Stream
from gradgan.data.images import ImageData, loaded
from gradgan.data.torchvision_data import Torchvision
from gradgan.images import SPLIT_SEED, Images, normalised
from gradgan.networks import Shape


@dataclass(frozen=True, kw_only=True)
@checked
class StackedMNIST(ImageData):
    """Images whose red, green and blue are three random digits of MNIST; class 100 a + 10 b + c.

    Nothing is stored but MNIST: the images of the training are composed as they are drawn.

    Attributes:
        root: folder that holds (or will hold) torchvision's files of MNIST.
        download: whether to fetch missing files into `root`.
        size: side in pixels: 28, or 32 with a black border of two.
        held_out: images composed of MNIST's test part for the metrics; always the same ones.

    Source: Metz et al. 2017, arXiv:1611.02163, section 3.3.2; the labels' order: Lin et al. 2018,
    arXiv:1712.04086, section 4.2.
    """

    name: ClassVar[str] = "stacked_mnist"
    num_classes: ClassVar[int] = 1000

    root: str
    download: bool
    size: Literal[28, 32]
    held_out: Annotated[int, Ge(1)]

    @property
    def shape(self) -> Shape:
        """(channels, height, width)."""
        return (3, self.size, self.size)

    @property
    def digits(self) -> Torchvision:
        """The digits alone, in the same size: what a classifier of single channels learns from."""
        return Torchvision(dataset="MNIST", root=self.root, download=self.download, size=self.size)

    def load(self) -> Images:
        """As many fixed compositions of the training digits as of the test digits, for the metrics.

        Raises:
            ConfigError: MNIST cannot be read.
        """
        digits = loaded(self.digits)
        assert digits.train_labels is not None
        assert digits.held_out_labels is not None
        random = torch.Generator().manual_seed(SPLIT_SEED)
        held_out, held_out_labels = stack(digits.held_out, digits.held_out_labels, self.held_out, random)
        train, train_labels = stack(digits.train, digits.train_labels, self.held_out, random)
        return Images(train=train, held_out=held_out, labels=torch.cat([train_labels, held_out_labels]))

    def stream(self, batch_size: int, random: torch.Generator, device: torch.device) -> Stream:
        """Endless fresh compositions of MNIST's training digits, drawn with replacement.

        Raises:
            ConfigError: MNIST cannot be read.
        """
        images = loaded(self.digits)
        assert images.train_labels is not None
        digits, labels = images.train.to(device), images.train_labels.to(device)  # 60 MB at most

        def batch() -> Batch:
            pixels, classes = stack(digits, labels, batch_size, random)
            return Batch(normalised(pixels), classes)

        return FreshStream(batch)

    def draw(self, count: int, random: torch.Generator, device: torch.device) -> Batch:
        """`count` fresh compositions."""
        return self.stream(count, random, device).next()


def stack(digits: Tensor, labels: Tensor, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Compose images of three digits, each drawn uniformly with replacement.

    Args:
        digits: uint8 [N, 1, H, W].
        labels: 0 to 9, int64 [N].
        count: how many images.
        random: on the CPU; draws count x 3 indices.

    Returns:
        uint8 [count, 3, H, W], and 100 a + 10 b + c for the digits a, b, c of its channels, int64 [count].
    """
    chosen = send(torch.randint(len(digits), (count, 3), generator=random), digits.device)
    a, b, c = labels[chosen].unbind(dim=1)
    return digits[chosen].squeeze(2), 100 * a + 10 * b + c
