"""`gradgan.networks.stylegan2`: modulation against slow loops, filters, rates, what a latent decides."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from gradgan.networks.equalised import (
    Activation,
    ModulatedConvolution,
    ScaledConvolution,
    ScaledLinear,
    Smooth,
)
from gradgan.networks.stylegan2 import StyleGAN2

DOUBLE = torch.float64


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=random(seed), dtype=DOUBLE)


def slow_weights(layer: ModulatedConvolution, style: Tensor) -> Tensor:
    """The weights of one sample, number by number: modulated, then demodulated."""
    scales = layer.style(style[None])[0]
    weight = (layer.weight * layer.scale).detach().clone()
    for o in range(weight.shape[0]):
        for i in range(weight.shape[1]):
            weight[o, i] *= scales[i]
        if layer.demodulate:
            weight[o] /= (weight[o].square().sum() + 1e-8).sqrt()
    return weight


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
def test_modulation_is_a_convolution_with_weights_of_each_samples_own(demodulate: bool, kernel: int) -> None:
    layer = ModulatedConvolution(3, 4, 5, random(), kernel=kernel, demodulate=demodulate).double()
    layer.bias.data += normal(4)
    x, styles = normal(6, 3, 7, 7), normal(6, 5, seed=2)
    slow = [
        conv2d(x[i : i + 1], slow_weights(layer, styles[i]), layer.bias, padding=kernel // 2)
        for i in range(6)
    ]
    torch.testing.assert_close(layer(x, styles), torch.cat(slow), rtol=1e-10, atol=1e-10)
    # The same as one convolution with a group for each sample.
    weights = torch.cat([slow_weights(layer, style) for style in styles])
    grouped = conv2d(x.reshape(1, 18, 7, 7), weights, padding=kernel // 2, groups=6).reshape(6, 4, 7, 7)
    torch.testing.assert_close(layer(x, styles), grouped + layer.bias[:, None, None])


def test_doubling_spreads_each_pixel_by_the_kernel_and_smooths() -> None:
    """Out of the definition: add weight * pixel at twice its place, then filter with [1, 3, 3, 1] / 4."""
    layer = ModulatedConvolution(2, 3, 5, random(), double=True).double()
    x, style = normal(1, 2, 4, 4), normal(1, 5, seed=2)
    weight = slow_weights(layer, style[0])
    spread = torch.zeros(3, 9 + 2, 9 + 2, dtype=DOUBLE)  # a margin of one for the filter
    for row in range(4):
        for column in range(4):
            patch = (weight * x[0, :, row, column][None, :, None, None]).sum(dim=1)
            spread[:, 1 + 2 * row : 4 + 2 * row, 1 + 2 * column : 4 + 2 * column] += patch
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=DOUBLE) / 4
    slow = torch.zeros(3, 8, 8, dtype=DOUBLE)
    for row in range(8):
        for column in range(8):
            window = spread[:, row : row + 4, column : column + 4]
            slow[:, row, column] = (window * line[:, None] * line).sum(dim=(1, 2))
    torch.testing.assert_close(layer(x, style)[0], slow, rtol=1e-6, atol=1e-6)  # the filter was float32


def test_demodulated_outputs_have_unit_variance_whatever_the_style() -> None:
    layer = ModulatedConvolution(64, 64, 8, random())
    x = torch.randn(32, 64, 8, 8, generator=random(1))
    for scale in (0.1, 10.0):
        out = layer(x, scale * torch.randn(32, 8, generator=random(2)))[..., 1:-1, 1:-1]
        assert out.var().item() == pytest.approx(1.0, rel=0.05)


def test_smoothing_keeps_a_constant_and_removes_the_finest_stripes() -> None:
    smooth = Smooth(padding=2)
    assert smooth(torch.ones(1, 2, 6, 6)).shape == (1, 2, 7, 7)
    torch.testing.assert_close(smooth(torch.ones(1, 2, 6, 6))[..., 2:-2, 2:-2], torch.ones(1, 2, 3, 3))
    stripes = torch.tensor([1.0, -1.0]).repeat(6).expand(1, 1, 12, 12)
    assert smooth(stripes)[..., 2:-2, 2:-2].abs().max() < 1e-6
    impulse = torch.zeros(1, 1, 4, 4)
    impulse[0, 0, 2, 2] = 1.0
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    torch.testing.assert_close(smooth(impulse)[0, 0, 1:5, 1:5], torch.outer(line, line))


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("side", [8, 10, 14])
def test_a_halving_convolution_filters_then_takes_every_second_pixel(kernel: int, side: int) -> None:
    layer = ScaledConvolution(2, 3, random(), kernel=kernel, halve=True, bias=False).double()
    x = normal(2, 2, side, side)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=DOUBLE) / 8
    filtered = conv2d(
        x.reshape(4, 1, side, side), torch.outer(line, line)[None, None], padding=1 + kernel // 2
    ).reshape(2, 2, *[side - 1 + 2 * (kernel // 2)] * 2)
    expected = conv2d(filtered, layer.weight * layer.scale, stride=2)
    assert layer(x).shape == (2, 3, side // 2, side // 2)
    torch.testing.assert_close(layer(x), expected, rtol=1e-6, atol=1e-6)


def test_equalised_weights_are_stored_with_unit_variance_and_used_with_that_of_the_fan_in() -> None:
    for layer in (ScaledLinear(400, 300, random()), ScaledConvolution(100, 90, random(), kernel=3)):
        fan_in = layer.weight[0].numel()
        assert layer.weight.std().item() == pytest.approx(1.0, rel=0.02)
        assert (layer.weight * layer.scale).std().item() == pytest.approx(fan_in**-0.5, rel=0.02)
    plain = ScaledLinear(400, 300, random(), equalised=False)
    assert plain.scale == 1.0
    torch.testing.assert_close(plain.weight, ScaledLinear(400, 300, random()).weight / 20)


@pytest.mark.parametrize("multiplier", [1.0, 0.01])
def test_adam_moves_the_weights_in_use_by_the_multiplier_of_its_rate(multiplier: float) -> None:
    layer = ScaledLinear(4, 3, random(), bias=0.5, lr_multiplier=multiplier).double()
    x, zero = normal(10, 4), torch.zeros(1, 4, dtype=DOUBLE)
    assert layer(zero).tolist() == [[pytest.approx(0.5)] * 3]
    weight = (layer.weight * layer.scale).detach()
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3, eps=1e-16)
    layer(x).square().sum().backward()
    optimizer.step()
    moved = (layer.weight * layer.scale).detach() - weight
    step = 1e-3 * multiplier * torch.ones_like(moved)
    torch.testing.assert_close(moved.abs(), 0.5 * step, rtol=1e-6, atol=0.0)  # 1 / sqrt(fan-in) = 0.5
    torch.testing.assert_close((layer(zero) - 0.5).abs()[0], step[:, 0], rtol=1e-5, atol=0.0)


def test_only_the_mapping_network_learns_at_its_own_rate() -> None:
    pair = StyleGAN2(
        width=4, max_width=8, style_size=16, mapping_depth=3, mapping_lr=0.02, spectral_norm=False
    )
    generator = pair.generator(4, (1, 8, 8), random())
    scaled = {name: m.bias_scale for name, m in generator.named_modules() if isinstance(m, ScaledLinear)}
    mapping = {name for name in scaled if name.startswith("mapping")}
    assert len(mapping) == 3
    assert len(scaled) > 3
    assert all(scaled[name] == (0.02 if name in mapping else 1.0) for name in scaled)
    assert generator.mapping[1].scale == pytest.approx(0.02 / 2)
    assert generator.mapping[3].scale == pytest.approx(0.02 / 4)


def test_the_activation_keeps_the_mean_square() -> None:
    x = torch.randn(100_000, generator=random())
    assert Activation()(x).square().mean().item() == pytest.approx(x.square().mean().item(), rel=0.02)
    assert Activation()(torch.tensor([1.0, -1.0])).tolist() == pytest.approx([1.3868, -0.27735], rel=1e-4)


def test_a_sample_is_a_function_of_the_direction_of_its_own_latent() -> None:
    pair = StyleGAN2(
        width=4, max_width=8, style_size=6, mapping_depth=2, mapping_lr=0.01, spectral_norm=False
    )
    generator = pair.generator(5, (3, 16, 16), random()).double()
    z = normal(4, 5)
    images = generator(z)
    assert torch.equal(generator(z), images)  # in training mode: no noise
    torch.testing.assert_close(generator(z[2:3]), images[2:3])
    torch.testing.assert_close(generator(7.0 * z), images)
    assert (generator(-z) - images).abs().max() > 0.01
