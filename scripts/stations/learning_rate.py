"""The learning rate: too small is slow, too large goes out, and curvature says where the border is."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from core.curvature.critical import derivatives
from core.descend.functions import Quadratic
from core.descend.pictures.maps import draw_ground, draw_path
from core.draw.figure import label_ends
from core.draw.palette import Look
from core.numbers import number

from .station import Station, descended, plane_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RATES = (0.02, 0.18, 0.21)
STEPS, SHOWN = 50, 14  # in all, and on the map
BOX = ((-0.2, 1.3), (-1.5, 1.5))


def station(rates: Sequence[float] = RATES) -> Station:
    """One bowl, three rates."""
    function = Quadratic(condition_number=10.0)
    sharpest = float(torch.linalg.eigvalsh(derivatives(function, torch.zeros(2))[2])[-1])
    border = 2 / sharpest
    paths = [descended(function, partial(torch.optim.SGD, lr=rate), STEPS).trajectory("") for rate in rates]
    distances = [path.path.norm(dim=1) for path in paths if path.path is not None]
    ends = [
        f"{number(float(d[-1]))} with a rate of {rate:g}" for d, rate in zip(distances, rates, strict=True)
    ]
    names = [f"{rate:g}" for rate in rates]

    def draw(look: Look, left: "Axes", right: "Axes") -> None:
        draw_ground(look, left, plane_of(function), BOX)
        right.set_title("distance to the minimum")
        hues = look.colours(names)
        for path, distance, hue in zip(paths, distances, hues.values(), strict=True):
            assert path.path is not None
            draw_path(look, left, replace(path, path=path.path[: SHOWN + 1]), hue, below=0)
            right.semilogy(distance, color=hue, linewidth=2)
        left.set(xlim=BOX[0], ylim=BOX[1])
        left.set_title(f"the first {SHOWN} steps of each learning rate")
        right.set_xlabel("step")
        label_ends(right, [(float(d[-1]), n, h) for d, (n, h) in zip(distances, hues.items(), strict=True)])

    return Station(
        title="The learning rate",
        idea="The gradient says where to go, not how far: the step is the gradient times a learning rate. "
        "Short steps take long. Long ones overshoot, and where the overshoot is larger than the distance "
        "that was to go, every step leads further away. How curved the function is decides where that "
        "begins: its curvature in a direction is an eigenvalue λ of the matrix of second derivatives, the "
        "Hessian.",
        law="x ← (1 − η λ) x along every eigenvector: stable while η < 2/λ",
        source="Cohen et al. 2021, arXiv:2103.00065, section 2",
        sentence=f"On a bowl whose largest curvature is {number(sharpest)}, {STEPS} steps from a distance "
        f"of {number(float(distances[0][0]))} end at {', at '.join(ends)}: the border is 2/λ = {border:g}.",
        command="python scripts/descend.py function=quadratic function.condition_number=10 optimizer=sgd "
        "optimizer.lr=0.21 steps=50",
        draw=draw,
    )
