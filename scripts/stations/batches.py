"""Stochastic, mini-batch, full: a worse direction that costs less."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from core.descend.batches import Batch, Full, Minibatch, Stochastic
from core.descend.objective_descent import ObjectiveDescent
from core.descend.objectives import Logistic
from core.descend.pictures.maps import draw_ground
from core.draw.figure import label_ends
from core.draw.palette import Look
from core.gradients import GradientStep
from core.noise import per_sample_gradients
from core.numbers import number

from .station import CPU, Station

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS: dict[str, Batch] = {
    "one sample": Stochastic(),
    "32 samples": Minibatch(size=32),
    "all samples": Full(),
}
RATE, PASSES, SHOWN, DRAWN = 0.1, 10, 40, 400
LENGTH = 0.3  # of an arrow, for a gradient of length 1
BOX = ((-2.7, -0.7), (-0.2, 1.8))


def station(rate: float = RATE) -> Station:
    """Directions at the start, then as many samples for each kind of gradient."""
    objective = Logistic()
    descents = {name: ObjectiveDescent(objective, kind, None, 1, CPU) for name, kind in KINDS.items()}
    first = descents["all samples"]
    place, full, total = first.point().numpy(), first.gradient(), len(first.data.x)
    single = torch.cat([g.flatten(1) for g in per_sample_gradients(first.frozen()).values()], 1)
    few = descents["32 samples"].draws(DRAWN, "tour")
    right_way = [float(((g @ full) > 0).double().mean()) for g in (single, few)]
    with torch.random.fork_rng(devices=[]):
        seen = {name: spent(descent, rate) for name, descent in descents.items()}
    losses = [
        number(loss[total // d.samples])
        for d, (_, loss) in zip(descents.values(), seen.values(), strict=True)
    ]

    def draw(look: Look, left: "Axes", right: "Axes") -> None:
        plane = first.plane_function()
        assert plane is not None
        draw_ground(look, left, plane, BOX)
        hues = look.colours(KINDS)
        for (name, hue), drawn in zip(hues.items(), (single, few, full[None]), strict=True):
            ways = -LENGTH * drawn[:SHOWN].numpy()
            width, order = (0.012, 6) if len(ways) == 1 else (0.005, 4)
            left.quiver(*(np.full(len(ways), v) for v in place), *ways.T, angles="xy", scale_units="xy",
                        scale=1, color=hue, width=width, zorder=order, label=name)  # fmt: skip
        left.plot(*place, "o", color="white", markeredgecolor=look.ink, markersize=6, zorder=7)
        left.set_title(f"downhill, by {SHOWN} gradients of each kind")
        right.set_title("loss against samples looked at")
        for name, hue in hues.items():
            right.semilogx(seen[name][0][1:], seen[name][1][1:], color=hue, linewidth=2)
        right.set_xlabel("samples")
        label_ends(right, [(seen[name][1][-1], name, hue) for name, hue in hues.items()])

    return Station(
        title="Stochastic, mini-batch, full",
        idea="The loss of a network is a mean over samples, and so is its gradient. The mean over all "
        "samples is exact and as expensive as they are many; that over a few points roughly the same way "
        "for a small part of the price; that of a single one may even point uphill. All three are right on "
        "average.",
        law="E[gᵢ] = ∇L: a random sample's gradient has the full gradient as its mean",
        source="Robbins and Monro 1951, Annals of Mathematical Statistics 22",
        sentence=f"Of the gradients of single samples {100 * right_way[0]:.0f} % point to the same side as "
        f"the full one, of those of 32 samples {100 * right_way[1]:.0f} %; yet one pass over the {total} "
        f"samples brings the loss from {number(seen['one sample'][1][0])} to {losses[0]} in steps of one "
        f"sample, to {losses[1]} in steps of 32, and to {losses[2]} in one step of all.",
        command='python scripts/descend.py objective=logistic "batches=[stochastic,minibatch,full]" '
        "optimizer=sgd steps=500",
        draw=draw,
    )


def spent(descent: ObjectiveDescent, rate: float) -> tuple[list[int], list[float]]:
    """Train for PASSES; samples looked at, and the loss over all, before and after each step."""
    step = GradientStep(descent.named, torch.optim.SGD(descent.parameters, lr=rate))
    whole = descent.frozen()
    seen, losses = [0], [float(whole().detach())]
    for _ in range(PASSES * (len(descent.data.x) // descent.samples)):
        step(descent.next())
        seen.append(descent.seen)
        losses.append(float(whole().detach()))
    return seen, losses
