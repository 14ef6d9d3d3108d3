"""The natural gradient: steepest ascent where distance is the KL divergence of what the network outputs.

A linear operator is a callable from [d] to [d]; the products of core.curvature are such.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from core.checks import require

Operator = Callable[[Tensor], Tensor]


def conjugate_gradient(
    operator: Operator,
    b: Tensor,
    *,
    iterations: int = 10,
    tolerance: float = 1e-10,
    damping: float = 0.0,
) -> Tensor:
    """Solve (A + damping I) x = b for a symmetric positive definite A, beginning at x = 0.

    Exact after d iterations up to rounding. It stops changing x, without asking the device, once the residual
    is small enough or a direction p has p^T (A + damping I) p <= 0, which no positive definite A has.

    Args:
        operator: x to A x, [d] to [d].
        b: [d].
        iterations: largest number of products with A, >= 0; on an accelerator exactly this number.
        tolerance: stops at |b - (A + damping I) x| <= tolerance |b|.
        damping: >= 0.

    Returns:
        x, [d], no gradient.

    Raises:
        ValueError: an option is out of range.

    Source: Hestenes and Stiefel 1952; as in Martens 2010, "Deep learning via Hessian-free optimization".
    """
    require(iterations >= 0, "iterations", iterations, "an integer >= 0")
    require(0 <= damping < float("inf"), "damping", damping, "a number >= 0")
    require(tolerance >= 0, "tolerance", tolerance, "a number >= 0")
    with torch.no_grad():
        x = torch.zeros_like(b)
        residual, direction = b.clone(), b.clone()
        square = b @ b
        enough = tolerance**2 * square
        active = square > enough
        for _ in range(iterations):
            # On the CPU asking costs nothing and saves the remaining products.
            if b.device.type == "cpu" and not active:
                break
            with torch.enable_grad():  # the operator may differentiate inside
                product = operator(direction).detach()
            product = product + damping * direction
            curvature = direction @ product
            active = active & (curvature > 0)
            alpha = torch.where(active, square / curvature, 0.0)
            x = torch.where(active, x + alpha * direction, x)
            residual = torch.where(active, residual - alpha * product, residual)
            new = residual @ residual
            direction = residual + torch.where(active, new / square, 0.0) * direction
            square = new
            active = active & (square > enough)
        return x


def natural_gradient(
    fisher: Operator,
    gradient: Tensor,
    *,
    max_kl: float,
    iterations: int = 10,
    tolerance: float = 1e-10,
    damping: float = 1e-3,
) -> Tensor:
    """The step along F^-1 g that costs `max_kl` by the quadratic model of the divergence.

        x = (F + damping I)^-1 g,     step = sqrt(2 max_kl / x^T F x) x

    so that step^T F step / 2 = max_kl. Add it to climb, subtract it to descend. The model's gain is g^T step;
    whether the true divergence and the true gain agree is the caller's to check (TRPO's line search).

    Args:
        fisher: v to F v, [d] to [d]; F the Fisher matrix of the policy's outputs, mean over the states.
        gradient: g, [d].
        max_kl: delta, nats; > 0.
        iterations: of `conjugate_gradient`.
        tolerance: of `conjugate_gradient`.
        damping: of `conjugate_gradient`; it steadies the direction only, the length is measured by F itself.

    Returns:
        [d]; zeros where the gradient is zero or F does not see it (x^T F x <= 0).

    Raises:
        ValueError: an option is out of range.

    Source: Kakade 2001, "A natural policy gradient"; Schulman et al. 2015, arXiv:1502.05477, appendix C.
    """
    require(0 < max_kl < float("inf"), "max_kl", max_kl, "a number > 0")
    x = conjugate_gradient(
        fisher, gradient.detach(), iterations=iterations, tolerance=tolerance, damping=damping
    )
    cost = x @ fisher(x).detach()
    return torch.where(cost > 0, (2 * max_kl / cost).sqrt() * x, 0.0)
