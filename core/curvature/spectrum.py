"""Eigenvalues and spectral density of a symmetric operator that is known only by its products.

Everything rests on Lanczos' method in float64 with full re-orthogonalisation. Without it the basis loses its
orthogonality as soon as the first eigenvalue has converged, and copies of that value appear: on a matrix of
size 200 with three large eigenvalues, 80 steps found 16 "ghosts" of them. The basis takes 8 m d bytes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from core.curvature.products import LinearOperator
from core.gradients.norms import accumulation_dtype

# Which eigenvalues count as notably negative, against the largest |one|. Most of a network's lie so near zero
# that a few steps cannot sort them: of one whose share below -1e-4 was 0.36, ten steps from 20 starts found
# 0.41 with a standard deviation of 0.39; below -1e-2 they found 0.06 and 0.01, and 0.13 was right.
NOTABLE = 1e-2
# A random start lies nearer than this to a right angle with an eigenvector, times sqrt(d), once in 125 times.
UNLIKELY = 1e-2
BREAKDOWN = 1e-10  # a residual this small against the largest entry of T: the subspace is invariant


@dataclass(frozen=True)
class Ritz:
    """Eigenvalues as a Krylov space of m steps sees them; all [m], float64, on the CPU, ascending.

    Attributes:
        values: the largest and the lowest converge first, from inside the spectrum.
        bounds: an eigenvalue lies within this distance of the value (beta_m |s_mi|; Parlett 1980).
            It knows nothing of the operator's own rounding: add 1e-6 of the largest for float32.
        weights: share of the spectrum that each value stands for, seen from the start; they sum to 1.
    """

    values: Tensor
    bounds: Tensor
    weights: Tensor

    @property
    def negative_share(self) -> float:
        """Estimated share of all d eigenvalues below -NOTABLE |lambda|max, in [0, 1]; a little low."""
        return float(self.weights[self.values < -NOTABLE * self.values.abs().max()].sum())


@dataclass(frozen=True)
class Krylov:
    """What m Lanczos steps leave: Q^T A Q = T, tridiagonal.

    Attributes:
        alphas: diagonal of T, [m], float64, on the CPU.
        betas: below the diagonal, [m]; the last is the norm of what is left over, 0 after a breakdown.
        basis: Q^T, orthonormal rows, [m, d], on the operator's device.
    """

    alphas: Tensor
    betas: Tensor
    basis: Tensor

    def ritz(self) -> Ritz:
        """Eigenvalues of T, with their bounds and weights."""
        values, vectors = self._eigh()
        return Ritz(values, self.betas[-1] * vectors[-1].abs(), vectors[0].square())

    def vectors(self, *indices: int) -> Tensor:
        """Ritz vectors of unit length to the values at `indices`, [len(indices), d]."""
        _, vectors = self._eigh()
        chosen = vectors[:, list(indices)].T.to(self.basis)
        return chosen @ self.basis

    def excludes(self, value: float) -> bool:
        """Whether there is hardly an eigenvalue at `value` or beyond, seen from all Ritz values.

        A small bound says that some eigenvalue is near a Ritz value, not that it is the last one: another may
        have escaped the start so far. Its eigenvector e would have

            |<q_1, e>| <= beta_1 ... beta_m / |value - theta_1| ... |value - theta_m|,

        and a random start of d numbers is hardly ever so near to a right angle that this is below
        UNLIKELY / sqrt(d).

        Args:
            value: below the lowest Ritz value, or above the largest.

        Source: e^T (A Q) = e^T (Q T + beta_m q_(m+1) e_m^T), solved for the first entry of Q^T e.
        """
        if self.betas[-1] == 0:
            return True
        values, _ = self._eigh()
        cosine = self.betas.log().sum() - (value - values).abs().log().sum()
        return bool(cosine <= math.log(UNLIKELY / self.basis.shape[1] ** 0.5))

    def _eigh(self) -> tuple[Tensor, Tensor]:
        off = self.betas[:-1]
        return torch.linalg.eigh(self.alphas.diag() + off.diag(1) + off.diag(-1))


def lanczos(
    operator: LinearOperator,
    size: int,
    steps: int,
    generator: torch.Generator,
    *,
    start: Tensor | None = None,
    device: torch.device | None = None,
    enough: Callable[[Krylov], bool] | None = None,
) -> Krylov:
    """Project a symmetric operator on the Krylov space of a random vector.

    One product and one synchronisation of the device per step. It stops early at an invariant subspace,
    where the Ritz values are eigenvalues; an eigenvalue of any multiplicity is seen once.

    Args:
        operator: symmetric, [d] -> [d]; called with vectors of the basis.
        size: d.
        steps: m, at most this many products; d are enough.
        generator: draws the start, uniform on the sphere.
        start: [d], not zero; instead of a random one.
        device: where the vectors live; default the operator's `device`, or else the generator's.
        enough: asked after each step whether to stop.

    Raises:
        ValueError: `steps` or `size` is below 1, or a start that is zero.
        FloatingPointError: the operator returned a non-finite number.

    Source: Lanczos 1950; Golub and Van Loan 2013, algorithm 10.1.1 and section 10.3.
    """
    if min(steps, size) < 1:
        raise ValueError(f"lanczos needs steps and size >= 1, got steps={steps}, size={size}")
    place = place_of(operator, generator, device)
    if start is None:
        first = _normal(size, generator, place)
    else:
        first = start.to(place, accumulation_dtype(place), copy=True)
    length = float(torch.linalg.vector_norm(first))
    if not length > 0:
        raise ValueError("lanczos needs a start that is not zero")
    basis = first.new_empty(min(steps, size), size)
    torch.div(first, length, out=basis[0])
    alphas: list[float] = []
    betas: list[float] = []

    def found() -> Krylov:
        diagonal, below = (torch.tensor(numbers, dtype=torch.float64) for numbers in (alphas, betas))
        return Krylov(diagonal, below, basis[: len(alphas)])

    for k in range(len(basis)):
        alpha, beta = _step(operator, basis[: k + 1], betas[-1] if betas else 0.0, first)
        if not abs(alpha) + beta < float("inf"):
            raise FloatingPointError("lanczos: the operator returned a non-finite number")
        broken = beta <= BREAKDOWN * max(abs(alpha), beta, *map(abs, alphas), *betas)
        alphas.append(alpha)
        betas.append(0.0 if broken else beta)
        if broken or k + 1 == len(basis) or (enough is not None and enough(found())):
            break
        torch.div(first, beta, out=basis[k + 1])
    return found()


@dataclass(frozen=True)
class Eigenvalues:
    """Both ends of a spectrum; float64 on the CPU.

    Attributes:
        top: the largest, descending.
        bottom: the lowest, ascending.
        top_bounds, bottom_bounds: as `Ritz.bounds`.
        converged: the bounds of all that are here are within the tolerance.
        products: products that were taken.
        top_vectors, bottom_vectors: eigenvectors of unit length, [n, d], when asked for.
    """

    top: Tensor
    bottom: Tensor
    top_bounds: Tensor
    bottom_bounds: Tensor
    converged: bool
    products: int
    top_vectors: Tensor | None = None
    bottom_vectors: Tensor | None = None


def eigenvalues(
    operator: LinearOperator,
    size: int,
    generator: torch.Generator,
    *,
    steps: int,
    top: int = 1,
    bottom: int = 1,
    tolerance: float = 0.0,
    vectors: bool = False,
    device: torch.device | None = None,
) -> Eigenvalues:
    """The largest and the lowest eigenvalues, by Lanczos.

    Args:
        operator: symmetric, [d] -> [d].
        size: d.
        generator: draws the start.
        steps: at most this many products.
        top: how many of the largest; fewer come back when the Krylov space has fewer.
        bottom: how many of the lowest.
        tolerance: stop when all bounds are within this share of the largest |eigenvalue| and hardly an
            eigenvalue is further out, see `Krylov.excludes`; 0 = take all steps.
        vectors: return the eigenvectors too.
        device: as for `lanczos`.

    Raises:
        ValueError: `steps` or `size` is below 1.
        FloatingPointError: the operator returned a non-finite number.
    """

    def bounded(found: Krylov) -> bool:
        ritz = found.ritz()
        bounds = torch.cat([ritz.bounds.flip(0)[:top], ritz.bounds[:bottom]])
        return bool((bounds <= tolerance * ritz.values.abs().max()).all())

    def enough(found: Krylov) -> bool:
        if tolerance == 0 or len(found.alphas) < top + bottom or not bounded(found):
            return False
        values = found.ritz().values
        margin = float(tolerance * values.abs().max())
        below, above = float(values[0]) - margin, float(values[-1]) + margin
        return (not bottom or found.excludes(below)) and (not top or found.excludes(above))

    found = lanczos(operator, size, steps, generator, device=device, enough=enough)
    ritz = found.ritz()
    count = len(ritz.values)
    highest, lowest = list(range(count))[::-1][:top], list(range(count))[:bottom]
    return Eigenvalues(
        top=ritz.values[highest],
        bottom=ritz.values[lowest],
        top_bounds=ritz.bounds[highest],
        bottom_bounds=ritz.bounds[lowest],
        converged=bounded(found),
        products=count,
        top_vectors=found.vectors(*highest) if vectors else None,
        bottom_vectors=found.vectors(*lowest) if vectors else None,
    )


@dataclass(frozen=True)
class SpectralDensity:
    """How the eigenvalues are distributed; float64 on the CPU.

    Attributes:
        grid: [n], evenly spaced, a little wider than the spectrum.
        density: [n], integrates to 1 over the grid.
        nodes: Ritz values of all probes.
        weights: what each node stands for; they sum to 1.
    """

    grid: Tensor
    density: Tensor
    nodes: Tensor
    weights: Tensor


def spectral_density(
    operator: LinearOperator,
    size: int,
    generator: torch.Generator,
    *,
    steps: int,
    probes: int = 1,
    points: int = 1024,
    width: float = 0.01,
    device: torch.device | None = None,
) -> SpectralDensity:
    """Density of the spectrum by stochastic Lanczos quadrature: Gaussians around the weighted Ritz values.

    Every moment of nodes and weights up to 2 `steps` - 1 is an unbiased estimate of the spectrum's own.

    Args:
        operator: symmetric, [d] -> [d].
        size: d.
        generator: draws the probes.
        steps: m, products per probe.
        probes: random starts that are averaged; one serves for large networks.
        points: size of the grid.
        width: standard deviation of the Gaussians, as a share of the spectrum's width.
        device: as for `lanczos`.

    Raises:
        ValueError: `steps` or `size` is below 1.
        FloatingPointError: the operator returned a non-finite number.

    Source: Ghorbani et al. 2019, arXiv:1901.10159, section 2; Ubaru et al. 2017, doi:10.1137/16M1104974.
    """
    found = [lanczos(operator, size, steps, generator, device=device).ritz() for _ in range(probes)]
    nodes = torch.cat([ritz.values for ritz in found])
    weights = torch.cat([ritz.weights for ritz in found]) / probes
    span = float(nodes.max() - nodes.min())
    # A multiple of the identity has no width of its own, and zero none at all.
    sigma = width * (span or abs(float(nodes[0])) or 1.0)
    low, high = float(nodes.min()) - 6 * sigma, float(nodes.max()) + 6 * sigma
    grid = torch.linspace(low, high, points, dtype=torch.float64)
    bumps = torch.exp(-0.5 * ((grid[:, None] - nodes) / sigma) ** 2) @ weights
    return SpectralDensity(grid, bumps / torch.trapezoid(bumps, grid), nodes, weights)


def _step(operator: LinearOperator, basis: Tensor, beta: float, work: Tensor) -> tuple[float, float]:
    """One step: the diagonal entry and the norm of the residual, which stays in `work`.

    The residual is orthogonal to the whole basis, [k + 1, d]. In place: a fresh [d] costs more than the
    arithmetic on it.
    """
    q = basis[-1]
    work.copy_(operator(q))
    alpha = q @ work
    work.addcmul_(q, alpha, value=-1)
    if len(basis) > 1:
        work.add_(basis[-2], alpha=-beta)
    before = torch.linalg.vector_norm(work)
    # The recurrence has taken the large components; one pass over the basis takes what rounding left.
    work.addmv_(basis.T, basis @ work, alpha=-1)
    after = torch.linalg.vector_norm(work)
    a, b, c = torch.stack([alpha, before, after]).tolist()
    if c < 0.7 * b:  # the first pass took so much that its own rounding counts ("twice is enough")
        work.addmv_(basis.T, basis @ work, alpha=-1)
        c = float(torch.linalg.vector_norm(work))
    return a, c


def place_of(
    operator: LinearOperator, generator: torch.Generator, device: torch.device | None
) -> torch.device:
    """The device of an operator's vectors: the given one, else its own `device`, else the generator's."""
    return device or getattr(operator, "device", None) or generator.device


def _normal(size: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Drawn on the generator's own device, so that the numbers are the same wherever the operator lives.

    In float32, which takes a quarter of the time and is random enough.
    """
    drawn = torch.randn(size, generator=generator, device=generator.device, dtype=torch.float32)
    return drawn.to(device, accumulation_dtype(device))
