"""Vanishing and exploding gradients: a product of as many factors as there are layers, and what cures it."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from core.descend.objectives import Data, DeepLinear, DeepSigmoid, DigitsMLP, Supervised
from core.draw.figure import label_ends
from core.draw.palette import Look
from core.gradients import Objective
from core.numbers import number

from .station import Station

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, GAIN = 32, 1.5
DEPTHS = (2, 4, 8, 12, 16, 20, 24)
SHOWN = 20  # the depth of the right panel
SEED = 1


class Around(nn.Module):
    """x + layer(x): a way around a layer."""

    def __init__(self, *layer: nn.Module) -> None:
        super().__init__()
        self.layer = nn.Sequential(*layer)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output added to its input."""
        return x + self.layer(x)


def with_ways_around(network: nn.Module) -> nn.Sequential:
    """The same layers, each but the first and the last with a way around it."""
    layers = list(network.children())
    inner = [Around(*layers[i : i + 2]) for i in range(2, len(layers) - 1, 2)]
    return nn.Sequential(*layers[:2], *inner, layers[-1])


def norms(kind: str, depth: int, gain: float = GAIN) -> list[float]:
    """Length of the gradient of each layer's weight over all samples, first layer first, before any step."""
    objective, data = objective_of(kind, depth, gain)
    network = objective.make(data, torch.Generator().manual_seed(SEED))
    if kind == "residual":
        network = with_ways_around(network)
    loss = Objective(network, objective.loss, (data.x, data.y))
    gradients = torch.autograd.grad(loss(), loss.parameters)
    return [float(g.norm()) for n, g in zip(loss.names, gradients, strict=True) if n.endswith("weight")]


def objective_of(kind: str, depth: int, gain: float) -> tuple[Supervised, Data]:
    """The objective of a kind of network, with so many hidden layers, and its data."""
    made: dict[str, Supervised] = {
        "sigmoids": DeepSigmoid(depth=depth, width=WIDTH),
        "large weights": DeepLinear(depth=depth + 1, width=WIDTH, gain=gain),
        "weights of gain 1": DeepLinear(depth=depth + 1, width=WIDTH),
        "tanh": DigitsMLP(hidden_sizes=(WIDTH,) * depth),
        "residual": DeepSigmoid(depth=depth, width=WIDTH),
    }
    return made[kind], made[kind].load()


KINDS = ("sigmoids", "large weights", "weights of gain 1", "tanh", "residual")


def station(gain: float = GAIN) -> Station:
    """The gradient of the first layer against depth, and that of every layer."""
    found = {kind: {depth: norms(kind, depth, gain) for depth in DEPTHS} for kind in KINDS}
    first = {kind: [of[depth][0] for depth in DEPTHS] for kind, of in found.items()}
    factor = {k: (v[-1] / v[0]) ** (1 / (DEPTHS[-1] - DEPTHS[0])) for k, v in first.items()}
    cured = [number(factor[kind]) for kind in KINDS[2:]]

    def draw(look: Look, left: "Axes", right: "Axes") -> None:
        left.set_title("gradient of the first layer")
        right.set_title(f"gradient of each of {SHOWN} layers")
        hues = look.colours(KINDS)
        for kind, hue in hues.items():
            left.semilogy(DEPTHS, first[kind], "o-", color=hue, linewidth=2, markersize=4)
            right.semilogy(range(1, SHOWN + 1), found[kind][SHOWN][:SHOWN], color=hue, linewidth=2)
        left.set_xlabel("hidden layers")
        left.set_xticks(DEPTHS)
        right.set_xticks(range(2, SHOWN + 1, 2))
        right.set_xlabel("layer, from the input")
        label_ends(left, [(first[kind][-1], kind, hue) for kind, hue in hues.items()])

    return Station(
        title="Vanishing and exploding",
        idea="On its way back from the loss to the first layer a gradient is multiplied by every layer it "
        "passes. Many factors below 1 leave nothing of it, many above 1 make it huge, and either way the "
        "first layers do not learn. The cures bring the factors to 1: initial weights of the right size, "
        "an activation that is steep at 0, or a way around every layer, a residual connection, by which "
        "the gradient also comes back past it.",
        law="∂L/∂x₀ = J₁ᵀ J₂ᵀ … Jₙᵀ ∂L/∂xₙ, |σ′| ≤ 1/4 for a sigmoid; with a way around, Jₗ = 1 + …",
        source="Glorot and Bengio 2010; Saxe et al. 2014, arXiv:1312.6120; He et al. 2016, arXiv:1512.03385",
        sentence=f"From {DEPTHS[0]} to {DEPTHS[-1]} hidden layers each more of sigmoids multiplies the "
        f"first layer's gradient by {number(factor['sigmoids'])}, down to {number(first['sigmoids'][-1])}, "
        f"and each of weights {gain:g} times too large by {number(factor['large weights'])}, up to "
        f"{number(first['large weights'][-1])}; with weights of gain 1, with tanh or with residual "
        f"connections the factor is {cured[0]}, {cured[1]} or {cured[2]}.",
        command="python scripts/descend.py objective=deep_sigmoid objective.depth=12 batch=minibatch "
        "steps=500",
        draw=draw,
    )
