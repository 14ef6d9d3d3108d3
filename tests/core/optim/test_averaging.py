"""`core.optim.averaging`: against the recursion written out in float64, and across a resume."""

import pytest
import torch
from torch import nn

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
    generator = torch.Generator().manual_seed(1)
    for step in range(1, 21):
        move(module, generator)
        average.update(64)
        half_life = 300.0 if ramp_up is None else min(300.0, ramp_up * 64 * step)
        decay = 2.0 ** (-64 / half_life)
        for name, tensor in module.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * tensor.double()
    for name, tensor in average.module.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)


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


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_half_life_out_of_range_is_refused_by_name(value: float) -> None:
    with pytest.raises(ValueError, match="half_life must be a finite number > 0"):
        AverageConfig(half_life=value, ramp_up=None)
