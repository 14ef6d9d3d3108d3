"""Which minimum an optimizer reaches from every start of a grid, all starts in one batch.

The gradient of sum_i f(x_i) with respect to [G, n] holds every row's own gradient. Of an optimizer that
treats every number alone (its step depends on that number's own gradients only), one run on the whole batch
is therefore G runs. That does not hold where the rows meet: in a global norm (clipping by it, SAM, perturbed
descent), in a line search (LBFGS), in a matrix (Muon), in a root mean square over a tensor (Adafactor). There
no map is drawn rather than a wrong one.
"""

import torch
from torch import Tensor, nn, optim

from core.curvature.critical import FLAT
from core.descend.functions import Function, PlaneFunction
from core.gradients import Clipper, Value, as_transforms
from core.gradients.norms import GradientView
from core.optim.factory import OptimizerComponent, build_optimizer
from core.optim.schedules import Schedule

GRID = 60  # starts along each axis
NEAR = 0.02  # of the picture's diagonal: an end this near to a minimum has reached it
NEWTON = 12  # steps that take an end to the minimum it is next to
NOWHERE, LEFT = -1, -2  # instead of a minimum's number: at none yet; outside the picture or diverged
ELEMENTWISE = (
    optim.SGD, optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam, optim.Adamax, optim.Adagrad, optim.Adadelta,
    optim.RMSprop, optim.Rprop, optim.ASGD,
)  # fmt: skip


def why_not(optimizer: OptimizerComponent, clipper: Clipper | None, schedule: Schedule) -> str:
    """Why the descents of one batch would differ from single runs; empty where they do not."""
    if optimizer.target not in ELEMENTWISE:
        return f"{optimizer.target.__name__} looks at more than one number at a time"
    mixing = [t for t in as_transforms(clipper) if not isinstance(t, Value)]
    if mixing:
        return f"{type(mixing[0]).__name__} looks at more than one number at a time"
    if schedule.needs:
        return f"{type(schedule).__name__} follows what a single run measures"
    return ""


def basins(
    function: Function, optimizer: OptimizerComponent, clipper: Clipper | None, schedule: Schedule, steps: int
) -> Tensor | str:
    """Descend from every start of a grid over the domain of a function of two variables.

    Returns:
        Ends [GRID, GRID, 2], rows along the second coordinate, not finite where a descent diverged; or why
        there are none.
    """
    if reason := why_not(optimizer, clipper, schedule):
        return reason
    x = nn.Parameter(grid(function).reshape(-1, 2))
    built = build_optimizer(optimizer, [("x", x)])
    rates = [group["lr"] for group in built.param_groups]
    clips = [transform for transform in as_transforms(clipper) if isinstance(transform, Value)]
    for step in range(steps):
        for group, rate in zip(built.param_groups, rates, strict=True):
            group["lr"] = rate * schedule(step / steps)
        x.grad = None
        function(x).sum().backward()
        assert x.grad is not None
        for clip in clips:
            clip(GradientView(["x"], [x], [x.grad]), {})
        built.step()
    return x.detach().reshape(GRID, GRID, 2)


def grid(function: Function) -> Tensor:
    """Centres of GRID x GRID cells over the domain, [GRID, GRID, 2], rows along the second coordinate."""
    axes = [
        low + (high - low) * (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID
        for low, high in function.domain
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="xy"), -1)


def reached(plane: PlaneFunction, ends: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Which minimum each end is at.

    An end near a known minimum is at that one. Of the others a few Newton steps find the minimum that they
    are next to, if there is one.

    Args:
        plane: the function, its known minima, and its domain.
        ends: [..., 2] by name.

    Returns:
        All minima that were reached, [m, 2], those most often reached first, and by name their numbers [...],
        NOWHERE or LEFT.
    """
    spans = torch.tensor([high - low for low, high in plane.domain], dtype=torch.float64)
    near = NEAR * float(spans.norm())
    rows = torch.cat([e.reshape(-1, 2) for e in ends.values()])
    known = [c.point for c in plane.critical_points if c.kind == "minimum"]
    minima = torch.tensor(known, dtype=torch.float64).reshape(-1, 2)
    number = _nearest(rows, minima, near)
    low, high = (torch.tensor(side, dtype=torch.float64) for side in zip(*plane.domain, strict=True))
    outside = ~((rows >= low - near) & (rows <= high + near)).all(1)  # true for NaN
    polished = torch.where(outside[:, None], torch.nan, _polish(plane, rows, near))
    while (found := (number < 0) & polished.isfinite().all(1)).any():
        minima = torch.cat([minima, polished[found][:1]])
        number = torch.where(found, _nearest(polished, minima, near / 10), number)
        number[found.nonzero()[0]] = len(minima) - 1  # itself at least
    number = torch.where((number < 0) & outside, LEFT, number)
    counts = torch.bincount(number[number >= 0], minlength=len(minima))
    order = counts.argsort(descending=True, stable=True)
    order = order[counts[order] > 0]
    place = torch.full((len(minima) + 2,), NOWHERE)
    place[order] = torch.arange(len(order))
    place[LEFT] = LEFT  # counted from the end
    sizes = [e[..., 0].numel() for e in ends.values()]
    shapes = [e.shape[:-1] for e in ends.values()]
    parts = place[number].split(sizes)
    return minima[order], {
        name: part.reshape(shape) for name, part, shape in zip(ends, parts, shapes, strict=True)
    }


def _nearest(points: Tensor, minima: Tensor, near: float) -> Tensor:
    """Number of the nearest minimum of each point, NOWHERE where none is near."""
    if not len(minima):
        return torch.full((len(points),), NOWHERE)
    distance, number = torch.cdist(points.nan_to_num(torch.inf, torch.inf, torch.inf), minima).min(1)
    return torch.where(distance <= near, number, NOWHERE)


def _polish(plane: PlaneFunction, points: Tensor, near: float) -> Tensor:
    """The minimum next to each point, NaN where Newton's method finds none within `near`."""
    x = points
    for _ in range(NEWTON):
        gradient, hessian = _derivatives(plane, x)
        step = torch.linalg.solve_ex(hessian, gradient)[0]
        length = torch.linalg.vector_norm(step, dim=1, keepdim=True)
        x = x - step * (near / length.clamp(min=near))
    gradient, hessian = _derivatives(plane, x)
    usable = hessian.isfinite().all(-1).all(-1) & gradient.isfinite().all(1)
    eigenvalues = torch.linalg.eigvalsh(torch.where(usable[:, None, None], hessian, 0.0))
    scale = eigenvalues.abs().amax(1)
    flat = torch.linalg.vector_norm(gradient, dim=1) <= FLAT * scale
    kept = usable & flat & (eigenvalues[:, 0] > FLAT * scale)
    kept &= torch.linalg.vector_norm(x - points, dim=1) <= near
    return torch.where(kept[:, None], x, torch.nan)


def _derivatives(plane: PlaneFunction, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients [G, 2] and Hessians [G, 2, 2]."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(plane.function(x).sum(), x, create_graph=True)
        # A linear function's gradient is a constant, which has no graph to walk back.
        rows = [
            torch.autograd.grad(g.sum(), x, retain_graph=True, materialize_grads=True)[0]
            if g.requires_grad
            else torch.zeros_like(x)
            for g in gradient.unbind(1)
        ]
    return gradient.detach(), torch.stack(rows, 1)
