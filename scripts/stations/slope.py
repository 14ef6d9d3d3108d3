"""Slope and direction: of all ways down, the negative gradient is the steepest."""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from core.curvature.critical import derivatives
from core.descend.functions import Himmelblau
from core.descend.pictures.maps import draw_field, draw_ground
from core.draw.palette import Look
from core.numbers import number

from .station import Station, plane_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLACE = (0.0, 0.0)
STEP = 1e-6  # in each direction that is tried
BOX = ((-2.0, 3.6), (-1.9, 3.7))


def station(point: tuple[float, float] = PLACE) -> Station:
    """Try every direction, and compare with the gradient."""
    function, place = Himmelblau(), torch.tensor(point, dtype=torch.float64)
    value, gradient, _ = derivatives(function, place)
    degrees = torch.arange(360, dtype=torch.float64)
    ways = torch.stack([degrees.deg2rad().cos(), degrees.deg2rad().sin()], -1)
    slopes = (function(place + STEP * ways) - value) / STEP
    steepest = int(slopes.argmin())
    opposite = float(torch.atan2(-gradient[1], -gradient[0]).rad2deg()) % 360
    length = float(gradient.norm())

    def draw(look: Look, left: "Axes", right: "Axes") -> None:
        draw_ground(look, left, plane_of(function), BOX)
        draw_field(look, left, plane_of(function), BOX)
        for way, colour, name in ((gradient, look.orange, "gradient"), (-gradient, look.blue, "downhill")):
            x, y = (1.6 * way / length).tolist()
            left.annotate("", (x, y), point, arrowprops={"color": colour, "width": 3, "headwidth": 11})
            left.annotate(name, (x, y), (12, 0), textcoords="offset points", va="center", color=colour,
                          weight="bold", path_effects=look.cased(3))  # fmt: skip
        left.plot(*point, "o", color=look.ink, markeredgecolor="white", markersize=9, zorder=6)
        left.set_title("the field of negative gradients")
        right.set_title("slope in each direction")
        curve = length * np.cos(np.deg2rad(degrees.numpy() - opposite - 180))
        right.plot(degrees, curve, color=look.faint, linewidth=1.2, label="|∇f| cos θ")
        right.plot(degrees[::10], slopes[::10], "o", color=look.blue, markersize=5, label="measured")
        right.plot(steepest, slopes[steepest], "*", color=look.orange, markersize=17, markeredgecolor="white",
                   label="the steepest way down")  # fmt: skip
        right.set_xticks([0, 90, 180, 270, 360])
        right.set_xlabel("direction, degrees")
        right.legend(loc="lower right")

    flat = int(slopes.abs().argmin())
    apart = abs(math.remainder(flat - opposite, 180))
    return Station(
        title="Slope and direction",
        idea="A gradient is a vector with one number for each variable. It answers two questions at once: "
        "in which direction does the function rise fastest, and how fast? Whoever wants to go down walks "
        "against it.",
        law="∂f/∂d = ∇f · d = |∇f| cos θ for a direction d of length 1 at the angle θ to ∇f",
        source="the chain rule; Cauchy 1847, Comptes rendus 25, descended by it first",
        sentence=f"At ({point[0]:g}, {point[1]:g}), of 360 directions, Himmelblau's function falls fastest "
        f"towards {steepest}°, by {number(-float(slopes[steepest]))} for each unit of length; the negative "
        f"gradient ({', '.join(number(-v) for v in gradient.tolist())}) points towards {opposite:.1f}° and "
        f"is {number(length)} long, and at {apart:.0f}° to it the function hardly changes.",
        command='python scripts/descend.py function=himmelblau steps=0 "start=[0,0]"',
        draw=draw,
    )
