"""What kind of point a network stands at, from products with its Hessian alone.

The dense test of `core.curvature.critical` cannot reach a network: here both ends of the spectrum come from
Lanczos, and what counts as zero is relative to the largest eigenvalue, because products in float32 are no
better than that.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.checks import require
from core.curvature.critical import SLOPE, Kind
from core.curvature.products import Hessian
from core.curvature.spectrum import Krylov, lanczos


@dataclass(frozen=True)
class Point:
    """A point of a large network's loss by its first two derivatives.

    Attributes:
        kind: `slope`, where the gradient is not small; `saddle`, certain up to the products' rounding, since
            a Ritz value is a mean of eigenvalues; `minimum` and `maximum`, beyond the bounds of the Ritz
            values and of what may have escaped them; `degenerate`, neither: flat directions, of which the
            second derivative cannot tell, or an end that has not `converged`. A network with more parameters
            than data needs ends there.
        gradient_norm: Euclidean.
        lowest, sharpness: lowest and largest eigenvalue.
        negative_share: see `Ritz.negative_share`.
        converged: both ends are known to within eps, see `Krylov.excludes`.
        escape: eigenvector of the lowest eigenvalue, of unit length, [d]; along both signs of it the loss
            falls away from a saddle.
    """

    kind: Kind
    gradient_norm: float
    lowest: float
    sharpness: float
    negative_share: float
    converged: bool
    escape: Tensor


def classify_point(
    hessian: Hessian, generator: torch.Generator, *, steps: int = 50, eps: float = 1e-4
) -> Point:
    """Say what kind of point a loss stands at.

    With |lambda|max the largest absolute eigenvalue: `slope` unless |gradient| <= 1e-4 |lambda|max;
    then an eigenvalue below -eps |lambda|max and one above eps |lambda|max make a `saddle`, both ends on one
    side beyond it a `minimum` or a `maximum`, and anything else is `degenerate`. A Hessian of zeros is too.

    Args:
        hessian: of the loss on a frozen batch; the whole data say more than a sample.
        generator: draws Lanczos' start.
        steps: at most this many products; fewer when both ends have converged.
        eps: what counts as zero, relative to |lambda|max; 1e-4 is above the rounding of float32 products.

    Raises:
        ValueError: `steps` or `eps` is out of range.
        FloatingPointError: the gradient or a product is not finite.

    Source: Dauphin et al. 2014, arXiv:1406.2572, section 2; the share of negative eigenvalues is their index.
    """
    require(steps >= 1, "steps", steps, "an integer >= 1")
    require(0 < eps < 1, "eps", eps, "in (0, 1)")
    gradient_norm = float(torch.linalg.vector_norm(hessian.gradient.double()))
    if not gradient_norm < float("inf"):
        raise FloatingPointError("classify_point: the gradient is not finite")

    def converged(found: Krylov) -> bool:
        ritz = found.ritz()
        ends = torch.stack([ritz.bounds[0], ritz.bounds[-1]])
        margin = float(eps * ritz.values.abs().max())
        return (
            bool((ends <= 0.5 * margin).all())
            and found.excludes(float(ritz.values[0]) - margin)
            and found.excludes(float(ritz.values[-1]) + margin)
        )

    found = lanczos(hessian, hessian.size, steps, generator, enough=converged)
    ritz = found.ritz()
    lowest, sharpness = float(ritz.values[0]), float(ritz.values[-1])
    largest = max(abs(lowest), abs(sharpness))
    return Point(
        kind=_kind(gradient_norm, found, eps * largest),
        gradient_norm=gradient_norm,
        lowest=lowest,
        sharpness=sharpness,
        negative_share=ritz.negative_share,
        converged=converged(found),
        escape=found.vectors(0)[0],
    )


def _kind(gradient_norm: float, found: Krylov, zero: float) -> Kind:
    ritz = found.ritz()
    lowest, sharpness = float(ritz.values[0]), float(ritz.values[-1])
    if not gradient_norm <= SLOPE * max(abs(lowest), abs(sharpness)):
        return "slope"
    if lowest < -zero and sharpness > zero:
        return "saddle"
    # Ritz values lie inside the spectrum: what is on one side now may still cross over with more steps.
    if lowest - float(ritz.bounds[0]) > zero and found.excludes(zero):
        return "minimum"
    above = sharpness + float(ritz.bounds[-1]) < -zero and found.excludes(-zero)
    return "maximum" if above else "degenerate"
