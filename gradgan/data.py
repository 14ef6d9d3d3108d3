"""Real data: mixtures of Gaussians in the plane, and images kept in memory as uint8.

A data set is a frozen dataclass with a name and a shape; loading it touches the disk and may fail with one
line that names the option. Batches come from a stream that can stop and go on at any sample.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from core.checks import require
from core.run.config import ConfigError
from gradgan.networks import Shape

SPLIT_SEED = 0  # of the held-out split, which is part of the data set and not of a run


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images in memory; pixels are uint8, 0 to 255.

    Attributes:
        train: [N, C, H, W], what the discriminator sees.
        held_out: [M, C, H, W], what metrics compare with; M = 0 where nothing is measured.
        labels: class of each image of `train` and then of `held_out`, int64 [N + M], or None.
    """

    train: Tensor
    held_out: Tensor
    labels: Tensor | None


class ImageData(Protocol):
    """What train.py asks of an image data set: a name, the shape of an image, a way to load all of them."""

    @property
    def name(self) -> str:
        """As the user writes it, `data=<name>`."""
        ...

    @property
    def shape(self) -> Shape:
        """(channels, height, width)."""
        ...

    def load(self) -> Images:
        """Read everything into memory; raises ConfigError with one line when that cannot be done."""
        ...


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Equally likely Gaussians in the plane; a subclass says where they are.

    The networks see points in units of `scale`, the root mean square coordinate, so that one learning rate
    fits a ring of radius 1 and a grid of side 8.

    Attributes:
        std: standard deviation of each Gaussian along each axis, > 0.
    """

    shape: ClassVar[Shape] = (2,)
    name: ClassVar[str]

    std: float

    def __post_init__(self) -> None:
        require(0 < self.std < float("inf"), "std", self.std, "a finite number > 0")

    @property
    def centres(self) -> Tensor:
        """Means of the Gaussians, float32 [K, 2]."""
        raise TypeError(f"{type(self).__name__} has no centres: use Ring or Grid")

    @property
    def scale(self) -> float:
        """Root mean square coordinate of a sample."""
        return math.sqrt(self.centres.double().square().mean().item() + self.std**2)


@dataclass(frozen=True, kw_only=True)
class Ring(Mixture):
    """Gaussians evenly on a circle.

    Attributes:
        num_modes: how many, >= 1.
        radius: of the circle, > 0.
    """

    name: ClassVar[str] = "ring"

    num_modes: int
    radius: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_modes >= 1, "num_modes", self.num_modes, "an integer >= 1")
        require(0 < self.radius < float("inf"), "radius", self.radius, "a finite number > 0")

    @property
    def centres(self) -> Tensor:
        """[num_modes, 2], the first at angle 0."""
        angle = torch.arange(self.num_modes, dtype=torch.float64) * (2 * math.pi / self.num_modes)
        return (self.radius * torch.stack([angle.cos(), angle.sin()], dim=1)).float()


@dataclass(frozen=True, kw_only=True)
class Grid(Mixture):
    """Gaussians on a square lattice around the origin.

    Attributes:
        side: Gaussians along each side, >= 1.
        spacing: between neighbours, > 0.
    """

    name: ClassVar[str] = "grid"

    side: int
    spacing: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.side >= 1, "side", self.side, "an integer >= 1")
        require(0 < self.spacing < float("inf"), "spacing", self.spacing, "a finite number > 0")

    @property
    def centres(self) -> Tensor:
        """[side^2, 2]."""
        line = (torch.arange(self.side) - (self.side - 1) / 2) * self.spacing
        return torch.cartesian_prod(line, line).reshape(-1, 2)


class MixtureStream:
    """Endless fresh samples of a mixture; all of its state is in the generator."""

    def __init__(
        self, mixture: Mixture, batch_size: int, random: torch.Generator, device: torch.device
    ) -> None:
        self.mixture = mixture
        self.batch_size = batch_size
        self.random = random
        self.device = device
        self._centres, self._scale = mixture.centres, mixture.scale

    def next(self) -> Tensor:
        """Points in units of the mixture's scale, float32 [B, 2]."""
        mode = torch.randint(len(self._centres), (self.batch_size,), generator=self.random)
        noise = torch.randn(self.batch_size, 2, generator=self.random)
        return ((self._centres[mode] + self.mixture.std * noise) / self._scale).to(self.device)

    def state_dict(self) -> dict[str, object]:
        """Nothing: the generator is saved by its owner."""
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Nothing to restore."""


class ImageStream:
    """Endless shuffled passes over images in memory; a batch may take the end of one pass and begin the next.

    Raises:
        ConfigError: `batch_size` is larger than the data set.
    """

    def __init__(
        self, images: Tensor, batch_size: int, random: torch.Generator, device: torch.device
    ) -> None:
        if batch_size > len(images):
            raise ConfigError(
                f"batch_size must be at most the {len(images)} images of the data set, got {batch_size}"
            )
        self.images = images.to(device)
        self.batch_size = batch_size
        self.random = random
        self.order = torch.empty(0, dtype=torch.int64)
        self.position = 0

    def next(self) -> Tensor:
        """Images in [-1, 1], float32 [B, C, H, W]."""
        chosen = self.order[self.position : self.position + self.batch_size]
        self.position += len(chosen)
        missing = self.batch_size - len(chosen)
        if missing:
            self.order = torch.randperm(len(self.images), generator=self.random)
            self.position = missing
            chosen = torch.cat([chosen, self.order[:missing]])
        return self.images[chosen.to(self.images.device)].float() / 127.5 - 1.0

    def state_dict(self) -> dict[str, object]:
        """The present pass and the position in it; the generator is saved by its owner."""
        return {"order": self.order, "position": self.position}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue from `state_dict`."""
        order, position = state["order"], state["position"]
        sizes = (0, len(self.images))  # 0 before the first batch
        if not isinstance(order, Tensor) or not isinstance(position, int) or len(order) not in sizes:
            raise ValueError(f"not the state of a stream over {len(self.images)} images")
        self.order, self.position = order.cpu(), position


@dataclass(frozen=True, kw_only=True)
class Digits:
    """The 1,797 handwritten digits of scikit-learn, 8x8 pixels of 17 grey levels; nothing to download.

    Attributes:
        held_out: images kept from training, for the metrics; 1 to 1,796.

    Source: UCI "Optical recognition of handwritten digits" (test part), as in sklearn.datasets.load_digits.
    """

    name: ClassVar[str] = "digits"
    shape: ClassVar[Shape] = (1, 8, 8)

    held_out: int

    def __post_init__(self) -> None:
        require(1 <= self.held_out < 1797, "held_out", self.held_out, "an integer from 1 to 1796")

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


@dataclass(frozen=True, kw_only=True)
class Torchvision:
    """A labelled data set of torchvision; its test part is held out for the metrics.

    Attributes:
        dataset: class in torchvision.datasets.
        root: folder that holds (or will hold) torchvision's own files.
        download: whether to fetch missing files into `root`.
    """

    dataset: Literal["MNIST", "FashionMNIST", "CIFAR10"]
    root: str
    download: bool

    def __post_init__(self) -> None:
        require(self.dataset in _TORCHVISION, "dataset", self.dataset, f"one of {', '.join(_TORCHVISION)}")

    @property
    def name(self) -> str:
        """As the user writes it, `data=<name>`."""
        return _TORCHVISION[self.dataset][0]

    @property
    def shape(self) -> Shape:
        """(channels, height, width)."""
        return _TORCHVISION[self.dataset][1]

    def load(self) -> Images:
        """Both parts, in memory.

        Raises:
            ConfigError: the files are not there (or broken) and may not be, or could not be, downloaded.
        """
        (train, train_labels), (test, test_labels) = self._part(train=True), self._part(train=False)
        return Images(train=train, held_out=test, labels=torch.cat([train_labels, test_labels]))

    def _part(self, *, train: bool) -> tuple[Tensor, Tensor]:
        from torchvision import datasets  # late: importing it takes seconds

        try:
            part = getattr(datasets, self.dataset)(self.root, train=train, download=self.download)
        except (RuntimeError, OSError, ValueError) as error:
            if self.download:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise ConfigError(f"data.download=true: could not fetch {self.dataset}: {reason}") from error
            raise ConfigError(
                f"data.root={self.root} holds no {self.dataset} as torchvision stores it; "
                "set data.root= to the folder that does, or data.download=true"
            ) from error
        pixels = torch.as_tensor(part.data)
        pixels = pixels.unsqueeze(1) if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2).contiguous()
        return pixels, torch.as_tensor(part.targets, dtype=torch.int64)


_TORCHVISION: dict[str, tuple[str, Shape]] = {
    "MNIST": ("mnist", (1, 28, 28)),
    "FashionMNIST": ("fashion_mnist", (1, 28, 28)),
    "CIFAR10": ("cifar10", (3, 32, 32)),
}
