"""Regularizers of the discriminator: frozen dataclasses, one file each; they share `Regularizer`."""

from typing import Protocol

from torch import Tensor, nn

from core.gradients import Metrics
from core.state import StateDict
from gradgan.batch import ScoredBatch
from gradgan.networks import Shape


class Regularizer(Protocol):
    """What the trainer asks of a regularizer; several may be used at once."""

    def check(self, shape: Shape) -> None:
        """Raise ValueError, saying which samples it takes, if those of this shape are not among them."""
        ...

    def loss(self, batch: ScoredBatch, update: int, state: StateDict) -> tuple[Tensor | None, Metrics]:
        """A term of the discriminator's loss; changes nothing, since it may be computed twice in one update.

        Args:
            batch: real and fake samples with their logits.
            update: number of its update, from 0.
            state: what `after` has kept, empty at first.

        Returns:
            The scalar to add, None where there is nothing to add now; and metrics below `regularizer/`.
        """
        ...

    def after(self, discriminator: nn.Module, metrics: Metrics, state: StateDict) -> None:
        """Once after each update of the discriminator.

        Args:
            discriminator: as it now is; may be changed.
            metrics: of the update, with logits/real and logits/fake.
            state: of this regularizer, kept and saved by the trainer; may be changed.
        """
        ...
