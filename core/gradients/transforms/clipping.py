"""Clipping with fixed thresholds: what stands between backward and the optimizer, applied in order.

Thresholds that follow the training are in `core.gradients.transforms.adaptive`.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from core.checks import Finite, checked
from core.gradients.norms import GradientView
from core.state import StateDict


@dataclass(frozen=True, kw_only=True)
@checked
class GlobalNorm:
    """Scale all gradients together so that their joint norm is at most `max_norm`; the direction stays.

        g <- g min(1, max_norm / (|g| + 1e-6))

    Attributes:
        max_norm: largest joint Euclidean norm, in units of loss per unit of parameter.

    Source: Pascanu et al. 2013, arXiv:1211.5063, algorithm 1; 1e-6 as in torch.nn.utils.clip_grad_norm_.
    """

    max_norm: Annotated[float, Gt(0), Finite]

    def __call__(self, gradients: GradientView, state: StateDict) -> None:
        """Scale all gradients by one factor."""
        gradients.shrink_(self.max_norm / (gradients.norm + 1e-6))


@dataclass(frozen=True, kw_only=True)
@checked
class PerLayerNorm:
    """Scale every parameter's gradient on its own so that its norm is at most `max_norm`.

        g_l <- g_l min(1, max_norm / (|g_l| + 1e-6))

    Layers within the norm keep their full gradient while another one is clipped, so the joint direction
    turns towards the quiet layers.

    Attributes:
        max_norm: largest Euclidean norm of one parameter's gradient.

    Source: "per-layer clipping" of McMahan et al. 2018, arXiv:1710.06963; 1e-6 as in `GlobalNorm`.
    """

    max_norm: Annotated[float, Gt(0), Finite]

    def __call__(self, gradients: GradientView, state: StateDict) -> None:
        """Scale every gradient by its own factor."""
        gradients.shrink_each_(self.max_norm / (gradients.norms + 1e-6))


@dataclass(frozen=True, kw_only=True)
@checked
class Value:
    """Clamp every component to [-max_value, max_value]; this turns the direction.

    Attributes:
        max_value: largest absolute component, in units of loss per unit of parameter.

    Source: Mikolov 2012, "Statistical language models based on neural networks" (thesis), section 3.2.2.
    """

    max_value: Annotated[float, Gt(0), Finite]

    def __call__(self, gradients: GradientView, state: StateDict) -> None:
        """Clamp all components."""
        values = gradients.dense()
        torch._foreach_clamp_min_(values, -self.max_value)
        torch._foreach_clamp_max_(values, self.max_value)
        gradients.changed()


def clip_to(gradients: GradientView, threshold: Tensor | float) -> None:
    """Scale all gradients together to the joint norm `threshold`, a number or 0-d, if they are above it.

    A norm at the threshold, or one that is zero or NaN, leaves every bit as it is.
    """
    norm = gradients.norm
    gradients.shrink_(torch.where(norm > threshold, threshold / norm, 1.0))


def row_values(name: str, gradient: Tensor) -> Tensor:
    """A gradient's rows, to write into: of a sparse one (an embedding's) those that it has, [rows, ...].

    Raises:
        ValueError: the gradient is sparse within its rows.
    """
    if not gradient.is_sparse:
        return gradient
    if gradient.sparse_dim() != 1:
        raise ValueError(
            f"the gradient of {name} is sparse in {gradient.sparse_dim()} dimensions; a transform that works "
            "on whole rows takes dense gradients and those of embeddings (sparse in the first dimension)"
        )
    return gradient.values()
