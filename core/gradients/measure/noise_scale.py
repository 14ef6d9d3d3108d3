"""How noisy a gradient is: its squared length and its variance, and the batch size that they recommend.

The gradient of B samples is g = G + noise, where G is the gradient over all data and the noise has covariance
Sigma / B; Sigma is that of one sample's gradient. Two numbers say most of it: |G|^2, the signal, and
tr(Sigma), the variance. Both can be estimated without bias although G is never seen.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from core.checks import require
from core.gradients.norms import accumulation_dtype
from core.state import StateDict


class NoiseEstimate(NamedTuple):
    """Two unbiased estimates, 0-d tensors on the device; each alone can come out negative.

    Attributes:
        signal: |G|^2, squared length of the gradient over all data, (loss per parameter)^2.
        variance: tr(Sigma), summed variance of one sample's gradient, in the same unit.
    """

    signal: Tensor
    variance: Tensor

    @property
    def scale(self) -> Tensor:
        """B_simple = tr(Sigma) / |G|^2 in samples; NaN = undetermined: an estimate has the wrong sign.

        At that batch size signal and noise are equally long: well below it a larger batch buys nearly
        proportionally larger steps, well above it almost nothing.

        Source: McCandlish et al. 2018, arXiv:1812.06162, eq. 2.9.
        """
        known = (self.signal > 0) & (self.variance >= 0)
        return torch.where(known, self.variance / self.signal, torch.nan)

    @property
    def signal_to_noise(self) -> Tensor:
        """|G|^2 / tr(Sigma) of one sample, 1 / B_simple; B samples have B times it. NaN = undetermined."""
        return self.scale.reciprocal()


def noise_of_two_batch_sizes(
    small_norms: Tensor, small_size: int, big_norm: Tensor, big_size: int
) -> NoiseEstimate:
    """The noise from gradients of a small and a big batch at the same parameters.

        |G|^2     = (B_big |g_big|^2 - B_small |g_small|^2) / (B_big - B_small)
        tr(Sigma) = (|g_small|^2 - |g_big|^2) / (1 / B_small - 1 / B_big)

    Args:
        small_norms: norms of the small batches' mean gradients, [K] or 0-d; all K micro-batches of an
            accumulated step, or all ranks, tell more than one: their squares are averaged.
        small_size: B_small, samples in each; >= 1.
        big_norm: norm of the big batch's mean gradient, 0-d. The big batch may consist of the small ones.
        big_size: B_big, samples in it; > small_size.

    Raises:
        ValueError: the sizes are not in order.

    Source: McCandlish et al. 2018, arXiv:1812.06162, appendix A.1.
    """
    require(1 <= small_size < big_size, "small_size", small_size, f"at least 1 and below big_size={big_size}")
    small = _exact(small_norms).square().mean()
    big = _exact(big_norm).square()
    signal = (big_size * big - small_size * small) / (big_size - small_size)
    return NoiseEstimate(signal, (small - big) / (1 / small_size - 1 / big_size))


def noise_of_two_gradients(
    first_norm: Tensor, second_norm: Tensor, dot: Tensor, size: int, second_size: int | None = None
) -> NoiseEstimate:
    """The noise from two independent gradients.

        |G|^2 = g_1 . g_2,   tr(Sigma) = |g_1 - g_2|^2 / (1 / B_1 + 1 / B_2)
                                       = B ((|g_1|^2 + |g_2|^2) / 2 - g_1 . g_2),   B = `pair_size(B_1, B_2)`

    With the gradients of consecutive minibatches it costs one dot product. The change of the gradient by the
    step between them then counts as noise, so the variance is slightly too large.

    Args:
        first_norm: |g_1|, 0-d.
        second_norm: |g_2|, 0-d.
        dot: g_1 . g_2, 0-d.
        size: B_1, samples behind the first gradient; >= 1.
        second_size: B_2, samples behind the second gradient; >= 1; None = the same number.

    Raises:
        ValueError: a size is below 1.
    """
    second_size = size if second_size is None else second_size
    for name, number in (("size", size), ("second_size", second_size)):
        require(number >= 1, name, number, "an integer >= 1")
    signal = _exact(dot)
    mean_square = (_exact(first_norm).square() + _exact(second_norm).square()) / 2
    return NoiseEstimate(signal, pair_size(size, second_size) * (mean_square - signal))


def pair_size(first: int, second: int) -> float:
    """The batch size that two gradients stand for together, the harmonic mean of theirs."""
    return 2 * first * second / (first + second)


def recommended_batch_size(noise: NoiseEstimate, theta: float = 1.0) -> Tensor:
    """Smallest batch whose gradient is expected to be off by at most `theta` times its length.

        B = tr(Sigma) / (theta^2 |G|^2)

    theta = 1 is the simple noise scale, the point of the best trade-off between samples and steps; smaller
    ones ask for the batch that passes the norm test.

    Args:
        noise: estimates.
        theta: allowed relative error of the gradient; > 0.

    Returns:
        Samples, 0-d, not rounded; NaN = undetermined.

    Raises:
        ValueError: theta is not positive.

    Source: Byrd et al. 2012, "Sample size selection in optimization methods for machine learning", Math.
        Program. 134 (norm test); McCandlish et al. 2018, arXiv:1812.06162, section 2.2 (theta = 1).
    """
    require(theta > 0, "theta", theta, "> 0")
    return noise.scale / theta**2


class NoiseScale:
    """The simple noise scale over many steps.

    One step's two estimates are themselves so noisy that their ratio means little, and a mean of ratios is
    biased. So numerator and denominator are averaged apart, with the same weights, and divided when read.

    Args:
        decay: weight of the past in the exponential averages; in [0, 1).
        device: where the estimates live.
    """

    def __init__(self, decay: float = 0.99, device: torch.device | str = "cpu") -> None:
        require(0 <= decay < 1, "decay", decay, "in [0, 1)")
        self.decay = decay
        device = torch.device(device)
        # Signal, variance, and the weight that they have so far: dividing by it takes the zeros of the
        # beginning out again.
        self.averages = torch.zeros(3, dtype=accumulation_dtype(device), device=device)

    def update(self, noise: NoiseEstimate) -> None:
        """Add one estimate, or several in order; ignores those that are not finite. Does not synchronise.

        Args:
            noise: 0-d tensors, or [N] for N estimates, the oldest first.
        """
        new = torch.stack([noise.signal, noise.variance]).to(self.averages).reshape(2, -1)
        usable = new.isfinite().all(0).to(new)
        later = usable.flip(0).cumsum(0).flip(0) - usable  # estimates that come after each
        weights = usable * (1 - self.decay) * self.decay**later
        new = torch.cat([torch.where(usable > 0, new, 0.0), torch.ones_like(new[:1])])
        self.averages = self.averages * self.decay ** usable.sum() + (new * weights).sum(1)

    @property
    def noise(self) -> NoiseEstimate:
        """The averaged estimates, 0-d on the device; NaN before the first."""
        signal, variance, weight = self.averages
        return NoiseEstimate(signal / weight, variance / weight)

    def value(self) -> float | None:
        """B_simple in samples, read from the device; None = undetermined."""
        scale = self.noise.scale.item()
        return scale if scale == scale else None

    def state_dict(self) -> StateDict:
        """The averages."""
        return {"averages": self.averages.clone()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.averages = state["averages"].to(self.averages, copy=True)


def _exact(values: Tensor) -> Tensor:
    """In float64: the estimates are small differences of large squares."""
    return values.to(accumulation_dtype(values.device))
