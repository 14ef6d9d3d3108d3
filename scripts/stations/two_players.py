"""Two players who turn round each other: going downhill together is not going downhill."""

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from core.draw.figure import label_ends
from core.draw.palette import Look
from core.gradients import GradientStep, Metrics
from core.numbers import number
from core.optim.schemes.schemes import Alternating, Extragradient, Move, Scheme, Simultaneous
from core.state import StateDict

from .station import Station

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RATE, STEPS = 0.2, 60
SCHEMES: dict[str, Scheme] = {
    "at the same time": Simultaneous(),
    "in turn": Alternating(),
    "a step ahead": Extragradient(),
}


class Player(nn.Module):
    """One number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))


def played(scheme: Scheme, rate: float) -> Tensor:
    """Points (x, y) after every step of both, [STEPS + 1, 2]; x wants x y small, y wants it large."""
    x, y = Player(1.0), Player(0.0)

    def move(player: Player, sign: float) -> Move:
        step = GradientStep(player, partial(torch.optim.SGD, lr=rate)(player.parameters()))

        def loss() -> tuple[Tensor, Metrics]:
            return sign * x.value * y.value, {}

        return Move(step, [loss])

    first, second = move(y, -1.0), move(x, 1.0)
    state: StateDict = {}
    points = [(1.0, 0.0)]
    for _ in range(STEPS):
        scheme(first, second, state)
        points.append((x.value.item(), y.value.item()))
    return torch.tensor(points, dtype=torch.float64)


def station(rate: float = RATE) -> Station:
    """The same game by three orders of moves."""
    paths = {name: played(scheme, rate) for name, scheme in SCHEMES.items()}
    distance = {name: path.norm(dim=1) for name, path in paths.items()}
    factor = {name: float(d[-1] / d[0]) ** (1 / STEPS) for name, d in distance.items()}
    circle = distance["in turn"]

    def draw(look: Look, left: "Axes", right: "Axes") -> None:
        left.set_title("x and y, from the square on")
        right.set_title("distance to the equilibrium")
        hues = look.colours(SCHEMES)
        for name, hue in hues.items():
            left.plot(*paths[name].T, ".-", color=hue, linewidth=1.4, markersize=4)
            right.plot(distance[name], color=hue, linewidth=2)
        left.plot(1, 0, "s", color=look.ink, markeredgecolor="white", markersize=9, zorder=6)
        left.plot(0, 0, "*", color=look.ink, markeredgecolor="white", markersize=15, zorder=6)
        left.set_aspect("equal", adjustable="datalim")
        right.set_xlabel("step of both")
        label_ends(right, [(float(distance[name][-1]), name, hue) for name, hue in hues.items()])

    return Station(
        title="Two players",
        idea="In a game each player has a loss of its own, and each moves the ground under the other: one "
        "descends x y by moving x, the other climbs it by moving y. The joint direction is not the "
        "gradient of anything: it turns around the equilibrium (0, 0), and steps along the tangent of a "
        "circle lead outwards. Moving in turn keeps to a circle; a gradient taken one step ahead points "
        "inwards. Generator and discriminator of a GAN are such a pair.",
        law="distance per step: √(1 + η²) at the same time, 1 in turn, √(1 − η² + η⁴) a step ahead",
        source="Mescheder et al. 2017, arXiv:1705.10461; Gidel et al. 2019, arXiv:1802.10551",
        sentence=f"With steps of {rate:g}, both players who move at the same time multiply their distance "
        f"to the equilibrium by {factor['at the same time']:.4f} at each step and are "
        f"{number(float(distance['at the same time'][-1]))} away after {STEPS}; in turn they stay between "
        f"{number(float(circle.min()))} and {number(float(circle.max()))}; with gradients taken a step "
        f"ahead the factor is {factor['a step ahead']:.4f}.",
        command="python scripts/train_gan.py data=ring update=extragradient optimizer.lr=1e-3",
        draw=draw,
    )
