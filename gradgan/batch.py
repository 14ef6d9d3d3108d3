"""What passes between the streams, the players, the penalties and the regularizers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Real or generated samples with their labels.

    Attributes:
        x: [B, ...]; images are float32 in [-1, 1].
        labels: class of each sample, int64 [B], or None.
    """

    x: Tensor
    labels: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Round:
    """What the discriminator looks at in one update: where penalties and regularizers find everything.

    Attributes:
        discriminate: samples [B, ...] to logits [B], with the batch's labels, augmentation and noise.
        real: real samples [B, ...]; they require a gradient where the penalty differentiates by them.
        real_logits: D(real), [B], with its graph.
        fake: generated samples [B, ...], likewise; sample i has the label of real sample i.
        fake_logits: D(fake), [B], with its graph.
        progress: share of the training done, in [0, 1].
        random: on the CPU, with the same seed at every evaluation of one update: who looks twice sees the
            same draws.
    """

    discriminate: Callable[[Tensor], Tensor]
    real: Tensor
    real_logits: Tensor
    fake: Tensor
    fake_logits: Tensor
    progress: float
    random: torch.Generator
