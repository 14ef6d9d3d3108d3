"""Measure, transform and apply gradients: `GradientStep` and what it is made of."""

from core.gradients.closures import Closure, Metrics
from core.gradients.measure.monitor import Monitor, MonitorConfig
from core.gradients.measure.noise_scale import (
    NoiseEstimate,
    NoiseScale,
    noise_of_two_batch_sizes,
    noise_of_two_gradients,
    recommended_batch_size,
)
from core.gradients.norms import GradientView, global_norm, layer_norms
from core.gradients.objective import Objective
from core.gradients.step import GradientStep
from core.gradients.transforms.adaptive import AGC, AdaGC, AutoClip, ZClip
from core.gradients.transforms.chain import Chain, Clipper, as_transforms
from core.gradients.transforms.clipping import GlobalNorm, PerLayerNorm, Value
from core.gradients.transforms.direction import Centralize, GradientNoise, PCGrad
from core.gradients.transforms.guard import SkipNonFinite
from core.gradients.transforms.protocol import Combine, Transform

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
    "NoiseScale",
    "Objective",
    "PCGrad",
    "PerLayerNorm",
    "SkipNonFinite",
    "Transform",
    "Value",
    "ZClip",
    "as_transforms",
    "global_norm",
    "layer_norms",
    "noise_of_two_batch_sizes",
    "noise_of_two_gradients",
    "recommended_batch_size",
]
