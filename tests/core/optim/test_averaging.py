"""`core.optim.averaging`: against the recursion written out in float64, and across a resume."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils.parametrizations import spectral_norm

from core.optim.averaging import AverageConfig, ExponentialMovingAverage


def network(seed: int = 0) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False))
    move(module, generator)
    return module


def move(module: nn.Module, generator: torch.Generator) -> None:
    """A random step in every parameter and floating-point buffer; counters go up by one."""
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape, generator=generator))
            else:
                tensor.add_(1)


@pytest.mark.parametrize("ramp_up", [None, 0.5])
def test_the_average_follows_the_recursion_in_float64(ramp_up: float | None) -> None:
    module = network()
    average = ExponentialMovingAverage(AverageConfig(half_life=300.0, ramp_up=ramp_up), module)
    expected = {name: tensor.double() for name, tensor in module.state_dict().items()}
    generator, share = torch.Generator().manual_seed(1), 1.0
    for step in range(1, 21):
        move(module, generator)
        average.update(64)
        half_life = 300.0 if ramp_up is None else min(300.0, ramp_up * 64 * step)
        decay = 2.0 ** (-64 / half_life)
        share *= decay
        for name, tensor in module.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * tensor.double()
    for name, tensor in average.module.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert average.initial_share == pytest.approx(share)


def test_after_one_half_life_the_old_state_weighs_one_half() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    average = ExponentialMovingAverage(AverageConfig(half_life=1000.0, ramp_up=None), module)
    nn.init.ones_(module.weight)
    for _ in range(10):
        average.update(100)
    assert average.module.get_parameter("weight").item() == pytest.approx(0.5, abs=1e-6)


def test_the_half_life_does_not_depend_on_the_batch_size() -> None:
    cfg = AverageConfig(half_life=500.0, ramp_up=None)
    average = ExponentialMovingAverage(cfg, nn.Linear(1, 1))
    assert average.decay(32) ** 4 == pytest.approx(average.decay(128), rel=1e-12)


def test_counters_are_copied_not_averaged() -> None:
    module = network()
    average = ExponentialMovingAverage(AverageConfig(half_life=10.0, ramp_up=None), module)
    move(module, torch.Generator().manual_seed(1))
    average.update(1)
    assert average.module.get_buffer("1.num_batches_tracked").item() == 2


def test_the_copy_is_frozen_and_in_evaluation_mode_and_leaves_the_source_alone() -> None:
    module = network()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    average = ExponentialMovingAverage(AverageConfig(half_life=10.0, ramp_up=None), module)
    average.update(1)
    assert not average.module.training
    assert module.training
    assert not any(p.requires_grad for p in average.module.parameters())
    assert all(p.requires_grad for p in module.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_a_resumed_average_continues_bit_by_bit() -> None:
    cfg = AverageConfig(half_life=100.0, ramp_up=0.1)
    module = network()
    average = ExponentialMovingAverage(cfg, module)
    generator = torch.Generator().manual_seed(3)
    for _ in range(5):
        move(module, generator)
        average.update(8)
    resumed = ExponentialMovingAverage(cfg, module)
    resumed.load_state_dict(average.state_dict())
    move(module, generator)
    average.update(8)
    resumed.update(8)
    for name, tensor in average.module.state_dict().items():
        assert torch.equal(tensor, resumed.module.state_dict()[name])


@pytest.mark.parametrize(("dtype", "half_life"), [(torch.bfloat16, 1000.0), (torch.float16, 5000.0)])
def test_an_average_in_half_precision_follows_however_small_its_steps_are(dtype, half_life) -> None:
    cfg = AverageConfig(half_life=half_life, ramp_up=None)
    module = nn.Linear(4, 4).to(dtype)
    average = ExponentialMovingAverage(cfg, module)
    expected = module.weight.detach().double()
    nn.init.ones_(module.weight)
    for step in range(2 * int(half_life)):
        if step == int(half_life):  # continues to the bit from its state
            state, average = average.state_dict(), ExponentialMovingAverage(cfg, module)
            average.load_state_dict(state)
        average.update(1.0)
    expected = 1 - 0.25 * (1 - expected)
    found = average.module.get_parameter("weight")
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-4)


def test_the_average_follows_a_module_that_is_cast_and_buffers_that_are_assigned_anew() -> None:
    class Scaled(nn.Linear):
        scale: Tensor

        def __init__(self) -> None:
            super().__init__(2, 2)
            self.register_buffer("scale", torch.zeros(2))
            self.register_buffer("running_scale", torch.zeros(2))

    module = Scaled()
    average = ExponentialMovingAverage(AverageConfig(half_life=1.0, ramp_up=None), module)
    module.scale, module.running_scale = torch.ones(2), torch.ones(2)
    average.update(1.0)
    assert average.module.get_buffer("scale").tolist() == [1.0, 1.0]
    assert average.module.get_buffer("running_scale").tolist() == [0.5, 0.5]
    module.to(torch.float64).scale.fill_(2.0)
    module.running_scale.fill_(2.5)
    average.update(1.0)
    assert average.module.get_buffer("scale").tolist() == [2.0, 2.0]
    assert average.module.get_buffer("running_scale").tolist() == [1.5, 1.5]
    assert average.lag() == pytest.approx(
        2**0.5 / float(torch.cat([t.detach().flatten() for t in module.state_dict().values()]).norm())
    )
    module.weight = nn.Parameter(torch.full((2, 2), 7.0))
    average.update(1e6)
    assert average.module.get_parameter("weight").tolist() == [[7.0, 7.0], [7.0, 7.0]]


@pytest.mark.parametrize("norm", [spectral_norm, old_spectral_norm])
def test_the_average_of_a_spectrally_normalised_layer_has_the_largest_singular_value_1(norm) -> None:
    generator = torch.Generator().manual_seed(0)
    layers = (norm(nn.Linear(16, 16)), nn.Tanh(), norm(nn.Conv2d(1, 8, 2)))
    module = nn.Sequential(*layers)
    average = ExponentialMovingAverage(AverageConfig(half_life=300.0, ramp_up=None), module)
    for _ in range(200):
        with torch.no_grad():
            for p in module.parameters():
                p.add_(0.3 * torch.randn(p.shape, generator=generator))
            module[:2](torch.ones(1, 16))  # the module's own power iterations
        average.update(1.0)
    first, conv = average.module.get_submodule("0"), average.module.get_submodule("2")
    _ = first(torch.ones(1, 16)), conv(torch.ones(1, 1, 2, 2))  # the older one is computed by the call
    for layer in (first, conv):
        assert isinstance(layer.weight, Tensor)
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_half_life_out_of_range_is_refused_by_name(value: float) -> None:
    with pytest.raises(ValueError, match="half_life must be a finite number > 0"):
        AverageConfig(half_life=value, ramp_up=None)
