"""`gradgan.evaluation.cost`: multiply-adds against counts by hand, and that counting changes nothing."""

import pytest
import torch

from gradgan.evaluation.cost import Cost, cost
from gradgan.game.players import make_players
from gradgan.networks import Network
from gradgan.networks.conditioning import Projection
from gradgan.networks.dcgan import DCGAN
from gradgan.networks.mlp import MLP
from gradgan.networks.r3gan import R3GAN
from gradgan.networks.resnet import ResNet
from gradgan.networks.stylegan2 import StyleGAN2

WIDE = {"width": 4, "max_width": 8}


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def networks(*, spectral_norm: bool) -> list[Network]:
    return [
        DCGAN(**WIDE, batch_norm=True, spectral_norm=spectral_norm),
        ResNet(**WIDE, batch_norm=True, spectral_norm=spectral_norm),
        StyleGAN2(**WIDE, style_size=6, mapping_depth=2, mapping_lr=0.01, spectral_norm=spectral_norm),
        R3GAN(**WIDE, blocks=1, expansion=2, group_size=4, spectral_norm=spectral_norm),
    ]


def test_perceptrons_cost_a_multiply_add_for_each_weight() -> None:
    network = MLP(width=7, depth=3, slope=0.0, spectral_norm=False)
    generator, discriminator = make_players(network, None, 5, (1, 8, 8), None, random(), random())
    inside = 2 * 7 * 7
    assert cost(generator, torch.zeros(4, 5)) == Cost(
        parameters=(5 * 7 + inside + 7 * 64) + (3 * 7 + 64), multiply_adds=5 * 7 + inside + 7 * 64
    )
    assert cost(discriminator, torch.zeros(4, 1, 8, 8)) == Cost(
        parameters=(64 * 7 + inside + 7) + (3 * 7 + 1), multiply_adds=64 * 7 + inside + 7
    )


def test_convolutions_cost_their_kernel_for_each_pixel() -> None:
    """3 x 32 x 32 pixels: 4 channels at 16, 8 at 8, 8 at 4."""
    network = DCGAN(**WIDE, batch_norm=False, spectral_norm=False)
    generator, discriminator = make_players(network, None, 5, (3, 32, 32), None, random(), random())
    down = 16 * 3 * 4 * 16**2 + 16 * 4 * 8 * 8**2 + 16 * 8 * 8 * 4**2 + 8 * 4**2
    assert cost(discriminator, torch.zeros(2, 3, 32, 32)) == Cost(
        parameters=(16 * 3 * 4 + 4) + (16 * 4 * 8 + 8) + (16 * 8 * 8 + 8) + (8 * 16 + 1), multiply_adds=down
    )
    # A transposed convolution spreads its kernel at each pixel that comes in.
    up = 5 * 8 * 4**2 + 16 * 8 * 8 * 4**2 + 16 * 8 * 4 * 8**2 + 16 * 4 * 3 * 16**2
    assert cost(generator, torch.zeros(2, 5)).multiply_adds == up


@pytest.mark.parametrize("index", range(4))
def test_neither_the_batch_nor_spectral_norm_changes_the_cost_of_a_sample(index: int) -> None:
    costs = set()
    for spectral_norm in (False, True):
        network = networks(spectral_norm=spectral_norm)[index]
        players = make_players(network, Projection(), 5, (1, 16, 16), 3, random(), random())
        for size in (1, 3):
            labels = torch.zeros(size, dtype=torch.int64)
            costs.add(
                (
                    cost(players[0], torch.ones(size, 5), labels),
                    cost(players[1], torch.ones(size, 1, 16, 16), labels),
                )
            )
    assert len(costs) == 1


@pytest.mark.parametrize("index", range(4))
def test_counting_changes_nothing(index: int) -> None:
    players = make_players(
        networks(spectral_norm=True)[index], None, 5, (1, 16, 16), None, random(), random()
    )
    inputs = [torch.ones(2, 5), torch.ones(2, 1, 16, 16, requires_grad=True)]
    players[1].body.eval()
    generator_state = torch.get_rng_state()
    for player, x in zip(players, inputs, strict=True):
        before = {name: value.clone() for name, value in player.state_dict().items()}
        modes = [module.training for module in player.modules()]
        cost(player, x)
        assert all(torch.equal(value, before[name]) for name, value in player.state_dict().items())
        assert [module.training for module in player.modules()] == modes
        assert all(p.grad is None and p.requires_grad for p in player.parameters())
    assert not players[1].body.training
    assert players[1].head.training
    assert torch.equal(torch.get_rng_state(), generator_state)


def test_modes_come_back_when_the_module_fails() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3))
    with pytest.raises(RuntimeError):
        cost(module, torch.zeros(1, 5))
    assert module[0].training
    with pytest.raises(ValueError, match="cost wants a batch as its first input"):
        cost(module, None)


@pytest.mark.parametrize(
    ("parameters", "multiply_adds", "line"),
    [
        (1_234_567, 34_512_345, "generator 1.2 M parameters, 34.5 M multiply-adds a sample"),
        (7, 999, "generator 7 parameters, 999 multiply-adds a sample"),
        (999_960, 1_000, "generator 1.0 M parameters, 1.0 k multiply-adds a sample"),
        (120_400, 2_500_000_000, "generator 120 k parameters, 2.5 G multiply-adds a sample"),
        (99_949, 99_960, "generator 99.9 k parameters, 100 k multiply-adds a sample"),
        (0, 10**13, "generator 0 parameters, 10.0 T multiply-adds a sample"),
    ],
)
def test_costs_read_as_one_line(parameters: int, multiply_adds: int, line: str) -> None:
    assert Cost(parameters=parameters, multiply_adds=multiply_adds).line("generator") == line
