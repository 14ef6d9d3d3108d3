"""Momentum, RMSprop, Adam: what each does about a valley that is steep across and flat along."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from core.descend.functions import Quadratic
from core.descend.pictures.maps import draw_ground, draw_path
from core.draw.figure import label_ends
from core.draw.palette import Look

from .station import Station, descended, plane_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEEP = 100.0  # curvature across the valley, over that along it
START = (1.0, 0.4)
STEPS, FROM = 400, 200  # in all, and from which on the shrinking is measured
SHOWN, ON_MAP = 150, 30  # steps in the picture
BOX = ((-0.5, 1.2), (-0.9, 0.9))


def optimizers(steep: float) -> dict[str, Callable[..., torch.optim.Optimizer]]:
    """The first two with the best rates there are for a quadratic, the others with first steps of 0.1."""
    root = steep**0.5
    return {
        "gradient descent": partial(torch.optim.SGD, lr=2 / (1 + steep)),
        "momentum": partial(torch.optim.SGD, lr=4 / (1 + root) ** 2, momentum=((root - 1) / (root + 1)) ** 2),
        "RMSprop": partial(torch.optim.RMSprop, lr=0.01),
        "Adam": partial(torch.optim.Adam, lr=0.1),
    }


def station(steep: float = STEEP) -> Station:
    """The first step, and how fast the distance shrinks."""
    function = Quadratic(condition_number=steep)
    paths = {
        name: descended(function, make, STEPS, START).trajectory(name)
        for name, make in optimizers(steep).items()
    }
    points = {name: path.path for name, path in paths.items() if path.path is not None}
    distances = {name: way.norm(dim=1) for name, way in points.items()}
    first = {name: [f"{abs(v):.3g}" for v in (way[1] - way[0]).tolist()] for name, way in points.items()}
    rate = {name: float((d[-1] / d[FROM]) ** (1 / (STEPS - FROM))) for name, d in distances.items()}

    def draw(look: Look, left: "Axes", right: "Axes") -> None:
        draw_ground(look, left, plane_of(function), BOX)
        right.set_title("distance to the minimum")
        hues = look.colours(paths)
        for i, (name, hue) in enumerate(hues.items()):
            first_steps = replace(paths[name], path=points[name][: ON_MAP + 1])
            draw_path(look, left, first_steps, hue, below=(len(hues) - 1 - i) // 2)
            right.semilogy(distances[name][: SHOWN + 1], color=hue, linewidth=2)
        left.set(xlim=BOX[0], ylim=BOX[1])
        left.set_title(f"a valley {steep:g} times as steep across")
        right.set_xlabel("step")
        label_ends(right, [(float(distances[n][SHOWN]), n, h) for n, h in hues.items()])

    return Station(
        title="Momentum, RMSprop, Adam",
        idea="Across a narrow valley the gradient is large, along it small, so no single learning rate "
        "suits both: plain descent swings from wall to wall and creeps along the floor. Momentum adds up "
        "past gradients: what swings cancels, what agrees grows. RMSprop and Adam divide each variable's "
        "gradient by its usual size, so that every variable moves equally far; Adam has both.",
        law="distance per step: (κ − 1)/(κ + 1) without momentum, (√κ − 1)/(√κ + 1) with; Adam's first "
        "step is η sign(g)",
        source="Polyak 1964, USSR Comp. Math. 4; Kingma and Ba 2015, arXiv:1412.6980",
        sentence=f"In a valley {steep:g} times as steep across as along, plain descent first moves "
        f"{first['gradient descent'][0]} along and {first['gradient descent'][1]} across, RMSprop and Adam "
        f"{first['Adam'][0]} both ways; later a plain step leaves {rate['gradient descent']:.2f} of the "
        f"distance, one with momentum {rate['momentum']:.2f}.",
        command='python scripts/descend.py function=quadratic "optimizers=[sgd,momentum,rmsprop,adam]" '
        "optimizers.sgd.lr=0.0198 optimizers.momentum.lr=0.033 steps=200",
        draw=draw,
    )
