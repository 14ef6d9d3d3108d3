"""Images in memory, what a data set of images is, and the stream of batches from one."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from core.config import ConfigError
from core.transfer import send
from gradgan.batch import Samples
from gradgan.networks import Shape

SPLIT_SEED = 0  # of a held-out split, which is part of the data set and not of a run
GPU_SHARE = 0.25  # of a GPU's free memory, for images; the players and the metrics need the rest


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images in memory; pixels are uint8, 0 to 255.

    The order of `train` and of `held_out` has no meaning: the first so many are a random sample.

    Attributes:
        train: [N, C, H, W], what the discriminator sees (or, of data made endlessly, a fixed sample of it).
        held_out: [M, C, H, W], what metrics compare with; M = 0 where nothing is held out.
        labels: class of each image of `train` and then of `held_out`, int64 [N + M], from 0; or None.
        notes: what the user should know of how they were read, one line each; for the run to say.
    """

    train: Tensor
    held_out: Tensor
    labels: Tensor | None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
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


class ImageData(Protocol):
    """What the training asks of an image data set: what its images are, and a way to load all of them."""

    @property
    def name(self) -> str:
        """As the user writes it, `data=<name>`."""
        ...

    @property
    def shape(self) -> Shape:
        """(channels, height, width)."""
        ...

    @property
    def num_classes(self) -> int | None:
        """Number of classes, known without decoding an image; None = no labels."""
        ...

    def load(self) -> Images:
        """Read everything into memory; raises ConfigError with one line when that cannot be done."""
        ...


class Stream(Protocol):
    """Endless real samples that can stop and go on at any batch."""

    def next(self) -> Samples:
        """A batch."""
        ...

    def state_dict(self) -> dict[str, object]:
        """All of its state but the generator's, which is saved by its owner."""
        ...

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue from `state_dict`."""
        ...


class ImageStream:
    """Endless shuffled passes over images in memory; a batch may take the end of one pass and begin the next.

    The images stay uint8. On a GPU they live there if they take at most `GPU_SHARE` of its free memory;
    otherwise they stay in the main memory and each batch is moved. The batches are the same either way.

    Args:
        images: uint8 [N, C, H, W].
        labels: int64 [N], or None.
        batch_size: images of a batch, at most N.
        random: decides the order; on the CPU.
        device: where batches are wanted.

    Raises:
        ConfigError: `batch_size` is larger than the data set.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None,
        batch_size: int,
        random: torch.Generator,
        device: torch.device,
    ) -> None:
        if batch_size > len(images):
            raise ConfigError(
                f"batch_size must be at most the {len(images)} images of the data set, got {batch_size}"
            )
        if labels is not None and len(labels) != len(images):
            raise ValueError(f"labels must be [{len(images)}], one for each image, got {list(labels.shape)}")
        self.device = device
        self.images = images.to(device if fits(images, device) else "cpu")
        self.labels = labels.to(self.images.device) if labels is not None else None
        self.batch_size = batch_size
        self.random = random
        self.order = torch.empty(0, dtype=torch.int64)
        self.position = 0

    def next(self) -> Samples:
        """Images in [-1, 1], float32 [B, C, H, W], and their labels."""
        chosen = self.order[self.position : self.position + self.batch_size]
        self.position += len(chosen)
        missing = self.batch_size - len(chosen)
        if missing:
            self.order = torch.randperm(len(self.images), generator=self.random)
            self.position = missing
            chosen = torch.cat([chosen, self.order[:missing]])
        chosen = send(chosen, self.images.device)
        labels = None if self.labels is None else send(self.labels[chosen], self.device)
        return Samples(normalised(send(self.images[chosen], self.device)), labels)

    def state_dict(self) -> dict[str, object]:
        """The present pass and the position in it; the generator is saved by its owner."""
        return {"order": self.order, "position": self.position}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue from `state_dict`.

        Raises:
            ValueError: it is the state of a stream over another number of images.
        """
        order, position = state["order"], state["position"]
        sizes = (0, len(self.images))  # 0 before the first batch
        if not isinstance(order, Tensor) or not isinstance(position, int) or len(order) not in sizes:
            raise ValueError(f"not the state of a stream over {len(self.images)} images")
        self.order, self.position = order.cpu(), position


def first_samples(pixels: Tensor, labels: Tensor | None, count: int, device: torch.device) -> Samples:
    """The first `count` images as the networks see them, with their labels; fewer where there are fewer."""
    chosen = None if labels is None else labels[:count].to(device)
    return Samples(normalised(pixels[:count].to(device)), chosen)


def normalised(pixels: Tensor) -> Tensor:
    """Pixels 0 to 255 as the networks see them, float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1.0


def fits(images: Tensor, device: torch.device) -> bool:
    """Whether images may live on the device: on a GPU if they take at most `GPU_SHARE` of what is free."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return images.nbytes <= GPU_SHARE * free


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
