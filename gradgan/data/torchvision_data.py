"""Labelled data sets that torchvision can fetch: digits, letters, clothes and photographs."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from core.checks import checked
from core.config import ConfigError
from gradgan.data.images import ImageData
from gradgan.images import SPLIT_SEED, Images, resized
from gradgan.networks import Shape

DatasetName = Literal[
    "MNIST",
    "FashionMNIST",
    "KMNIST",
    "EMNISTLetters",
    "EMNISTDigits",
    "CIFAR10",
    "CIFAR100",
    "SVHN",
    "STL10",
    "STL10Unlabeled",
]


@dataclass(frozen=True, kw_only=True)
class _Source:
    """How torchvision has a data set.

    Attributes:
        name: ours, `data=<name>`.
        dataset: class in torchvision.datasets.
        shape: of an image as it is stored.
        num_classes: of its labels; None = the part that is trained on has none.
        parts: the keywords that choose the part to train on, and the one to hold out.
        labels: attribute that holds the labels.
        first_label: the smallest one.
        channels_last: pixels are stored [N, H, W, C].
        transposed: pixels are stored with rows and columns exchanged.
        sorted: images are stored class by class.
    """

    name: str
    dataset: str
    shape: Shape
    num_classes: int | None
    parts: tuple[Mapping[str, object], Mapping[str, object]] = ({"train": True}, {"train": False})
    labels: str = "targets"
    first_label: int = 0
    channels_last: bool = False
    transposed: bool = False
    sorted: bool = False


@dataclass(frozen=True, kw_only=True)
@checked
class Torchvision(ImageData):
    """A data set of torchvision; its test part is held out for the metrics.

    `STL10Unlabeled` trains on the 100,000 images without labels and holds out the labelled test part, whose
    labels are then left out too. EMNIST is turned upright and shuffled (once, always alike), and its
    letters are numbered from 0.

    Attributes:
        dataset: class in torchvision.datasets, or its part.
        root: folder that holds (or will hold) torchvision's own files.
        download: whether to fetch missing files into `root`.
        size: side in pixels, >= 1: see `images.resized`; None = as stored.
    """

    dataset: DatasetName
    root: str
    download: bool
    size: Annotated[int | None, Ge(1)]

    @property
    def name(self) -> str:
        """As the user writes it, `data=<name>`."""
        return _SOURCES[self.dataset].name

    @property
    def shape(self) -> Shape:
        """(channels, height, width)."""
        channels, height, width = _SOURCES[self.dataset].shape
        return (channels, self.size or height, self.size or width)

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None = no labels."""
        return _SOURCES[self.dataset].num_classes

    def load(self) -> Images:
        """Both parts, in memory.

        Raises:
            ConfigError: the files are not there (or broken) and may not be, or could not be, downloaded.
        """
        source = _SOURCES[self.dataset]
        (train, train_labels), (test, test_labels) = (self._part(source, part) for part in source.parts)
        labels = torch.cat([train_labels, test_labels]) if source.num_classes is not None else None
        return Images(train=resized(train, self.size), held_out=resized(test, self.size), labels=labels)

    def _part(self, source: _Source, chosen: Mapping[str, object]) -> tuple[Tensor, Tensor]:
        """Pixels uint8 [N, C, H, W] and labels int64 [N] of one part."""
        from torchvision import datasets  # late: importing it takes seconds

        try:
            part = getattr(datasets, source.dataset)(self.root, download=self.download, **chosen)
            return _tensors(source, part)
        except _UNREADABLE as error:
            if self.download:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise ConfigError(f"data.download=true: could not fetch {self.dataset}: {reason}") from error
            raise ConfigError(
                f"data.root={self.root} holds no intact {self.dataset} in torchvision's layout; "
                "set data.root= to a folder that does, or data.download=true"
            ) from error


# What torchvision raises on files that are missing, cut off, or something else: it checks few of them.
_UNREADABLE = (
    RuntimeError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AssertionError,
    EOFError,
    pickle.UnpicklingError,
)


def _tensors(source: _Source, part: object) -> tuple[Tensor, Tensor]:
    """What a torchvision data set keeps, in our layout; raises ValueError if it is not what it should be."""
    pixels = torch.as_tensor(getattr(part, "data"))  # noqa: B009  (`object` has no such attribute)
    labels = torch.as_tensor(getattr(part, source.labels)).to(torch.int64) - source.first_label
    if pixels.dim() == 3:
        pixels = pixels.unsqueeze(1)
    if source.channels_last:
        pixels = pixels.permute(0, 3, 1, 2)
    if source.transposed:
        pixels = pixels.transpose(2, 3)
    if pixels.shape[1:] != source.shape or pixels.dtype != torch.uint8 or len(labels) != len(pixels):
        raise ValueError(f"{pixels.dtype} {list(pixels.shape)} with {len(labels)} labels")
    wrong = (labels < 0) | (labels >= source.num_classes) if source.num_classes is not None else labels < -1
    if len(labels) == 0 or wrong.any():
        raise ValueError("no images, or labels out of range")
    if source.sorted:
        order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(SPLIT_SEED))
        pixels, labels = pixels[order], labels[order]
    return pixels.contiguous(), labels


def _emnist(split: str, num_classes: int, first_label: int) -> _Source:
    """EMNIST's files hold every image transposed, and its test parts lie class by class."""
    return _Source(
        name=f"emnist_{split}",
        dataset="EMNIST",
        shape=_GREY,
        num_classes=num_classes,
        parts=({"split": split, "train": True}, {"split": split, "train": False}),
        first_label=first_label,
        transposed=True,
        sorted=True,
    )


def _mnist(name: str, dataset: str) -> _Source:
    return _Source(name=name, dataset=dataset, shape=_GREY, num_classes=10)


def _cifar(name: str, dataset: str, num_classes: int) -> _Source:
    return _Source(name=name, dataset=dataset, shape=_COLOUR, num_classes=num_classes, channels_last=True)


def _splits(name: str, dataset: str, shape: Shape, num_classes: int | None, train: str = "train") -> _Source:
    return _Source(
        name=name,
        dataset=dataset,
        shape=shape,
        num_classes=num_classes,
        parts=({"split": train}, {"split": "test"}),
        labels="labels",
    )


_GREY, _COLOUR, _LARGE = (1, 28, 28), (3, 32, 32), (3, 96, 96)
_SOURCES: dict[str, _Source] = {
    "MNIST": _mnist("mnist", "MNIST"),
    "FashionMNIST": _mnist("fashion_mnist", "FashionMNIST"),
    "KMNIST": _mnist("kmnist", "KMNIST"),
    "EMNISTLetters": _emnist("letters", 26, 1),
    "EMNISTDigits": _emnist("digits", 10, 0),
    "CIFAR10": _cifar("cifar10", "CIFAR10", 10),
    "CIFAR100": _cifar("cifar100", "CIFAR100", 100),
    "SVHN": _splits("svhn", "SVHN", _COLOUR, 10),
    "STL10": _splits("stl10", "STL10", _LARGE, 10),
    "STL10Unlabeled": _splits("stl10_unlabeled", "STL10", _LARGE, None, train="unlabeled"),
}
