"""One view of a run's landscape: what is computed, the picture of it, and its numbers."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from core.curvature import Hessian, eigenvalues, twice_differentiable
from core.draw.media import Image
from core.gradients import Objective
from core.landscape.curvature import spectrum_of
from core.landscape.directions import filter_normalised
from core.landscape.draw_loss import (
    Slices,
    draw_game,
    draw_path_surface,
    draw_slices,
    draw_spectrum,
    draw_surface,
)
from core.landscape.plane import path_plane
from core.landscape.subject import Subject
from core.landscape.surface import Surface, losses_at, surface_of
from core.landscape.walk import GRID, frames_of
from core.numbers import plain_number
from core.seeding import seed_for

RANDOM_SLICES = 4
BENT = 24  # steps at which it is looked how far the loss bends down
LANCZOS = 40  # products for the sharpest direction
MARGIN = 0.18  # of the path's extent that its picture shows around it
FILTERS = "random, filter-normalised directions"


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """How finely, how far, and from which random numbers.

    Attributes:
        grid: points along each axis.
        span: how far slices and surfaces reach on both sides, in lengths of the network's own filters.
        seed: of the directions.
    """

    grid: int
    span: float
    seed: int


@dataclass(frozen=True)
class View:
    """A picture (None: only `landscape.html` shows it), its numbers, and one line that says what it shows."""

    picture: Image | None
    numbers: dict[str, object]
    line: str


def slices(subject: Subject, player: str, cfg: ViewConfig) -> View:
    """The loss along random directions, the gradient, and the outermost eigenvectors of the Hessian.

    The latter go as far as it takes the sharpest one, were the loss a parabola, to rise as much as the random
    ones do.
    """
    objective = subject.objectives[player]
    generator = _generator(cfg, "slices", player)
    with twice_differentiable(objective.module):
        hessian = Hessian(objective(), objective.parameters)
    steps = min(LANCZOS, hessian.size)
    ends = eigenvalues(hessian, hessian.size, generator, steps=steps, vectors=True)
    assert ends.top_vectors is not None
    assert ends.bottom_vectors is not None
    named = {"steepest": -hessian.gradient, "sharpest": ends.top_vectors[0]}
    if float(ends.bottom[0]) < 0:
        named["lowest"] = ends.bottom_vectors[0]
    here, x = float(objective().detach()), _line(cfg)

    def change(direction: Tensor, steps: Tensor) -> Tensor:
        return losses_at(objective, direction[None], steps[:, None])[0] - here

    random = torch.stack([change(filter_normalised(objective, generator), x) for _ in range(RANDOM_SLICES)])
    rise = float(random.abs().nan_to_num(nan=0.0, posinf=0.0).max()) or 1.0
    reach = (2 * rise / max(float(ends.top[0]), 1e-6 * rise)) ** 0.5
    t = x / cfg.span * reach
    curvatures = float(ends.top[0]), float(ends.bottom[0])
    width = nearest = 0.0
    if "lowest" in named:
        lowest = named["lowest"] / named["lowest"].norm()
        # Nearer than that, the change drowns in the rounding of a loss in float32.
        nearest = min((2e-5 * max(abs(here), 1e-3) / -curvatures[1]) ** 0.5, reach / 10)
        steps = torch.logspace(math.log10(nearest), math.log10(reach), BENT, dtype=torch.float64)
        width = bend(steps, change(lowest, steps), change(lowest, -steps))
        t = torch.cat([t, torch.tensor([width, width / 2, -width / 2, -width], dtype=t.dtype)]).unique()
    changes = {kind: change(d / d.norm(), t) for kind, d in named.items()}
    found = Slices(x, random, t, changes, curvatures, width, nearest)
    heading = (
        f"Slices of the loss of {_whose(player)}",
        f"{subject.place}: loss {plain_number(here)}; {subject.batch}",
        f"above: {FILTERS}; below: the gradient and the Hessian's outermost eigenvectors; curvatures hold at "
        "the centre, and only as far as the loss is a parabola",
    )
    numbers = {
        "loss": here,
        "x": x.tolist(),
        "random": random.tolist(),
        "t": t.tolist(),
        "named": {kind: values.tolist() for kind, values in changes.items()},
        "curvatures": found.curvatures,
        "bends_down_within": width,
        "gradient_norm": float(hessian.gradient.norm()),
    }
    deepest, kind = min((float(v.nan_to_num(nan=torch.inf).min()), kind) for kind, v in changes.items())
    line = (
        f"loss {plain_number(here)} at the checkpoint; curvature {plain_number(found.curvatures[1])} to "
        f"{plain_number(found.curvatures[0])}; {plain_number(deepest)} along the {kind} direction"
    )
    return View(draw_slices(found, heading), numbers, line)


def bend(steps: Tensor, ahead: Tensor, back: Tensor) -> float:
    """How far from a point a loss bends down: the least step at which the mean of both sides is not below it.

    The mean of both sides is free of the slope, and -|curvature| step^2 / 2 next to the point.

    Args:
        steps: ascending, > 0, [n].
        ahead: changes of the loss at them, [n].
        back: at the same steps backwards, [n].

    Returns:
        A step, between two of the given ones linearly interpolated; the last one where the loss bends down as
        far as that, 0 where it does not at the first.
    """
    mean = ((ahead + back) / 2).double()
    risen = (~(mean < 0)).nonzero()
    if not len(risen):
        return float(steps[-1])
    i = int(risen[0])
    if i == 0:
        return 0.0
    below, above = float(mean[i - 1]), float(mean[i])
    share = below / (below - above) if math.isfinite(above) else 0.0
    return float(torch.lerp(steps[i - 1], steps[i], share))


def surface(subject: Subject, player: str, cfg: ViewConfig) -> View:
    """The loss over two random filter-normalised directions."""
    objective = subject.objectives[player]
    generator = _generator(cfg, "surface", player)
    directions = torch.stack([filter_normalised(objective, generator) for _ in range(2)])
    x, here = _line(cfg), float(objective().detach())
    found = surface_of(objective, directions, x, x)
    heading = (
        f"Loss of {_whose(player)} around its parameters",
        f"{subject.place} (star): loss {plain_number(here)}; {subject.batch}",
        f"two {FILTERS}, 1 = as long as the network's own filters; {cfg.grid} × {cfg.grid} points",
    )
    line = f"loss {plain_number(here)} at the checkpoint, {_extent(found)}"
    numbers = {"loss": here} | _numbers(found)
    return View(draw_surface(found, here, heading), numbers, line + _pointwise(found.pointwise))


def path(subject: Subject, player: str, cfg: ViewConfig) -> View:
    """The way of the parameters in the plane of its principal components, over the loss there.

    Raises:
        ValueError: there are too few snapshots, or they do not move.
    """
    objective = subject.objectives[player]
    points, steps = subject.path(player)
    plane = path_plane(points)
    x, y = (_around(plane.coordinates[:, i], cfg.grid) for i in range(2))
    found = surface_of(objective, plane.axes, x, y)
    losses, _ = losses_at(objective, points - points[-1], torch.eye(len(points), dtype=torch.float64))
    length, out = float((points[0] - points[-1]).double().norm()), plane.distances
    heading = (
        f"Path of {_whose(player)} over its loss",
        f"{len(points)} snapshots to the {subject.place}; loss on {subject.batch}",
        f"plane of the path's principal components: {float(plane.shares.sum()):.1%} of the variance about "
        "the end; filling of the marks: loss at the snapshot itself",
        f"distance out of the plane: {plain_number(float(out.max()))} at most, "
        f"{plain_number(float(out.mean()))} on average; from start to end {plain_number(length)}",
    )
    numbers = {
        "steps": steps,
        "coordinates": plane.coordinates.tolist(),
        "variance": plane.shares.tolist(),
        "distance_out_of_plane": out.tolist(),
        "length": length,
        "snapshot_losses": losses.tolist(),
    } | _numbers(found)
    first, second = plane.shares.tolist()
    line = (
        f"{len(points)} points, {first:.0%} and {second:.0%} of the variance, at most "
        f"{plain_number(float(out.max()))} out of the plane of {plain_number(length)} from start to end"
    )
    picture = draw_path_surface(found, plane, losses, steps, subject.unit, heading)
    return View(picture, numbers, line + _pointwise(found.pointwise))


def walk(subject: Subject, player: str, cfg: ViewConfig) -> View:
    """The loss around some snapshots: over the plane of the path, and over the outermost eigenvectors.

    Raises:
        ValueError: there are too few snapshots, or they do not move.
    """
    objective = subject.objectives[player]
    points, steps = subject.path(player)
    plane = path_plane(points)
    axes = [_around(plane.coordinates[:, i], min(cfg.grid, GRID)) for i in range(2)]
    losses, _ = losses_at(objective, points - points[-1], torch.eye(len(points), dtype=torch.float64))
    found = frames_of(objective, points, plane, axes, _generator(cfg, "walk", player))
    numbers = {
        "unit": subject.unit,
        "steps": steps,
        "coordinates": plane.coordinates.tolist(),
        "variance": plane.shares.tolist(),
        "distance_out_of_plane": plane.distances.tolist(),
        "snapshot_losses": losses.tolist(),
        "frames": [
            {
                "index": frame.index,
                "loss": frame.loss,
                "gradient_norm": frame.gradient_norm,
                "curvatures": frame.curvatures,
                "slopes": frame.slopes,
                "arrows": frame.arrows.tolist(),
                "plane": _numbers(frame.plane),
                "bends": _numbers(frame.bends),
            }
            for frame in found
        ],
    }
    sharpest = [plain_number(frame.curvatures[0]) for frame in found]
    line = f"{len(found)} snapshots, largest curvature {', '.join(sharpest)}"
    return View(None, numbers, line + _pointwise(found[-1].plane.pointwise))


def spectrum(subject: Subject, player: str, cfg: ViewConfig) -> View:
    """The spectrum of the loss's Hessian at the checkpoint."""
    found = spectrum_of(subject.objectives[player], _generator(cfg, "spectrum", player))
    largest, lowest = found.top[0], found.bottom[0]
    heading = (
        f"Spectrum of the Hessian of {_whose(player)}",
        f"{subject.place}; loss on {subject.batch}",
        f"{found.size:,} eigenvalues from {plain_number(lowest)} to {plain_number(largest)}, "
        f"trace {plain_number(found.trace)} ± {plain_number(found.trace_error)}, "
        f"negative mass {found.negative_mass:.1%}",
    )
    numbers = {
        "size": found.size,
        "largest": found.top,
        "lowest": found.bottom,
        "trace": found.trace,
        "trace_error": found.trace_error,
        "negative_mass": found.negative_mass,
        "gradient_norm": found.gradient_norm,
        "nodes": found.density.nodes.tolist(),
        "weights": found.density.weights.tolist(),
    }
    line = (
        f"eigenvalues {plain_number(lowest)} to {plain_number(largest)}, trace {plain_number(found.trace)}, "
        f"negative mass {found.negative_mass:.1%}"
    )
    return View(draw_spectrum(found, heading), numbers, line)


def game(subject: Subject, cfg: ViewConfig) -> View:
    """Both players' losses over one direction of each.

    Raises:
        ValueError: the run has no two players.
    """
    if len(subject.game) != 2:
        raise ValueError("a picture of the game needs two players")
    any_one = next(iter(subject.game.values()))
    generator = _generator(cfg, "game", "")
    directions = torch.stack([_of_player(any_one, player, subject, generator) for player in subject.game])
    x = _line(cfg)
    found = {player: surface_of(objective, directions, x, x) for player, objective in subject.game.items()}
    heading = (
        "The game: both losses over one direction of each player",
        f"{subject.place} (star); {subject.batch}",
        f"one {FILTERS.removesuffix('s')} of each player's parameters, 1 = as long as its filters; below: "
        "where both go, each down its own loss",
    )
    numbers: dict[str, object] = {player: _numbers(own) for player, own in found.items()}
    line = "; ".join(f"{player} {_extent(own)}" for player, own in found.items())
    pointwise = next((own.pointwise for own in found.values() if own.pointwise), None)
    return View(draw_game(found, heading), numbers, line + _pointwise(pointwise))


VIEWS: dict[str, Callable[[Subject, str, ViewConfig], View]] = {
    "slices": slices,
    "surface": surface,
    "path": path,
    "walk": walk,
    "spectrum": spectrum,
}


def _of_player(pair: Objective, player: str, subject: Subject, kind: torch.Generator) -> Tensor:
    """A random direction of one player's parameters as one of both players': the other's part is 0."""
    objective = subject.objectives[player]
    flat = filter_normalised(objective, kind)
    own = dict(zip(objective.names, flat.split([p.numel() for p in objective.parameters]), strict=True))
    pieces = [
        own[name.removeprefix(f"{player}.")] if name.startswith(f"{player}.") else flat.new_zeros(p.numel())
        for name, p in zip(pair.names, pair.parameters, strict=True)
    ]
    return torch.cat(pieces)


def _generator(cfg: ViewConfig, *purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(seed_for(cfg.seed, "landscape", *purpose))


def _line(cfg: ViewConfig) -> Tensor:
    return torch.linspace(-cfg.span, cfg.span, cfg.grid, dtype=torch.float64)


def _around(coordinates: Tensor, grid: int) -> Tensor:
    """An axis that shows all coordinates, with a margin."""
    low, high = float(coordinates.min()), float(coordinates.max())
    margin = MARGIN * (high - low) or 1.0
    return torch.linspace(low - margin, high + margin, grid, dtype=torch.float64)


def _whose(player: str) -> str:
    return f"the {player or 'agent'}"


def _extent(found: Surface) -> str:
    finite = found.values[found.values.isfinite()]
    if not len(finite):
        return "nowhere finite"
    lost = found.values.numel() - len(finite)
    rows, columns = found.values.shape
    least, most = (plain_number(float(value)) for value in (finite.min(), finite.max()))
    return f"{least} to {most} on {columns} x {rows} points" + (f", not finite at {lost}" if lost else "")


def _numbers(found: Surface) -> dict[str, object]:
    return {"x": found.x.tolist(), "y": found.y.tolist(), "losses": found.values.tolist()}


def _pointwise(pointwise: str | None) -> str:
    return "" if pointwise is None else f" (point by point: {pointwise[:80]})"
