"""Penalties on the discriminator's input gradients: frozen dataclasses; they share `Penalty`."""

from typing import ClassVar, Protocol

from torch import Tensor

from core.gradients import Metrics
from gradgan.batch import ScoredBatch


class Penalty(Protocol):
    """What the trainer asks of a penalty on the discriminator.

    Attributes:
        on_real: whether it differentiates with respect to the batch's real samples.
        on_fake: whether it differentiates with respect to the batch's fake samples.
    """

    on_real: ClassVar[bool]
    on_fake: ClassVar[bool]

    def due(self, update: int) -> bool:
        """Whether the discriminator's update number `update`, from 0, computes the penalty."""
        ...

    def __call__(self, batch: ScoredBatch) -> tuple[Tensor, Metrics]:
        """Scalar to add to the discriminator's loss, and metrics below `penalty/`."""
        ...
