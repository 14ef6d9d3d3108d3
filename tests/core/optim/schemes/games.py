"""The games of test_games.py and test_schemes.py, and an update written down as a matrix.

x is the generator's parameter, y the discriminator's. The Dirac-GAN has its real data at 0, its fake at x and
D(s) = y s, so D(real) = 0 and D(fake) = xy; its equilibrium is the origin.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from core.gradients import GradientStep
from core.optim.schemes.schemes import Move, Scheme
from core.state import StateDict

H = 0.1
Losses = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # (x, y) to the discriminator's and generator's


class Player(nn.Module):
    """A vector of parameters."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(values, dtype=torch.float64))


@dataclass
class Game:
    """Two players, their steps, and the state that a trainer would keep."""

    losses: Losses
    x: Player = field(default_factory=lambda: Player(1.0))
    y: Player = field(default_factory=lambda: Player(1.0))
    lr: float = H
    optimizer: type[torch.optim.Optimizer] = torch.optim.SGD
    state: StateDict = field(default_factory=dict)
    fails: Callable[[int, str], bool] = lambda _, __: False  # (number of the evaluation, player): NaN there
    evaluations: int = 0

    def __post_init__(self) -> None:
        self.generator = GradientStep(self.x, self.optimizer(self.x.parameters(), lr=self.lr), name="x")
        self.discriminator = GradientStep(self.y, self.optimizer(self.y.parameters(), lr=self.lr), name="y")

    def closure(self, player: str) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self.losses(self.x.p, self.y.p)[player == "x"].sum()
        self.evaluations += 1
        if self.fails(self.evaluations, player):
            loss = loss * float("nan")
        return loss, {player: loss.detach()}

    def play(self, scheme: Scheme, updates: int = 1) -> None:
        for _ in range(updates):
            scheme(
                Move(self.discriminator, [lambda: self.closure("y")]),
                Move(self.generator, [lambda: self.closure("x")]),
                self.state,
            )

    @property
    def at(self) -> Tensor:
        return torch.cat([self.x.p.detach(), self.y.p.detach()])

    @at.setter
    def at(self, w: Tensor) -> None:
        with torch.no_grad():
            self.x.p.copy_(w[: len(self.x.p)])
            self.y.p.copy_(w[len(self.x.p) :])

    def radius(self) -> float:
        return self.at.norm().item()


def bilinear(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return -x * y, x * y


def minimax(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return softplus(x * y), -softplus(x * y)


def nonsaturating(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The relativistic pairing loss is the same on the Dirac-GAN, where D(real) = 0."""
    return softplus(x * y), softplus(-x * y)


def wasserstein(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x * y, -x * y


def hinge(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return relu(1 + x * y), -x * y


def with_r1(losses: Losses, gamma: float) -> Losses:
    """Plus gamma / 2 |dD/ds|^2 at the real sample, by double backward as a GAN's penalty is."""

    def penalised(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        real = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad((y * real).sum(), real, create_graph=True)
        of_d, of_g = losses(x, y)
        return of_d + gamma / 2 * slope.square(), of_g

    return penalised


def update_matrix(
    scheme: Scheme, losses: Losses, *, lr: float = H, updates: int = 1, size: float = 1.0
) -> np.ndarray:
    """The scheme's update at the origin as a matrix, column by column, of the state it carries along.

    The state is (x, y) and the tensors that the scheme keeps. The map of a bilinear game is linear, so steps
    from the basis vectors are exact; for others take `size` small, central differences leave an error of its
    square.
    """
    game = Game(losses, lr=lr)
    game.at = torch.zeros(2)
    game.play(scheme)  # so that the state exists
    carried = [key for key, value in game.state.items() if isinstance(value, list)]

    def after(state: Tensor) -> Tensor:
        game.at = state[:2]
        game.state.update({key: [state[i : i + 1].clone()] for i, key in enumerate(carried, start=2)})
        game.play(scheme, updates)
        return torch.cat([game.at, *(game.state[key][0] for key in carried)])

    basis = size * torch.eye(2 + len(carried), dtype=torch.float64)
    return torch.stack([(after(e) - after(-e)) / (2 * size) for e in basis], dim=1).numpy()


def factors(matrix: np.ndarray) -> list[complex]:
    return sorted(np.linalg.eigvals(matrix).tolist(), key=lambda z: (-abs(z), z.imag))


def modulus(matrix: np.ndarray) -> float:
    return max(abs(z) for z in factors(matrix))
