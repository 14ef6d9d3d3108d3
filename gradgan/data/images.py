"""Image data sets: what they have in common, and the stream of batches from images in memory."""

from abc import abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from core.config import ConfigError
from core.own_module import attempt
from core.seeding import seed_for
from core.transfer import send
from gradgan.batch import Batch
from gradgan.data import Data, Stream
from gradgan.evaluation.evaluator import FixedLatents, ImageEvaluator
from gradgan.features import Features
from gradgan.images import Images, normalised

GPU_SHARE = 0.25  # of a GPU's free memory, for images; the players and the metrics need the rest


class ImageData(Data, Protocol):
    """Images that fit into memory; a data set of this kind says how to load them, and gets the rest."""

    @abstractmethod
    def load(self) -> Images:
        """Read everything into memory.

        Raises:
            ConfigError: that cannot be done.
        """
        ...

    def notes(self) -> tuple[str, ...]:
        """What the user should know about how the images were read, one line each."""
        return loaded(self).notes

    def limits(self) -> dict[str, float]:
        """How many images there are to train on, for the diagnosis."""
        return {"train_samples": float(len(loaded(self).train))}

    def stream(self, batch_size: int, random: torch.Generator, device: torch.device) -> Stream:
        """Endless batches of the training images, in the order that `random` decides.

        Raises:
            ConfigError: the images cannot be loaded, or there are fewer than `batch_size`.
        """
        images = loaded(self)
        if batch_size > len(images.train):
            raise ConfigError(
                f"batch_size must be at most {len(images.train)}, the images of data={self.name}, "
                f"got {batch_size}"
            )
        return ImageStream(images.train, images.train_labels, batch_size, random, device)

    def draw(self, count: int, random: torch.Generator, device: torch.device) -> Batch:
        """`count` random training images, or all where there are fewer."""
        return self.stream(min(count, len(loaded(self).train)), random, device).next()

    def references(
        self, count: int, random: torch.Generator, device: torch.device
    ) -> tuple[Batch, Batch | None]:
        """The first `count` training images and as many held-out ones, or None where none are held out."""
        images = loaded(self)

        def first(pixels: Tensor, labels: Tensor | None) -> Batch:
            chosen = None if labels is None else labels[:count].to(device)
            return Batch(normalised(pixels[:count].to(device)), chosen)

        held_out = first(images.held_out, images.held_out_labels)
        return first(images.train, images.train_labels), held_out if len(held_out.x) else None

    def evaluator(
        self, latents: FixedLatents, samples: int, features: Features, say: Callable[[str], None] = print
    ) -> ImageEvaluator:
        """Measures and draws generators of such images; see `ImageEvaluator`.

        Raises:
            ConfigError: the images cannot be loaded, or the feature network cannot be made.
        """
        return ImageEvaluator(self.name, loaded(self), latents, samples, features, say)


def loaded(data: ImageData) -> Images:
    """The images, loaded once for the check before the run and the run itself.

    Raises:
        ConfigError: they cannot be loaded, or are not what the data set says of itself.
    """
    if type(data).__hash__ is None:
        raise ConfigError(f"data={data.name}: its class must be a frozen dataclass")
    return _loaded(data)


@lru_cache(maxsize=2)
def _loaded(data: ImageData) -> Images:
    what = f"data={data.name}: load"
    try:
        images = attempt(what, data.load)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(images, Images) or images.train.shape[1:] != data.shape:
        got = list(images.train.shape) if isinstance(images, Images) else type(images).__name__
        raise ConfigError(f"{what} must return Images of samples {list(data.shape)}, got {got}")
    return images


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

    def next(self) -> Batch:
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
        return Batch(normalised(send(self.images[chosen], self.device)), labels)

    def restart(self, *names: str | int) -> None:
        """Take what is left of the present pass in another order, another one for other names."""
        random = torch.Generator().manual_seed(seed_for(0, "pass", *names))  # the order itself is the seed's
        left = self.order[self.position :]
        mixed = left[torch.randperm(len(left), generator=random)]
        self.order = torch.cat([self.order[: self.position], mixed])

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
        if not torch.equal(order.cpu().sort().values, torch.arange(len(order))) or position > len(order):
            raise ValueError(f"not an order of {len(self.images)} images, or no place in it")
        self.order, self.position = order.cpu(), position


def fits(images: Tensor, device: torch.device) -> bool:
    """Whether images may live on the device: on a GPU if they take at most `GPU_SHARE` of what is free."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return images.nbytes <= GPU_SHARE * free
