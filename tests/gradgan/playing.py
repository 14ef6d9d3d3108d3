"""Trainers of small players for the tests, and the pair of the Dirac-GAN."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from core.gradients import GradientStep
from core.optim.averaging import AverageConfig, ExponentialMovingAverage
from core.optim.schedules import Constant, Schedule
from core.optim.schemes.schemes import Scheme
from gradgan.batch import Batch
from gradgan.game.game import Game
from gradgan.game.players import make_players
from gradgan.networks import Network
from gradgan.trainer import Trainer

LATENT = 3


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_trainer(
    players: tuple[nn.Module, nn.Module],
    game: Game,
    scheme: Scheme,
    *,
    lr: float = 0.1,
    schedule: Schedule | None = None,
    latent_size: int = LATENT,
    micro_batches: int = 1,
) -> Trainer:
    generator, discriminator = players
    steps = [
        GradientStep(module, torch.optim.SGD(module.parameters(), lr=lr), name=name)
        for name, module in (("generator", generator), ("discriminator", discriminator))
    ]
    return Trainer(
        generator=generator,
        discriminator=discriminator,
        generator_step=steps[0],
        discriminator_step=steps[1],
        average=ExponentialMovingAverage(AverageConfig(half_life=10.0, ramp_up=None), generator),
        game=replace(game, joint_graph=scheme.needs_joint_graph),
        scheme=scheme,
        schedule=schedule or Constant(),
        latent_size=latent_size,
        random=random(7),
        micro_batches=micro_batches,
    )


def made(network: Network, shape: tuple[int, ...] = (2,)) -> tuple[nn.Module, nn.Module]:
    """An unconditional pair with fixed initial weights."""
    return make_players(network, None, LATENT, shape, None, random(1), random(2))


def in_float64(players: tuple[nn.Module, nn.Module]) -> tuple[nn.Module, nn.Module]:
    """The same pair in float64; latents are float32, as in training, and cast on entry."""
    generator, discriminator = (player.double() for player in players)
    generator.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(), *inputs[1:]))
    return generator, discriminator


def unlabelled(x: Tensor) -> list[Batch]:
    """What `Trainer.update` takes for one batch without labels."""
    return [Batch(x, None)]


class Point(nn.Module):
    """The generator of the Dirac-GAN: all its mass at theta."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([theta], dtype=torch.float64))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.theta.expand(len(z), 1)


class Slope(nn.Module):
    """The discriminator of the Dirac-GAN: D(x) = psi x."""

    def __init__(self, psi: float) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.tensor([psi], dtype=torch.float64))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.psi * x[:, 0]
