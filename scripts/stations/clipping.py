"""Clipping: a wall in the landscape throws a descent away, unless its steps have a longest length."""

import math
from functools import partial
from typing import TYPE_CHECKING

import torch

from core.curvature.critical import derivatives
from core.descend.functions import Beale
from core.descend.pictures.maps import draw_ground, draw_marks, draw_path
from core.draw.palette import Look
from core.gradients import GlobalNorm, GradientView, Value
from core.numbers import number

from .station import Station, descended, plane_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

START, RATE, STEPS, LONGEST = (3.5, 3.0), 0.01, 2000, 5.0
BOX = ((-0.5, 4.5), (-1.0, 3.5))


def station(longest: float = LONGEST) -> Station:
    """The same descent with and without clipping, and what two ways of clipping do to a direction."""
    function = Beale()
    _, gradient, _ = derivatives(function, torch.tensor(START, dtype=torch.float64))
    sgd = partial(torch.optim.SGD, lr=RATE)
    plain = descended(function, sgd, 2, START)
    clipped = descended(function, sgd, STEPS, START, [GlobalNorm(max_norm=longest)])
    path = clipped.trajectory("clipped")
    turned = []
    for transform in (GlobalNorm(max_norm=longest), Value(max_value=longest)):
        changed = gradient.clone()
        transform(GradientView(["x"], [torch.nn.Parameter(changed)], [changed]), {})
        cosine = float(torch.cosine_similarity(changed, gradient, dim=0))
        turned.append(round(math.degrees(math.acos(min(1.0, cosine))), 1))
    _, kind = clipped.measure()
    assert kind is not None

    def draw(look: Look, left: "Axes", right: "Axes") -> None:
        draw_ground(look, left, plane_of(function), BOX)
        draw_marks(look, left, plane_of(function))
        hue, other = look.colours(["clipped", "plain"]).values()
        draw_path(look, left, plain.trajectory("plain"), other, below=0)
        draw_path(look, left, path, hue, below=0)
        left.set(xlim=BOX[0], ylim=BOX[1])
        left.set_title("clipped (blue), and the first plain step")
        right.set_title("length of the gradient on the way")
        right.loglog(range(1, len(path.gradient_norm) + 1), path.gradient_norm, color=hue, linewidth=2)
        right.axhline(longest, color=look.ink, linewidth=0.9, linestyle=":", label="longest let through")
        right.set_xlabel("step")
        right.legend()

    away = number(float(plain.x.detach().norm()))
    place = ", ".join(f"{v:.2g}" for v in clipped.x.tolist())
    return Station(
        title="Clipping",
        idea="Here and there a landscape has a wall, where the gradient is thousands of times as long as "
        "elsewhere. One step of that length undoes everything. Clipping shortens a gradient that is longer "
        "than a limit and leaves its direction; clipping every number by itself also turns it.",
        law="g ← g min(1, c/|g|): no step is longer than η c",
        source="Pascanu et al. 2013, arXiv:1211.5063, algorithm 1",
        sentence=f"At ({START[0]:g}, {START[1]:g}) on a wall of Beale's function the gradient is "
        f"{number(float(gradient.norm()))} long: two plain steps with a learning rate of {RATE} end {away} "
        f"away, while steps of at most {RATE * longest:g} come to the {kind.kind} at ({place}); clipping "
        f"the length turned the gradient by {turned[0]:g}°, clipping each number by {turned[1]:g}°.",
        command='python scripts/descend.py function=beale "start=[3.5,3]" optimizer=sgd optimizer.lr=0.01 '
        "clipper=global_norm clipper.max_norm=5",
        draw=draw,
    )
