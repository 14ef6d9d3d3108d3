"""Local minima and saddles: where the gradient vanishes, and what kind of place that is."""

from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from core.config import Component
from core.descend.basins import basins, reached
from core.descend.functions import DoubleWell, SixHumpCamel
from core.descend.pictures.maps import draw_field, draw_ground, draw_marks, draw_path, heights, levels_of
from core.draw.figure import framed
from core.draw.palette import LETTER, TINTS, Look
from core.numbers import number, percent
from core.optim.escape import PerturbedSGD, PerturbedSGDConfig
from core.optim.schedules import Constant, Schedule

from .station import Station, descended, plane_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RATE, STEPS = 0.02, 400
WELL_RATE, WELL_STEPS, RIDGE = 0.05, 400, (0.0, 1.0)
RADIUS = 0.01  # of the ball that the noise is drawn from


def station(radius: float = RADIUS) -> Station:
    """Where 3,600 starts lead to, and what a saddle does to a descent."""
    camel, well = SixHumpCamel(), DoubleWell()
    plane = plane_of(camel)
    sgd, always = Component(torch.optim.SGD, {"lr": RATE}, "optimizer"), cast(Schedule, Constant())
    ends = basins(camel, sgd, None, always, STEPS)
    assert not isinstance(ends, str)
    minima, numbers = reached(plane, {"": ends})
    values = camel(minima)
    there = numbers[""]
    deepest = torch.isin(there, (values <= values.min() + 1e-6).nonzero())
    plain = descended(well, partial(torch.optim.SGD, lr=WELL_RATE), WELL_STEPS, RIDGE)
    noise = PerturbedSGDConfig(lr=WELL_RATE, radius=radius, threshold=1e-3, interval=WELL_STEPS, seed=1)
    shaken = descended(well, partial(PerturbedSGD, noise), WELL_STEPS, RIDGE)
    value, kind = plain.measure()
    assert kind is not None

    def draw(look: Look, left: "Axes", right: "Axes") -> None:
        from matplotlib.colors import ListedColormap

        (west, east), (south, north) = camel.domain
        tints = [look.pale, *TINTS[: len(minima)]]
        left.imshow(
            np.maximum(there.numpy(), -1), cmap=ListedColormap(tints), vmin=-1.5, vmax=len(minima) - 0.5,
            origin="lower", extent=(west, east, south, north), aspect="auto",
        )  # fmt: skip
        x, y, height = heights(plane, camel.domain, 200)
        levels = levels_of(height)[::2]
        left.contour(x, y, height, levels, colors=LETTER, linewidths=0.4, linestyles="solid", alpha=0.35)
        for place, depth in zip(minima.tolist(), values.tolist(), strict=True):
            text = f"{depth:.2f}".replace("-", "−")
            left.annotate(text, place, ha="center", va="center", weight="bold", color=LETTER)
        left.set_title("each start in the colour of its end")
        framed(left)
        draw_ground(look, right, plane_of(well), well.domain)
        draw_field(look, right, plane_of(well), well.domain)
        draw_marks(look, right, plane_of(well))
        paths = [descent.trajectory(name) for descent, name in ((shaken, "with noise"), (plain, "plain"))]
        for path, hue in zip(paths, look.colours("ab").values(), strict=True):
            draw_path(look, right, path, hue, below=0)
        right.set_title("two wells and the pass between them")
        shown = [h for h in right.get_legend_handles_labels()[0] if ":" in str(h.get_label())]
        right.legend(handles=shown, loc="lower right")

    at, down = (", ".join(number(round(v, 3) + 0.0) for v in d.x.tolist()) for d in (plain, shaken))
    curves = " and ".join(number(v) for v in kind.eigenvalues)
    return Station(
        title="Local minima and saddles",
        idea="A descent stops where the gradient is zero. If every curvature there is positive, that is a "
        "minimum, but perhaps not the deepest: where one starts decides in which one ends. If some are "
        "negative, it is a saddle, a pass between two valleys: there is a way down, but the gradient does "
        "not show it.",
        law="∇f = 0 and all λ > 0: a minimum; some λ < 0 < others: a saddle",
        source="Dauphin et al. 2014, arXiv:1406.2572; escape by noise: Jin et al. 2017, arXiv:1703.00887",
        sentence=f"Of 3,600 starts on the six-hump camel, {percent(float(deepest.double().mean()))} end in "
        f"the two deepest of its {len(minima)} minima, the others in shallower ones; and from the ridge "
        f"between two wells a descent ends at the {kind.kind} ({at}) with the curvatures {curves}, from "
        f"which a push of at most {radius:g} leads down to ({down}), from {number(value)} to "
        f"{number(round(shaken.measure()[0], 6))}.",
        command='python scripts/descend.py "optimizers=[sgd,perturbed_sgd]" function=double_well '
        '"start=[0,1]" optimizers.perturbed_sgd.interval=1000',
        draw=draw,
    )
