"""What passes between the data, the players, the penalties and the regularizers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Samples with their labels.

    Attributes:
        x: [B, ...]; images are float32 in [-1, 1].
        labels: class of each sample, int64 [B], or None.
    """

    x: Tensor
    labels: Tensor | None


@dataclass(frozen=True, kw_only=True)
class ScoredBatch:
    """Real and fake samples with the discriminator's logits: what penalties and regularizers are computed on.

    Attributes:
        discriminate: samples [B, ...] to logits [B], with the batch's labels, augmentation and noise.
        real: real samples [B, ...]; they require a gradient where the penalty differentiates by them.
        real_logits: D(real), [B], with its graph.
        fake: generated samples [B, ...], likewise; sample i has the label of real sample i.
        fake_logits: D(fake), [B], with its graph.
        progress: share of the training done, in [0, 1].
        random: on the CPU. It has the same seed at every evaluation of one update, so a second evaluation
            draws the same numbers.
    """

    discriminate: Callable[[Tensor], Tensor]
    real: Tensor
    real_logits: Tensor
    fake: Tensor
    fake_logits: Tensor
    progress: float
    random: torch.Generator
