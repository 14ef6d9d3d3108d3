"""The plane that a path through parameter space lies in best, and how far it leaves it.

The principal components of the differences to the last point (Li et al. 2018, arXiv:1712.09913, section 7),
not centred, so that the plane goes through the last point. Of T points in d dimensions only the T x T matrix
of scalar products is decomposed. A plane shows what a path does within it: high-dimensional random walks draw
smooth curves there too (Antognini and Sohl-Dickstein 2018, arXiv:1806.08805), so the shares and the distances
belong to the picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 1 << 20  # columns worked on at once in float64
STRAIGHT = 1e-12  # a second share below it: the path is a straight line to rounding


@dataclass(frozen=True)
class PathPlane:
    """A plane through the last point of a path; on the CPU.

    Attributes:
        axes: orthonormal, [2, d], in the dtype of the path.
        coordinates: of every point in the plane, from the last one, float64 [T, 2].
        shares: of the summed squared distances to the last point, along each axis, in [0, 1], float64 [2].
        distances: of every point from the plane, float64 [T].
    """

    axes: Tensor
    coordinates: Tensor
    shares: Tensor
    distances: Tensor


def path_plane(path: Tensor) -> PathPlane:
    """The plane through the last point with the least squared distance to all points.

    Args:
        path: points in order, [T, d], T >= 2, d >= 2, finite.

    Returns:
        The plane; the first point's coordinates in it are not negative. A straight path gets a random second
        axis.

    Raises:
        ValueError: fewer than two points or dimensions, a number that is not finite, or no movement.
    """
    if path.dim() != 2 or min(path.shape) < 2:
        raise ValueError(f"a path wants points [T, d], T and d >= 2, got shape {tuple(path.shape)}")
    if not path.isfinite().all():
        raise ValueError("a point of the path is not finite")
    gram = torch.zeros(len(path), len(path), dtype=torch.float64)
    for block in _differences(path):
        gram += block @ block.T
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    total = gram.trace()
    if not total > 0:
        raise ValueError("the parameters have not moved, so there is no plane to show")
    shares = values[:2] / total
    axes = _axes(path, values, vectors, straight=bool(shares[1] < STRAIGHT))
    coordinates = sum(
        block @ axis.double().T
        for block, axis in zip(_differences(path), axes.split(BLOCK, dim=1), strict=True)
    )
    assert isinstance(coordinates, Tensor)
    signs = torch.where(coordinates[0] < 0, -1.0, 1.0).double()
    axes, coordinates = axes * signs[:, None], coordinates * signs
    squares = torch.zeros(len(path), dtype=torch.float64)
    for block, axis in zip(_differences(path), axes.split(BLOCK, dim=1), strict=True):
        squares += (block - coordinates @ axis).square().sum(1)
    return PathPlane(axes.to(path.dtype), coordinates, shares, squares.sqrt())


def _differences(path: Tensor) -> Iterator[Tensor]:
    """Differences to the last point in float64, a block of columns at a time."""
    for block in path.split(BLOCK, dim=1):
        yield block.double() - block[-1].double()


def _axes(path: Tensor, values: Tensor, vectors: Tensor, *, straight: bool) -> Tensor:
    """Orthonormal axes, float64 [2, d]."""
    weights = vectors[:, :2] / values[:2].sqrt().clamp(min=torch.finfo(torch.float64).tiny)
    axes = torch.cat([(block.T @ weights).T for block in _differences(path)], dim=1)
    if straight:
        axes[1] = torch.randn(axes.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    axes[0] /= axes[0].norm()
    axes[1] -= (axes[1] @ axes[0]) * axes[0]
    axes[1] /= axes[1].norm()
    return axes
