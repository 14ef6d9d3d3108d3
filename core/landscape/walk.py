"""The loss as the training met it: around some of its snapshots, instead of only around its end.

Of each of these points: the plane through it that is parallel to the plane of the path, where the other
points are seen too; the plane of the Hessian's outermost eigenvectors, along which the loss bends most; and
how these two directions lie in the former plane, which in many dimensions holds little of them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from core.curvature import Hessian, eigenvalues, twice_differentiable
from core.curvature.products import Layout
from core.gradients import Objective
from core.landscape.plane import PathPlane
from core.landscape.surface import Surface, surface_of

FRAMES = 6  # points of the path, its ends among them
GRID = 21  # points along each axis of a plane at most; all planes together cost about two still pictures
LANCZOS = 30  # products for the two eigenvectors


@dataclass(frozen=True)
class Frame:
    """One point of a path and what is around it.

    Attributes:
        index: of the point in the path.
        loss: there.
        gradient_norm: there.
        curvatures: the largest and the lowest eigenvalue of the Hessian there.
        slopes: the gradient's parts along their unit eigenvectors.
        arrows: parts of their unit eigenvectors along the axes of the path's plane, [2, 2].
        plane: the loss over the plane of the path, moved so that it holds this point; coordinates as in the
            path's own.
        bends: the loss over the two eigenvectors, from this point; the first along x.
    """

    index: int
    loss: float
    gradient_norm: float
    curvatures: tuple[float, float]
    slopes: tuple[float, float]
    arrows: Tensor
    plane: Surface
    bends: Surface


def frames_of(
    objective: Objective, points: Tensor, plane: PathPlane, axes: Sequence[Tensor], generator: torch.Generator
) -> list[Frame]:
    """Some points of a path, evenly over it, the first and the last among them.

    The planes of the eigenvectors reach as far as a parabola of the largest |curvature| takes to rise as much
    as the loss does over the plane of the path.

    Args:
        objective: at the last point; it is so again at the end.
        points: of the path, [T, d].
        plane: that they lie in best.
        axes: coordinates at which the losses of a plane are taken, [X] and [Y].
        generator: draws the starts of Lanczos.

    Raises:
        RuntimeError: a kernel of the network cannot be differentiated twice.
        FloatingPointError: a product with a Hessian is not finite.
    """
    count = min(FRAMES, len(points))
    chosen = [round(i * (len(points) - 1) / (count - 1)) for i in range(count)]
    return [_frame(objective, points, i, plane, axes, generator) for i in chosen]


@contextmanager
def moved_to(objective: Objective, point: Tensor) -> Iterator[None]:
    """The objective's parameters at a point [d]; afterwards, to the bit, where they were."""
    kept = [p.detach().clone() for p in objective.parameters]
    try:
        _put(objective, Layout(objective.parameters).split(point))
        yield
    finally:
        _put(objective, kept)


def _put(objective: Objective, values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(objective.parameters, values, strict=True):
            parameter.copy_(value)


def _frame(
    objective: Objective,
    points: Tensor,
    i: int,
    plane: PathPlane,
    axes: Sequence[Tensor],
    random: torch.Generator,
) -> Frame:
    x, y = axes
    with moved_to(objective, points[i]):
        with twice_differentiable(objective.module):
            hessian = Hessian(objective(), objective.parameters)
        steps = min(LANCZOS, hessian.size)
        ends = eigenvalues(hessian, hessian.size, random, steps=steps, vectors=True)
        assert ends.top_vectors is not None
        assert ends.bottom_vectors is not None
        vectors = torch.stack([ends.top_vectors[0], ends.bottom_vectors[0]])
        curvatures = float(ends.top[0]), float(ends.bottom[0])
        slopes = (vectors.double() @ hessian.gradient.to(vectors.device).double()).tolist()
        here = float(objective().detach())
        across, up = plane.coordinates[i]
        around = surface_of(objective, plane.axes, x - across, y - up)
        rises = around.values[around.values.isfinite()]
        rise = float(rises.max()) - here if len(rises) else 0.0
        reach = (2 * max(rise, 1e-12) / max(abs(c) for c in (*curvatures, 1e-12))) ** 0.5
        t = torch.linspace(-reach, reach, len(x), dtype=torch.float64)
        bends = surface_of(objective, vectors, t, t)
    return Frame(
        index=i,
        loss=here,
        gradient_norm=float(hessian.gradient.norm()),
        curvatures=curvatures,
        slopes=(slopes[0], slopes[1]),
        arrows=vectors.double().cpu() @ plane.axes.double().cpu().T,
        plane=Surface(x, y, around.values, around.pointwise),
        bends=bends,
    )
