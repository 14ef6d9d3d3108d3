"""Measure, transform and apply gradients: `GradientStep` and what it is made of."""

from core.gradients.clipping import GlobalNorm, Transform, Value
from core.gradients.monitor import Monitor, MonitorConfig
from core.gradients.norms import global_norm, layer_norms
from core.gradients.step import Closure, Combine, GradientStep, Metrics
from core.gradients.view import GradientView

__all__ = [
    "Closure",
    "Combine",
    "GlobalNorm",
    "GradientStep",
    "GradientView",
    "Metrics",
    "Monitor",
    "MonitorConfig",
    "Transform",
    "Value",
    "global_norm",
    "layer_norms",
]
