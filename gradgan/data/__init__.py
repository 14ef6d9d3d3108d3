"""Real samples, as images or as points of a mixture; each data set is a dataclass that follows `Data`."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from gradgan.batch import Batch
from gradgan.evaluation.evaluator import Evaluator, FixedLatents
from gradgan.features import Features
from gradgan.networks import Shape


class Stream(Protocol):
    """Endless real samples that can stop and go on at any batch."""

    def next(self) -> Batch:
        """A batch."""
        ...

    def state_dict(self) -> dict[str, object]:
        """All of its state but the generator's, which is saved by its owner."""
        ...

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue from `state_dict`."""
        ...


@dataclass(frozen=True)
class FreshStream:
    """Endless samples that are made as they are asked for; all of its state is in the generator.

    Attributes:
        next: makes a batch; draws from a generator that is saved by its owner.
    """

    next: Callable[[], Batch]

    def state_dict(self) -> dict[str, object]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Nothing to restore."""


class Data(Protocol):
    """What a training asks of its data. Every method raises ConfigError where the data cannot be read."""

    @property
    @abstractmethod
    def name(self) -> str:
        """As the user writes it, `data=<name>`."""
        ...

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """Of one sample."""
        ...

    @property
    @abstractmethod
    def num_classes(self) -> int | None:
        """Number of classes, known without reading a sample; None = no labels."""
        ...

    def notes(self) -> tuple[str, ...]:
        """What the user should know about how the data were read, one line each."""
        ...

    def limits(self) -> dict[str, float]:
        """What the diagnosis should know: how many modes, or how many training samples, there are."""
        ...

    def stream(self, batch_size: int, random: torch.Generator, device: torch.device) -> Stream:
        """Endless training batches on the device, in the order that `random` decides."""
        ...

    def draw(self, count: int, random: torch.Generator, device: torch.device) -> Batch:
        """`count` random training samples, or all where there are fewer."""
        ...

    def references(
        self, count: int, random: torch.Generator, device: torch.device
    ) -> tuple[Batch, Batch | None]:
        """Training samples and held-out ones (None = there are none), at most `count` of each."""
        ...

    def evaluator(
        self, latents: FixedLatents, samples: int, features: Features, say: Callable[[str], None] = print
    ) -> Evaluator:
        """Measures and draws the generators of such samples.

        Args:
            latents: what they generate from.
            samples: generated samples that metrics are computed on.
            features: what images are compared under; points are compared as they are.
            say: told why measuring takes long.
        """
        ...
