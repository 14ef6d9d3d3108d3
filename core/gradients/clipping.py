"""Transforms of the gradient between backward and the optimizer: frozen dataclasses, applied in order."""

from dataclasses import dataclass

import torch

from core.checks import require
from core.gradients.view import GradientView
from core.state import StateDict


@dataclass(frozen=True, kw_only=True)
class GlobalNorm:
    """Scale all gradients together so that their joint norm is at most `max_norm`; the direction stays.

        g <- g min(1, max_norm / (|g| + 1e-6))

    Attributes:
        max_norm: largest joint Euclidean norm, in units of loss per unit of parameter; > 0, finite.

    Source: Pascanu et al. 2013, arXiv:1211.5063, algorithm 1; 1e-6 as in torch.nn.utils.clip_grad_norm_.
    """

    max_norm: float

    def __post_init__(self) -> None:
        require(0 < self.max_norm < float("inf"), "max_norm", self.max_norm, "a finite number > 0")

    def __call__(self, gradients: GradientView, memory: StateDict) -> None:
        """Scale all gradients by one factor."""
        gradients.shrink_(self.max_norm / (gradients.norm + 1e-6))


@dataclass(frozen=True, kw_only=True)
class Value:
    """Clamp every component to [-max_value, max_value]; this turns the direction.

    Attributes:
        max_value: largest absolute component, in units of loss per unit of parameter; > 0, finite.

    Source: Mikolov 2012, "Statistical language models based on neural networks" (thesis), section 3.2.2.
    """

    max_value: float

    def __post_init__(self) -> None:
        require(0 < self.max_value < float("inf"), "max_value", self.max_value, "a finite number > 0")

    def __call__(self, gradients: GradientView, memory: StateDict) -> None:
        """Clamp all components."""
        values = gradients.dense()
        torch._foreach_clamp_min_(values, -self.max_value)
        torch._foreach_clamp_max_(values, self.max_value)
        gradients.changed()
