"""The noise of a gradient, from the gradients of single samples."""

from core.noise.ghost import per_sample_norms
from core.noise.per_sample import per_sample_gradients
from core.noise.probe import NoiseProbe
from core.noise.sample_statistics import NoiseStatistics, noise_statistics

__all__ = ["NoiseProbe", "NoiseStatistics", "noise_statistics", "per_sample_gradients", "per_sample_norms"]
