"""Measure, transform and apply gradients: `GradientStep` and what it is made of."""

from core.gradients.adaptive import AGC, AdaGC, AutoClip, ZClip
from core.gradients.chain import Chain, Clipper, as_transforms
from core.gradients.clipping import GlobalNorm, PerLayerNorm, Value
from core.gradients.direction import Centralize, GradientNoise, PCGrad
from core.gradients.ghost import per_sample_norms
from core.gradients.guard import SkipNonFinite
from core.gradients.monitor import Monitor, MonitorConfig
from core.gradients.noise import (
    NoiseEstimate,
    NoiseScale,
    cabs_batch_size,
    noise_of_samples,
    noise_of_two_batch_sizes,
    noise_of_two_gradients,
    recommended_batch_size,
)
from core.gradients.noise_probe import NoiseProbe
from core.gradients.norms import global_norm, layer_norms
from core.gradients.objective import Objective
from core.gradients.per_sample import per_sample_gradients
from core.gradients.sample_statistics import NoiseStatistics, noise_statistics
from core.gradients.step import Closure, GradientStep, Metrics
from core.gradients.transform import Combine, Transform
from core.gradients.view import GradientView

__all__ = [
    "AGC",
    "AdaGC",
    "AutoClip",
    "Centralize",
    "Chain",
    "Clipper",
    "Closure",
    "Combine",
    "GlobalNorm",
    "GradientNoise",
    "GradientStep",
    "GradientView",
    "Metrics",
    "Monitor",
    "MonitorConfig",
    "NoiseEstimate",
    "NoiseProbe",
    "NoiseScale",
    "NoiseStatistics",
    "Objective",
    "PCGrad",
    "PerLayerNorm",
    "SkipNonFinite",
    "Transform",
    "Value",
    "ZClip",
    "as_transforms",
    "cabs_batch_size",
    "global_norm",
    "layer_norms",
    "noise_of_samples",
    "noise_of_two_batch_sizes",
    "noise_of_two_gradients",
    "noise_statistics",
    "per_sample_gradients",
    "per_sample_norms",
    "recommended_batch_size",
]
