"""What kind of point a point is: a minimum, a saddle, a maximum, or still on a slope.

Everything here is exact and dense, for functions of few variables: the Hessian takes one backward pass a row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["minimum", "saddle", "maximum", "degenerate", "slope"]

SLOPE = 1e-4  # a gradient norm above this, relative to |lambda|max, is a slope
FLAT = 1e-6  # an eigenvalue within this, relative to |lambda|max, counts as zero


@dataclass(frozen=True)
class Classification:
    """A point by its first two derivatives.

    Attributes:
        gradient_norm: Euclidean.
        eigenvalues: of the Hessian, ascending.
        saddle_index: independent directions in which the function falls, the eigenvalues below zero.
        kind: `degenerate` where the second derivative cannot tell: an eigenvalue is zero, and the others do
            not show both signs. A point too steep to be critical is a `slope`, whatever its eigenvalues.
    """

    gradient_norm: float
    eigenvalues: tuple[float, ...]
    saddle_index: int
    kind: Kind


def classify(gradient: Tensor, hessian: Tensor) -> Classification:
    """Say what kind of point has this gradient and this Hessian.

    With |lambda|max the largest absolute eigenvalue, in float64: `slope` unless |gradient| <= 1e-4
    |lambda|max, so that the point is within about 1e-4 of a critical one along the steepest direction; then,
    with eps = 1e-6 |lambda|max, eigenvalues below -eps and above eps make a `saddle`; else any within eps
    makes it `degenerate`; else `minimum` or `maximum`. The unit of the function does not matter. Where all
    eigenvalues are 0 there is no such length: a gradient of 0 is `degenerate`, any other a `slope`.

    Args:
        gradient: [n].
        hessian: [n, n], symmetric.

    Raises:
        ValueError: the shapes do not fit, there is no variable, or a number is not finite.

    Source: the second-derivative test; the index of a saddle as in Dauphin et al. 2014, arXiv:1406.2572.
    """
    if gradient.dim() != 1 or hessian.shape != (gradient.numel(),) * 2:
        shapes = f"{list(gradient.shape)} and {list(hessian.shape)}"
        raise ValueError(f"classify wants a gradient [n] and a Hessian [n, n], got shapes {shapes}")
    if not gradient.numel():
        raise ValueError("classify wants at least one variable, got a gradient of none")
    if not (gradient.isfinite().all() and hessian.isfinite().all()):
        raise ValueError("classify wants a finite gradient and a finite Hessian, got NaN or infinity")
    norm = float(torch.linalg.vector_norm(gradient.double()))
    eigenvalues = (torch.linalg.eigvalsh(hessian.double()) + 0.0).tolist()  # no -0.0
    scale = max(abs(eigenvalues[0]), abs(eigenvalues[-1]))
    eps = FLAT * scale
    negative, positive = (sum(sign * v > eps for v in eigenvalues) for sign in (-1, 1))
    kind: Kind
    if not norm <= SLOPE * scale:
        kind = "slope"
    elif negative and positive:
        kind = "saddle"
    elif negative + positive < len(eigenvalues):
        kind = "degenerate"
    else:
        kind = "maximum" if negative else "minimum"
    return Classification(norm, tuple(eigenvalues), negative, kind)


def derivatives(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value, gradient and Hessian at a point, in float64.

    Args:
        function: twice differentiable, [n] -> 0-d.
        x: the point, [n]; it is not modified.

    Returns:
        Detached tensors 0-d, [n] and [n, n]; not finite where the function or a derivative is not.

    Raises:
        ValueError: the point is not [n] with n >= 1.
    """
    if x.dim() != 1 or not x.numel():
        raise ValueError(f"derivatives wants a point [n] with n >= 1, got shape {list(x.shape)}")
    with torch.enable_grad():
        x = x.detach().double().requires_grad_()
        value = function(x)
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
        # A linear function's gradient is a constant, which has no graph to walk back.
        rows = [
            torch.autograd.grad(g, x, retain_graph=True, materialize_grads=True)[0]
            if g.requires_grad
            else torch.zeros_like(x)
            for g in gradient
        ]
    return value.detach(), gradient.detach(), torch.stack(rows)
