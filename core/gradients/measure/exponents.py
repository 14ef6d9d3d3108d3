"""Histogram of the binary exponents of gradients: where magnitudes lie, and what a number format loses.

Counts of exponents need no range chosen beforehand, can be added over steps and ranks, are defined for NaN,
and cost a tenth of a histogram over sorted edges.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from core.state import StateDict

LOWEST = -48  # exponent of the first bin: below 2^-47, zeros not among them
BINS = 72  # the last counted exponent is 2^23; larger ones, infinities and NaN are in the last bin
ZERO = BINS  # column of exact zeros


class Exponents:
    """Counts of e in |g| = m 2^e, 1 <= m < 2, per layer, since they were last taken.

    Args:
        layers: number of layers.
        device: where the counts are kept.

    Attributes:
        counts: [layers, BINS + 1] int64; column b counts exponent LOWEST + b, the last one exact zeros.
    """

    def __init__(self, layers: int, device: torch.device) -> None:
        self.counts = torch.zeros(layers, BINS + 1, dtype=torch.int64, device=device)

    @torch.no_grad()
    def add(
        self, gradients: Sequence[Tensor], index: Sequence[int] | None, taken: Tensor | bool = True
    ) -> None:
        """Count every component.

        Args:
            gradients: dense tensors.
            index: the layer of each; None = in order.
            taken: 0-d bool; false counts nothing, without reading it back (a step that is skipped).
        """
        for layer, gradient in zip(index or range(len(gradients)), gradients, strict=True):
            self.counts[layer] += count_exponents(gradient) * taken

    def take(self) -> Tensor | None:
        """The counts since the last call, on the CPU; None if there are none. Sets them to zero."""
        counts = self.counts.to("cpu", copy=True)
        self.counts.zero_()
        return counts if counts.any() else None

    def state_dict(self) -> StateDict:
        """The counts."""
        return {"counts": self.counts.clone()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.counts.copy_(state["counts"])


def count_exponents(x: Tensor) -> Tensor:
    """Counts of the binary exponents of a tensor, [BINS + 1] int64, without reading anything back."""
    x = x.flatten()
    if x.dtype == torch.float64:  # float32 would send its smallest numbers to 0
        exponents, zeros = torch.frexp(x).exponent - 1, x == 0
        exponents = torch.where(x.isfinite(), exponents, LOWEST + BINS)
    else:
        bits = x.float().view(torch.int32)
        exponents, zeros = ((bits >> 23) & 0xFF) - 127, x == 0  # subnormals fall into the first bin
    bins = (exponents - LOWEST).clamp_(0, BINS - 1)
    bins = torch.where(zeros, ZERO, bins)
    return torch.zeros(BINS + 1, dtype=torch.int64, device=x.device).scatter_add_(
        0, bins.long(), torch.ones((), dtype=torch.int64, device=x.device).expand(len(bins))
    )


def histogram(counts: Tensor) -> tuple[list[float], list[int]]:
    """All layers' exponents as right edges and counts, zeros left out, for an event file."""
    total = counts[:, :BINS].sum(0).tolist()
    return [float(LOWEST + i + 1) for i in range(BINS)], total
