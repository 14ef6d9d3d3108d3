"""`gradgan.networks`: shapes, scales at initialisation, independence of samples, and what is refused."""

import pytest
import torch

from gradgan.networks import Network, Shape
from gradgan.networks.dcgan import DCGAN
from gradgan.networks.layers import convolution, doubling, halving, linear
from gradgan.networks.mlp import MLP

SMALL = DCGAN(width=4, max_width=8, batch_norm=False)
PAIRS = [
    (MLP(width=16, depth=2, slope=0.0), (2,)),
    (MLP(width=16, depth=1, slope=0.2), (1, 8, 8)),
    (SMALL, (1, 8, 8)),
    (SMALL, (3, 20, 20)),
    (SMALL, (1, 28, 28)),
    (DCGAN(width=4, max_width=8, batch_norm=True), (3, 32, 32)),
]


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("network", "shape"), PAIRS)
def test_a_pair_maps_latents_to_samples_and_samples_to_logits(network: Network, shape: Shape) -> None:
    generator = network.generator(5, shape, random())
    fake = generator(torch.randn(3, 5, generator=random()))
    assert fake.shape == (3, *shape)
    assert network.discriminator(shape, random())(fake).shape == (3,)
    if len(shape) == 3:
        assert fake.abs().max() < 1


@pytest.mark.parametrize(("network", "shape"), PAIRS)
def test_the_discriminator_judges_each_sample_alone(network: Network, shape: Shape) -> None:
    discriminator = network.discriminator(shape, random()).double()
    x = torch.randn(4, *shape, generator=random(), dtype=torch.float64)
    alone = torch.cat([discriminator(x[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(discriminator(x), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("network", "shape"), PAIRS)
def test_the_same_generator_gives_the_same_weights_and_the_global_one_is_left_alone(
    network: Network, shape: Shape
) -> None:
    before = torch.get_rng_state()
    one, two = (network.generator(5, shape, random(3)).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = network.generator(5, shape, random(4)).state_dict()
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", ["linear", "convolution", "halving", "doubling"])
def test_a_layer_with_unit_gain_keeps_the_variance_of_its_input(kind: str) -> None:
    """With the leaky ReLU's gain sqrt(2 / 1.04), unit variance in becomes 1.92 out."""
    layers = {"linear": linear, "convolution": convolution, "halving": halving, "doubling": doubling}
    layer = layers[kind](64, 64, random())
    shape = (64,) if kind == "linear" else (64, 16, 16)
    out = layer(torch.randn(200, *shape, generator=random(1)))
    if kind != "linear":
        out = out[..., 2:-2, 2:-2]  # the border has fewer inputs
    assert out.var().item() == pytest.approx(2 / 1.04, rel=0.08)


def test_gradients_of_both_networks_agree_with_finite_differences() -> None:
    network = DCGAN(width=2, max_width=2, batch_norm=False)
    generator = network.generator(3, (1, 8, 8), random()).double()
    discriminator = network.discriminator((1, 8, 8), random(1)).double()
    z = torch.randn(2, 3, generator=random(2), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: discriminator(generator(z)), z)


def test_channels_double_with_each_halving_up_to_the_bound() -> None:
    discriminator = DCGAN(width=4, max_width=12, batch_norm=False).discriminator((3, 32, 32), random())
    widths = [m.out_channels for m in discriminator.modules() if isinstance(m, torch.nn.Conv2d)]
    assert widths == [4, 8, 12, 12]


@pytest.mark.parametrize("shape", [(2,), (1, 9, 9), (1, 30, 30), (1, 64, 64), (3, 32, 16)])
def test_dcgan_refuses_other_samples_and_names_its_sizes(shape: Shape) -> None:
    with pytest.raises(ValueError, match="takes square images of 8, 10, 12, 14, 16, 20, 24, 28, 32 pixels"):
        SMALL.check(shape)


def test_sizes_out_of_range_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="depth must be an integer >= 1, got 0"):
        MLP(width=8, depth=0, slope=0.0)
    with pytest.raises(ValueError, match=r"max_width must be at least width \(8\), got 4"):
        DCGAN(width=8, max_width=4, batch_norm=False)
