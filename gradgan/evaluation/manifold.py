"""Precision, recall, density and coverage: two sets of features compared through nearest neighbours."""

import torch
from torch import Tensor

CHUNK = 1000  # rows of a matrix of distances held at once: 80 MB against 10,000 others in float64
PRECISION_NEIGHBOURS = 3  # k of precision and recall (arXiv:1904.06991, section 3.1)
DENSITY_NEIGHBOURS = 5  # k of density and coverage (arXiv:2002.09797, section 4.2)
NAMES = ("precision", "recall", "density", "coverage")


class Manifold:
    """The region that real features cover: a ball around each, up to its k-th nearest neighbour.

    With B_k(x_i) the closed ball around the real x_i whose radius is the distance to its k-th nearest other
    real one, B'_k(y_j) the same among the generated ones, N real and M generated,

        precision  share of the y_j in any B_3(x_i)
        recall     share of the x_i in any B'_3(y_j)
        density    sum_ij [y_j in B_5(x_i)] / (5 M)
        coverage   share of the x_i with any y_j in B_5(x_i)

    Precision, recall and coverage are in [0, 1]; density is not bounded. A perfect generator has density 1
    and coverage 1 - prod_{j=1..5} (N - j) / (N + M - j), about 0.97 where M = N, in expectation.

    Args:
        real: [N, F], N > 5 for any numbers; distances are computed on its device in float64 (mps: float32).

    Source: precision and recall: Kynkaanniemi et al. 2019, arXiv:1904.06991, eq. 1 and 2; density and
    coverage: Naeem et al. 2020, arXiv:2002.09797, eq. 3, 5 and 8.
    """

    def __init__(self, real: Tensor) -> None:
        self._real = _precise(real)
        self._radii = (
            radii(self._real, (PRECISION_NEIGHBOURS, DENSITY_NEIGHBOURS)) if self._enough(real) else None
        )

    def __call__(self, fake: Tensor) -> dict[str, float | None]:
        """Measure precision, recall, density and coverage of features [M, F] on the same device.

        None where N or M has no five neighbours.
        """
        if self._radii is None or not self._enough(fake):
            return dict.fromkeys(NAMES)
        fake = _precise(fake)
        (own,) = radii(fake, (PRECISION_NEIGHBOURS,))
        narrow, wide = self._radii
        precise, density, num_fake = 0, 0, len(fake)
        recalled = torch.zeros(len(self._real), dtype=torch.bool, device=fake.device)
        covered = recalled.clone()
        for rows, radius in zip(fake.split(CHUNK), own.split(CHUNK), strict=True):
            distance = torch.cdist(rows, self._real)  # [chunk, N]
            precise += int((distance <= narrow).any(dim=1).sum())
            recalled |= (distance <= radius[:, None]).any(dim=0)
            within = distance <= wide
            density += int(within.sum())
            covered |= within.any(dim=0)
        shares = (
            precise / num_fake,
            recalled.double().mean().item(),
            density / (DENSITY_NEIGHBOURS * num_fake),
            covered.double().mean().item(),
        )
        return dict(zip(NAMES, shares, strict=True))

    @staticmethod
    def _enough(points: Tensor) -> bool:
        return len(points) > DENSITY_NEIGHBOURS


def radii(points: Tensor, neighbours: tuple[int, ...]) -> list[Tensor]:
    """Distance of each point to its k-th nearest other point.

    Args:
        points: [N, F], N > every k.
        neighbours: the k, each >= 1.

    Returns:
        For each k, [N]; 0 where k others are equal to the point.
    """
    found = []
    for start in range(0, len(points), CHUNK):
        rows = points[start : start + CHUNK]
        distance = torch.cdist(rows, points)
        itself = torch.arange(len(rows), device=points.device)
        distance[itself, start + itself] = torch.inf
        found.append(distance.topk(max(neighbours), largest=False).values)
    nearest = torch.cat(found)
    return [nearest[:, k - 1] for k in neighbours]


def _precise(points: Tensor) -> Tensor:
    """In float64, where the device has it: torch computes distances from inner products, which cancel."""
    return points.float() if points.device.type == "mps" else points.double()
