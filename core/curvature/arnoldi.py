"""Eigenvalues of an operator that is not symmetric, known only by its products: the Jacobian of a game.

A gradient descent has a symmetric Jacobian, the Hessian, and real eigenvalues. Two players have not: the
imaginary parts are what turns them around each other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.curvature.products import LinearOperator
from core.gradients.norms import accumulation_dtype

BREAKDOWN = 1e-10  # a residual this small against the norm of H: the subspace is invariant


@dataclass(frozen=True)
class ComplexRitz:
    """Eigenvalues as a Krylov space of m steps sees them, by falling modulus.

    Attributes:
        values: complex128 [m], on the CPU; the outermost converge first.
        residuals: |A x - value x| of the unit Ritz vector x, float64 [m]. Of an operator far from normal an
            eigenvalue may lie much further away than that (Trefethen and Embree 2005).
    """

    values: Tensor
    residuals: Tensor


def arnoldi(operator: LinearOperator, start: Tensor, steps: int) -> ComplexRitz:
    """Project an operator on the Krylov space of `start`, with full re-orthogonalisation in float64.

    One product per step; the basis takes 8 m d bytes (4 m d where the device has no float64). It stops early
    at an invariant subspace, where the Ritz values are eigenvalues.

    Args:
        operator: [d] -> [d], linear; called with vectors like `start`.
        start: [d], not zero.
        steps: m, at most this many products.

    Raises:
        ValueError: `steps` is below 1, or the start is zero.
        FloatingPointError: the operator returned a non-finite number.

    Source: Arnoldi 1951; Saad 2011, Numerical Methods for Large Eigenvalue Problems, algorithm 6.2 and
    proposition 6.8.
    """
    if steps < 1:
        raise ValueError(f"arnoldi needs steps >= 1, got {steps}")
    first = start.to(accumulation_dtype(start.device))
    length = float(torch.linalg.vector_norm(first))
    if not length > 0:
        raise ValueError("arnoldi needs a start that is not zero")
    size = first.numel()
    count = min(steps, size)
    basis = first.new_empty(count, size)
    torch.div(first, length, out=basis[0])
    h = torch.zeros(count + 1, count, dtype=torch.float64)
    taken = count
    for j in range(count):
        w = operator(basis[j].to(start.dtype)).to(first.dtype)
        known = basis[: j + 1]
        column = known @ w
        w = w - column @ known
        again = known @ w  # Gram-Schmidt twice is enough
        w = w - again @ known
        left = float(torch.linalg.vector_norm(w))
        h[: j + 1, j] = (column + again).double().cpu()
        h[j + 1, j] = left
        if not torch.isfinite(h[: j + 2, j]).all():
            raise FloatingPointError("a product with the operator is not finite")
        if left <= BREAKDOWN * float(torch.linalg.matrix_norm(h)):
            taken = j + 1
            h[j + 1, j] = 0.0
            break
        if j + 1 < count:
            torch.div(w, left, out=basis[j + 1])
    values, vectors = torch.linalg.eig(h[:taken, :taken])
    residuals = h[taken, taken - 1] * (vectors[-1] / vectors.norm(dim=0)).abs()
    order = values.abs().argsort(descending=True)
    return ComplexRitz(values[order], residuals[order])
