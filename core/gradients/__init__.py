"""Measure, transform and apply gradients: `GradientStep` and what it is made of."""

from core.gradients.clipping import GlobalNorm, Value
from core.gradients.monitor import Monitor, MonitorConfig
from core.gradients.norms import global_norm, layer_norms
from core.gradients.objective import Objective
from core.gradients.step import Closure, GradientStep, Metrics
from core.gradients.transform import Combine, Transform
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
    "Objective",
    "Transform",
    "Value",
    "global_norm",
    "layer_norms",
]
