"""`gradgan.networks`: shapes, first outputs, independence of samples, second derivatives, what is refused."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gradgan.game.players import Discriminator, make_players
from gradgan.networks import Network, Shape
from gradgan.networks.dcgan import DCGAN
from gradgan.networks.layers import RELU, convolution, doubling, halving, linear, normalise_spectra, summary
from gradgan.networks.mlp import MLP
from gradgan.networks.r3gan import R3GAN, Bottleneck
from gradgan.networks.resnet import DownBlock, ResNet, SumPool, UpBlock
from gradgan.networks.stylegan2 import StyleGAN2

CONVOLUTIONAL = ("dcgan", "resnet", "stylegan2", "r3gan")
DOUBLE = torch.float64


def network(name: str, *, spectral_norm: bool = False, batch_norm: bool = False, width: int = 8) -> Network:
    wide = {"width": width, "max_width": 2 * width, "spectral_norm": spectral_norm}
    match name:
        case "mlp":
            return MLP(width=width, depth=2, slope=0.2, spectral_norm=spectral_norm)
        case "dcgan":
            return DCGAN(**wide, batch_norm=batch_norm)
        case "resnet":
            return ResNet(**wide, batch_norm=batch_norm)
        case "stylegan2":
            return StyleGAN2(**wide, style_size=6, mapping_depth=2, mapping_lr=0.01)
        case _:
            return R3GAN(**wide, blocks=2, expansion=2, group_size=width)


EVERY = [(network("mlp"), (2,)), (network("mlp"), (1, 8, 8))] + [
    (network(name, spectral_norm=spectral_norm, batch_norm=batch_norm), (1, 8, 8))
    for name in CONVOLUTIONAL
    for spectral_norm in (False, True)
    for batch_norm in ([False, True] if name in ("dcgan", "resnet") else [False])
]


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def players(network: Network, shape: Shape, latent_size: int = 5) -> tuple[nn.Module, Discriminator]:
    return make_players(network, None, latent_size, shape, None, random(), random(1))


def smooth_images(count: int, shape: Shape) -> Tensor:
    """As images are: neighbouring pixels alike. White noise would vanish where pixels are averaged."""
    coarse = torch.randn(count, shape[0], 4, 4, generator=random(3))
    return interpolate(coarse, size=shape[1], mode="bilinear") * 0.7


def stirred(module: nn.Module) -> nn.Module:
    """Every parameter moved a little in float64, so that no branch is zero and no bias is."""
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=random(9), dtype=DOUBLE)
    return module


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 20, 20), (1, 28, 28), (3, 48, 48), (3, 128, 128)])
def test_a_pair_maps_latents_to_images_and_images_to_logits(
    name: str, spectral_norm: bool, shape: Shape
) -> None:
    pair = network(name, spectral_norm=spectral_norm)
    generator, discriminator = players(pair, shape)
    z = torch.randn(2, 5, generator=random())
    with torch.no_grad():
        fake = generator(z)
        assert fake.shape == (2, *shape)
        assert discriminator(fake).shape == (2,)
        body, num_features = pair.body(shape, random())
        assert body(fake).shape == (2, num_features)
    if name in ("dcgan", "resnet"):
        assert fake.abs().max() < 1
    assert generator.double()(z.double()).dtype == DOUBLE
    assert discriminator.double()(fake.double()).dtype == DOUBLE


@pytest.mark.parametrize("shape", [(2,), (3, 8, 8)])
def test_perceptrons_take_points_and_images(shape: Shape) -> None:
    generator, discriminator = players(network("mlp"), shape)
    fake = generator(torch.randn(3, 5, generator=random()))
    assert fake.shape == (3, *shape)
    assert discriminator(fake).shape == (3,)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("width", [8, 32])
def test_first_outputs_are_of_order_one_at_every_depth(name: str, width: int) -> None:
    sizes = (8, 128) if width == 8 else (8, 32)
    pair = network(name, width=width)
    logits = {}
    for size in sizes:
        generator, discriminator = players(pair, (3, size, size), latent_size=32)
        with torch.no_grad():
            assert 0.3 < generator(torch.randn(8, 32, generator=random(2))).std().item() < 1.3
        x = smooth_images(16, (3, size, size)).requires_grad_()
        judged = discriminator(x)
        logits[size] = judged.detach().square().mean().sqrt().item()
        assert 0.05 < logits[size] < 2.5
        (gradient,) = torch.autograd.grad(judged.sum(), x)
        assert 5e-3 < gradient.flatten(1).norm(dim=1).mean().item() < 3
    assert 0.1 < logits[sizes[1]] / logits[sizes[0]] < 10


@pytest.mark.parametrize(("pair", "shape"), EVERY)
def test_the_discriminator_judges_each_sample_alone(pair: Network, shape: Shape) -> None:
    discriminator = stirred(players(pair, shape)[1])
    x = torch.randn(3, *shape, generator=random(), dtype=DOUBLE, requires_grad=True)
    logits = discriminator(x)
    for i in range(3):
        (gradient,) = torch.autograd.grad(logits[i], x, retain_graph=True)
        others = [j for j in range(3) if j != i]
        assert gradient[others].abs().max() == 0
        assert gradient[i].abs().max() > 0


@pytest.mark.parametrize(("pair", "shape"), EVERY)
def test_the_same_generator_gives_the_same_weights_and_the_global_one_is_left_alone(
    pair: Network, shape: Shape
) -> None:
    before = torch.get_rng_state()
    for make in (lambda r: pair.generator(5, shape, r), lambda r: pair.body(shape, r)[0]):
        one, other = (make(random(seed)).state_dict() for seed in (3, 4))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(77)  # what the global generator would give next does not matter
            two = make(random(3)).state_dict()
        assert all(torch.equal(one[name], two[name]) for name in one)
        drawn = [n for n in one if n.endswith(("weight", "_u", "_v", "original")) and one[n].ndim > 1]
        drawn += [n for n in one if n.endswith(("._u", "._v", "constant", "maps")) and one[n].numel() > 1]
        differ = {n for n in drawn if not torch.equal(one[n], other[n])}
        zero = {n for n in drawn if not one[n].any()}  # R3GAN's branches
        assert differ == set(drawn) - zero
        assert differ
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("pair", "shape"), EVERY)
def test_penalties_on_the_input_gradient_can_be_differentiated(pair: Network, shape: Shape) -> None:
    """The derivative of mean |dD/dx|^2 along a direction of all parameters, against a central difference."""
    discriminator = stirred(players(pair, shape)[1]).eval()  # spectral norm's vectors stay where they are
    x = 0.5 * torch.randn(3, *shape, generator=random(5), dtype=DOUBLE)
    parameters = [p for p in discriminator.parameters() if p.ndim > 1]
    direction = [torch.randn(p.shape, generator=random(6), dtype=DOUBLE) for p in parameters]

    def penalty() -> Tensor:
        real = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
        return gradient.flatten(1).square().sum(dim=1).mean()

    gradients = torch.autograd.grad(penalty(), parameters)
    assert all(g.isfinite().all() and g.any() for g in gradients)
    slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
    step, values = 1e-7, []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p += sign * step * d
        values.append(penalty().item())
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p -= sign * step * d
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope.item(), rel=1e-4)


@pytest.mark.parametrize("name", ["mlp", *CONVOLUTIONAL])
def test_gradients_of_both_networks_agree_with_finite_differences(name: str) -> None:
    generator, discriminator = players(network(name, width=4), (1, 8, 8), latent_size=3)
    generator, discriminator = stirred(generator), stirred(discriminator)
    z = torch.randn(2, 3, generator=random(2), dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: discriminator(generator(z)), z, eps=1e-7)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_a_channels_last_network_stays_so_between_its_convolutions(name: str) -> None:
    generator, discriminator = (
        player.to(memory_format=torch.channels_last) for player in players(network(name), (3, 32, 32))
    )
    seen: list[str] = []

    def look(module: nn.Module, args: object, out: Tensor) -> None:
        if out.ndim == 4 and out.shape[1] > 1 and out.shape[2] > 1:
            seen.append(type(module).__name__)
            assert out.is_contiguous(memory_format=torch.channels_last), type(module).__name__

    for player in (generator, discriminator):
        for module in player.modules():
            if "Conv" in type(module).__name__:
                module.register_forward_hook(look)
    z = torch.randn(4, 5, generator=random())
    x = generator(z)
    discriminator(x)
    assert len(seen) >= 6
    plain = players(network(name), (3, 32, 32))[0](z)
    torch.testing.assert_close(x, plain, rtol=1e-4, atol=1e-5)


def singular_values(module: nn.Module) -> dict[str, float]:
    """The largest of every weight as it is used."""
    return {
        name: torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item()
        for name, layer in module.named_modules()
        if isinstance(getattr(layer, "weight", None), Tensor) and layer.weight.ndim > 1
    }


@pytest.mark.parametrize("name", ["mlp", *CONVOLUTIONAL])
def test_spectral_norm_brings_every_weight_to_one(name: str) -> None:
    _, discriminator = players(network(name, spectral_norm=True), (1, 8, 8))
    x = torch.randn(1, 1, 8, 8, generator=random())
    with torch.no_grad():
        for _ in range(150):
            discriminator(x)
        discriminator.eval()
        values = singular_values(discriminator)
    weights = [p for p in discriminator.parameters() if p.ndim > 1]
    assert len(values) == len(weights) >= 2
    assert values == pytest.approx(dict.fromkeys(values, 1.0), rel=0.01)
    # Without, they are anything; and no layer scales the weight again after it was normalised.
    plain = singular_values(players(network(name), (1, 8, 8))[1])
    assert any(abs(value - 1) > 0.05 for value in plain.values())
    assert {getattr(layer, "scale", 1.0) for layer in discriminator.modules()} == {1.0}


def test_spectral_norm_is_near_before_the_first_forward() -> None:
    layer = linear(60, 40, random())
    normalise_spectra(layer, random(1))
    assert 0.999 < torch.linalg.svdvals(layer.eval().weight.detach())[0].item() < 1.1


def test_spectral_norm_follows_the_weight_in_training_mode_only() -> None:
    layer = linear(6, 4, random())
    normalise_spectra(layer, random(1))
    vector = layer.parametrizations["weight"][0].get_buffer("_u")
    with torch.no_grad():
        layer.parametrizations["weight"].original.copy_(torch.diag(torch.arange(1.0, 7.0))[:4])
    before = vector.clone()
    layer.eval()(torch.zeros(1, 6))
    assert torch.equal(vector, before)
    layer.train()
    for _ in range(60):
        layer(torch.zeros(1, 6))
    torch.testing.assert_close(vector.abs(), torch.tensor([0.0, 0.0, 0.0, 1.0]))
    torch.testing.assert_close(layer.weight.detach().diagonal(), torch.arange(1.0, 5.0) / 4)


@pytest.mark.parametrize("kind", ["linear", "convolution", "halving", "doubling", "summary"])
def test_a_layer_with_unit_gain_keeps_the_variance_of_its_input(kind: str) -> None:
    """With the leaky ReLU's gain sqrt(2 / 1.04), unit variance in becomes 1.92 out."""
    layers = {"linear": linear, "convolution": convolution, "halving": halving, "doubling": doubling}
    layer = summary(64, 16, random()) if kind == "summary" else layers[kind](64, 64, random())
    shape = (64,) if kind == "linear" else (64, 16, 16)
    out = layer(torch.randn(200, *shape, generator=random(1)))
    if kind not in ("linear", "summary"):
        out = out[..., 2:-2, 2:-2]  # the border has fewer inputs
    assert out.var().item() == pytest.approx(1.0 if kind == "summary" else 2 / 1.04, rel=0.08)


def test_residual_blocks_double_by_copying_and_halve_by_averaging() -> None:
    """The shortcut against the definition: resample first, then the 1x1 convolution."""
    x = torch.randn(2, 3, 6, 6, generator=random(), dtype=DOUBLE)
    up = UpBlock(3, 5, random(), batch_norm=False, share=0.5).double()
    copied = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(up.shortcut(x), up.shortcut[0](copied))
    first, second = (m for m in up.branch if isinstance(m, nn.Conv2d))
    torch.testing.assert_close(up(x) - up.shortcut(x), second(first(copied.relu()).relu()))

    down = DownBlock(3, 5, random(), share=0.5, halve=True).double()
    averaged = x.unflatten(3, (3, 2)).unflatten(2, (3, 2)).mean(dim=(3, 5))
    torch.testing.assert_close(down.shortcut(x), down.shortcut[1](averaged))
    assert torch.equal(DownBlock(3, 3, random(), share=0.5).double().shortcut(x), x)
    assert SumPool(0.5)(torch.ones(2, 3, 4, 5)).tolist() == [[10.0] * 3] * 2

    wide = DownBlock(64, 64, random(), share=0.25)
    stds = [m.weight.std().item() for m in wide.branch if isinstance(m, nn.Conv2d)]
    expected = [RELU / 24, 0.25 * RELU / 24]  # fan-in 64 * 9 = 24^2
    assert stds == [pytest.approx(value, rel=0.03) for value in expected]


def test_r3gan_begins_as_a_linear_map_whose_branches_are_exactly_zero() -> None:
    generator, discriminator = players(network("r3gan"), (3, 16, 16))
    blocks = [
        m for player in (generator, discriminator) for m in player.modules() if isinstance(m, Bottleneck)
    ]
    assert len(blocks) == 12  # two at each of three resolutions, in both
    for block in blocks:
        channels = block.branch[0].in_channels
        x = torch.randn(2, channels, 4, 4, generator=random())
        assert not block.branch(x).any()
        assert torch.equal(block(x), x)
        assert (block.branch[2].in_channels, block.branch[2].groups) == (2 * channels, 2 * channels // 8)
    discriminator.double()
    x, y = torch.randn(2, 4, 3, 16, 16, generator=random(), dtype=DOUBLE)
    torch.testing.assert_close(discriminator(2 * x - y), 2 * discriminator(x) - discriminator(y))
    # Its last convolutions do learn: their gradient is not zero.
    discriminator(x).sum().backward()
    last = [b.branch[4].weight for b in discriminator.modules() if isinstance(b, Bottleneck)]
    assert all(weight.grad.any() for weight in last)


def test_r3gan_scales_the_other_convolutions_by_the_fourth_root_of_the_blocks() -> None:
    pair = R3GAN(width=64, max_width=64, blocks=4, expansion=1, group_size=16, spectral_norm=False)
    body, _ = pair.body((1, 32, 32), random())  # 4 resolutions, 16 blocks: 16^-0.25 = 1/2
    block = next(m for m in body.modules() if isinstance(m, Bottleneck))
    gain = (2 / 1.04) ** 0.5 / 2
    assert block.branch[0].weight.std().item() == pytest.approx(gain / 8, rel=0.03)
    assert block.branch[2].weight.std().item() == pytest.approx(gain / 12, rel=0.03)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_only_the_generator_has_batch_norm_and_only_on_request(name: str) -> None:
    for asked in (False, True):
        generator, discriminator = players(network(name, batch_norm=asked), (1, 16, 16))
        counts = [sum(isinstance(m, nn.BatchNorm2d) for m in p.modules()) for p in (generator, discriminator)]
        expected = {"dcgan": 2, "resnet": 5}.get(name, 0) if asked else 0
        assert counts == [expected, 0]


def test_channels_double_with_each_halving_up_to_the_bound() -> None:
    pair = DCGAN(width=4, max_width=12, batch_norm=False, spectral_norm=False)
    body, num_features = pair.body((3, 32, 32), random())
    assert [m.out_channels for m in body.modules() if isinstance(m, nn.Conv2d)] == [4, 8, 12]
    assert num_features == 12 * 16


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("shape", [(2,), (1, 4, 4), (1, 9, 9), (1, 30, 30), (1, 256, 256), (3, 32, 16)])
def test_convolutional_pairs_refuse_other_samples_and_name_their_sizes(name: str, shape: Shape) -> None:
    sizes = "8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128"
    pair = network(name)
    for refused in (pair.check, lambda shape: pair.body(shape, random())):
        with pytest.raises(ValueError, match=f"takes square images of {sizes} pixels"):
            refused(shape)


@pytest.mark.parametrize(
    ("cls", "change", "message"),
    [
        (MLP, {"depth": 0}, "depth must be an integer >= 1, got 0"),
        (DCGAN, {"max_width": 4}, r"max_width must be at least width \(8\), got 4"),
        (ResNet, {"width": 0}, "width must be an integer >= 1, got 0"),
        (ResNet, {"max_width": 7}, r"max_width must be at least width \(8\), got 7"),
        (StyleGAN2, {"mapping_depth": 0}, "mapping_depth must be an integer >= 1, got 0"),
        (StyleGAN2, {"mapping_lr": 0.0}, "mapping_lr must be a finite number > 0, got 0.0"),
        (StyleGAN2, {"mapping_lr": float("nan")}, "mapping_lr must be a finite number > 0, got nan"),
        (R3GAN, {"blocks": 0}, "blocks must be an integer >= 1, got 0"),
        (
            R3GAN,
            {"group_size": 3},
            r"group_size must be a divisor of expansion \* width \(16\) and .* max_width \(32\), got 3",
        ),
    ],
)
def test_options_out_of_range_are_refused_by_name(cls: type, change: dict[str, float], message: str) -> None:
    fitting = {type(network(name)): vars(network(name)) for name in ("mlp", *CONVOLUTIONAL)}[cls]
    with pytest.raises(ValueError, match=message):
        cls(**{**fitting, **change})
