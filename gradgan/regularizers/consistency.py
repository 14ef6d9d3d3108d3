"""Consistency: the discriminator should give an image that is slightly shifted or mirrored the same logit."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from core.checks import Finite, checked, require
from core.gradients import Metrics
from core.gradients.ranks import own, whole
from core.state import StateDict
from gradgan.batch import ScoredBatch
from gradgan.images import moved
from gradgan.networks import Shape


@dataclass(frozen=True, kw_only=True)
@checked
class Consistency:
    """weight * mean (D(x) - D(T(x)))^2, on real images, or on generated ones too (balanced).

    T mirrors an image with probability 1/2 and shifts it by up to `shift` pixels either way, repeating its
    border.

    Attributes:
        weight: strength; 10 in the papers.
        balanced: also on generated images, each kind with the full weight: without it a generator can learn
            to show the traces of T.
        shift: largest shift, pixels.
        mirror: whether images may be mirrored; digits and letters should not be.
        interval: computed at every `interval`-th update, and then `interval` times as strong.

    Source: Zhang et al. 2020, arXiv:1910.12027, eq. 3; balanced: Zhao et al. 2021, arXiv:2002.04724, section
    3.1.
    """

    weight: Annotated[float, Ge(0), Finite]
    balanced: bool
    shift: Annotated[int, Ge(0)]
    mirror: bool
    interval: Annotated[int, Ge(1)]

    def __post_init__(self) -> None:
        require(self.shift > 0 or self.mirror, "shift", self.shift, "at least 1 when mirror=false")

    def check(self, shape: Shape) -> None:
        """Refuse what is not an image, or one that a shift could move out of its frame."""
        if len(shape) != 3:
            raise ValueError("consistency shifts and mirrors images; these samples are points")
        if self.shift >= min(shape[1:]):
            raise ValueError(
                f"shift={self.shift} pixels would move images of {shape[1]}x{shape[2]} out of their frame"
            )

    def due(self, update: int) -> bool:
        """Whether the discriminator's update number `update`, from 0, computes the term."""
        return update % self.interval == 0

    def loss(self, batch: ScoredBatch, update: int, state: StateDict) -> tuple[Tensor | None, Metrics]:
        """The term of an update at which it is due; one or two more passes through the discriminator."""
        if not self.due(update):
            return None, {}
        kinds = [(batch.real, batch.real_logits)]
        if self.balanced:
            kinds.append((batch.fake, batch.fake_logits))
        terms = [
            (logits - batch.discriminate(self.transformed(images, batch.random))).square().mean()
            for images, logits in kinds
        ]
        total = torch.stack(terms).sum()
        return self.interval * self.weight * total, {"regularizer/consistency": total.detach()}

    def after(self, discriminator: nn.Module, metrics: Metrics, state: StateDict) -> None:
        """It has no state."""

    def transformed(self, images: Tensor, random: torch.Generator) -> Tensor:
        """T of each image by itself, [B, C, H, W] to the same."""
        count, _, height, width = images.shape
        every = torch.randint(-self.shift, self.shift + 1, (2, whole(count), 1), generator=random)
        down, right = own(every, dim=1)
        rows = (torch.arange(height) - down).clamp(0, height - 1)
        columns = (torch.arange(width) - right).clamp(0, width - 1)
        if self.mirror:
            mirrored = own(torch.rand(whole(count), 1, generator=random)) < 0.5
            columns = torch.where(mirrored, width - 1 - columns, columns)
        return moved(images, rows, columns)
