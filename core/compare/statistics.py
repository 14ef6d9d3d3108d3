"""Statistics over a few seeds: mean, interquartile mean, and how far either may be off.

Intervals are percentile bootstrap intervals over seeds, stratified by task: the seeds of a task are drawn
among themselves, and no number mixes two tasks. With few seeds such an interval is too narrow (`COVERAGE`);
with one seed there is none.

Source: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice",
arXiv:2108.13264.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
# How often, in percent, the interval of so many normally distributed scores holds their true mean. Of two or
# three scores it goes from the lowest to the highest, which gives 1 - 2^(1 - S); the others were simulated.
COVERAGE = {2: 50, 3: 75, 4: 80, 5: 84, 6: 86, 7: 88, 8: 89, 9: 90, 10: 90}
UNCUT = 4  # seeds below which a quarter of them is no whole seed
ENOUGH = 5  # seeds from which a picture shows the interval, and not the seeds alone

Statistic = Callable[..., np.ndarray]  # of an array, over `axis`


@dataclass(frozen=True)
class Estimate:
    """A statistic over seeds.

    Attributes:
        value: the statistic of the seeds themselves.
        interval: its 95 % bootstrap interval; None with fewer than two seeds.
    """

    value: float
    interval: tuple[float, float] | None


def mean(scores: np.ndarray, axis: int = 0) -> np.ndarray:
    """Arithmetic mean over an axis."""
    return np.mean(scores, axis=axis)


def interquartile_mean(scores: np.ndarray, axis: int = 0) -> np.ndarray:
    """Mean of the middle half: the lowest and the highest quarter, rounded down to whole seeds, left out."""
    from scipy.stats import trim_mean

    return trim_mean(scores, 0.25, axis=axis)


def probability_of_improvement(*scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """How likely a run of one method is to score above one of another on the same task; ties count half.

    It is the statistic of Mann and Whitney as a share of all pairs, averaged over tasks (Agarwal et al. 2021,
    section 4.3).

    Args:
        scores: of the first task those of the one method, [..., S], and those of the other, [..., R]; then
            those of the next task, and so on.
        axis: of the seeds.
    """
    tasks = []
    for ours, theirs in zip(scores[::2], scores[1::2], strict=True):
        one, other = np.moveaxis(ours, axis, -1)[..., :, None], np.moveaxis(theirs, axis, -1)[..., None, :]
        tasks.append(((one > other) + 0.5 * (one == other)).mean((-2, -1)))
    return np.mean(tasks, axis=0)


def improvement(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]], resamples: int, seed: int
) -> Estimate:
    """`probability_of_improvement` with its interval.

    Args:
        pairs: for each task the scores of the one method, and those of the other; at least one of each.
        resamples: bootstrap samples; the seeds of each method and task are drawn among themselves.
        seed: of the bootstrap samples.
    """
    samples = tuple(np.asarray(scores, dtype=np.float64) for pair in pairs for scores in pair)
    value = float(probability_of_improvement(*samples))
    if any(len(each) < 2 for each in samples):
        return Estimate(value, None)
    low, high = _ends(samples, probability_of_improvement, resamples, seed, axis=-1)
    return Estimate(value, (float(low), float(high)))


def estimate(scores: Sequence[float], statistic: Statistic, resamples: int, seed: int) -> Estimate:
    """A statistic of at least one score, with its interval.

    Args:
        scores: one per seed.
        statistic: `mean` or `interquartile_mean`.
        resamples: bootstrap samples.
        seed: of the bootstrap samples.
    """
    values = np.asarray(scores, dtype=np.float64)
    value = float(statistic(values))
    if len(values) < 2:
        return Estimate(value, None)
    low, high = interval(values, statistic, resamples, seed)
    return Estimate(value, (float(low), float(high)))


def interval(
    values: np.ndarray, statistic: Statistic, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % percentile bootstrap interval over the first axis.

    Args:
        values: [S, ...], of S >= 2 seeds; each column has an interval of its own, from the same draws.
        statistic: over an axis.
        resamples: bootstrap samples.
        seed: of the bootstrap samples.

    Returns:
        Lower and upper ends, [...] each.
    """
    return _ends((values,), statistic, resamples, seed, axis=0)


def _ends(
    samples: tuple[np.ndarray, ...], statistic: Statistic, resamples: int, seed: int, axis: int
) -> tuple[np.ndarray, np.ndarray]:
    """As `interval`, of a statistic of several samples, each drawn among itself."""
    from scipy.stats import bootstrap

    found = bootstrap(
        samples,
        statistic,
        axis=axis,
        n_resamples=resamples,
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        batch=500,
        rng=np.random.default_rng(seed),
    )
    return found.confidence_interval.low, found.confidence_interval.high
