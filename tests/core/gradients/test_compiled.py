"""Steps with compiled gradients: the numbers of eager ones, nothing compiled twice, and what stays eager."""

import math
import os
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from core.gradients import GlobalNorm, GradientStep, MonitorConfig, PCGrad
from core.gradients import compiled as module
from core.gradients.leaves import leaves, with_leaves
from gradrl.experience.rollout import Batch


def network() -> nn.Module:
    torch.manual_seed(0)
    first = nn.Linear(3, 16, bias=False)  # one before batch norm would have a gradient of rounding alone
    return nn.Sequential(first, nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 1)).double()


def fit(net: nn.Module, x: torch.Tensor, y: torch.Tensor, weight: float | torch.Tensor):
    error = (net(x)[:, 0] - y).square().mean()
    return {"error": error, "size": weight * net[0].weight.square().sum()}, {"loss": error.detach()}


def make_step(net: nn.Module) -> GradientStep:
    adam = torch.optim.Adam(net.parameters(), lr=1e-2, fused=True)
    monitor = MonitorConfig(sample_interval=3, histogram_interval=4)
    return GradientStep(net, adam, [GlobalNorm(max_norm=0.5)], batch_size=32, monitor=monitor)


def train(step: GradientStep, net: nn.Module) -> tuple[list[float], dict[str, float]]:
    """Twenty updates on batches of 32 and, at each fourth, 8 samples; rate and weight change at every one."""
    random = torch.Generator().manual_seed(1)
    losses = []
    for t in range(20):
        size = 8 if t % 4 == 3 else 32
        x = torch.randn(size, 3, dtype=torch.float64, generator=random)
        y = x.sum(1) if t != 10 else torch.full((size,), math.nan, dtype=torch.float64)
        step.set_lr_scale(1 - t / 20)
        losses.append(step(partial(fit, net, x, y, 0.1 * (1 - t / 20)), samples=size)["loss"].item())
    return losses, step.monitor.drain()


@pytest.mark.slow
def test_twenty_compiled_updates_are_the_eager_ones_and_two_shapes_are_two_graphs():
    eager, compiled = network(), network()
    expected_losses, expected = train(make_step(eager), eager)
    step, said = make_step(compiled), []
    step.compile(said.append)
    losses, measured = train(step, compiled)
    assert said == []
    assert step.compiled is not None
    assert [graph.calls for graph in step.compiled.graphs] == [15, 5]
    torch.testing.assert_close(losses, expected_losses, rtol=1e-6, atol=0, equal_nan=True)
    for (name, a), b in zip(eager.state_dict().items(), compiled.state_dict().values(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-6, atol=1e-9, msg=name)  # running statistics too
    assert measured["gradient/skipped"] == 1 / 20  # the step whose target was NaN
    assert measured["gradient/clipped"] > 0
    assert measured.keys() == expected.keys()
    torch.testing.assert_close(measured, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_batches_of_many_sizes_share_few_graphs():
    eager, compiled = network(), network()
    plain, step, said = make_step(eager), make_step(compiled), []
    step.compile(said.append)
    for size in (6, 9, 5, 12, 300, 2, 7):
        x = torch.linspace(-1, 1, 3 * size, dtype=torch.float64).view(size, 3)
        for each, net in ((plain, eager), (step, compiled)):
            each(partial(fit, net, x, x.sum(1), 0.1))
    assert step.compiled is not None
    calls = [graph.calls for graph in step.compiled.graphs]
    assert calls[0] == 1
    assert sum(calls) == 7  # none of them ran eagerly
    assert len(calls) <= 3  # the compiler may part small sizes from large ones
    assert said == []
    for (name, a), b in zip(eager.state_dict().items(), compiled.state_dict().values(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.slow
def test_the_compiled_norms_and_clipped_gradients_are_those_of_their_definition():
    net = network()
    step = make_step(net)
    step.compile(lambda line: pytest.fail(line))
    x = torch.linspace(-1, 1, 24, dtype=torch.float64).view(8, 3)
    step.compute(partial(fit, net, x, 5 + x.sum(1), 0.1))
    whole = torch.cat([p.grad.flatten() for p in step.parameters if p.grad is not None])
    view = step._view()
    torch.testing.assert_close(view.norm, whole.norm(), rtol=1e-12, atol=0)
    step._transform(view)
    clipped = torch.cat([p.grad.flatten() for p in step.parameters if p.grad is not None])
    torch.testing.assert_close(clipped, whole * 0.5 / (whole.norm() + 1e-6), rtol=1e-12, atol=0)


@pytest.mark.slow
def test_a_gradient_that_somebody_has_written_to_is_measured_and_clipped_again():
    net = network()
    step = make_step(net)
    step.compile(lambda line: pytest.fail(line))
    x = torch.ones(8, 3, dtype=torch.float64)
    step.compute(partial(fit, net, x, 5 + x.sum(1), 0.1))
    for p in step.parameters:
        assert p.grad is not None
        p.grad.fill_(1e-3)  # as an update scheme of two players does
    norm = step._transform(step._view())
    assert norm.item() == pytest.approx(1e-3 * math.sqrt(sum(p.numel() for p in step.parameters)))


def test_what_needs_the_losses_own_graphs_cannot_be_compiled():
    for optimizer, transforms, message in (
        (torch.optim.LBFGS, [], "LBFGS evaluates the loss again"),
        (torch.optim.SGD, [PCGrad()], "PCGrad takes the gradient of every loss"),
    ):
        net = network()
        step = GradientStep(net, optimizer(net.parameters(), lr=0.1), transforms)
        with pytest.raises(ValueError, match=message):
            step.compile(print)


def test_a_closure_that_hides_its_tensors_runs_eagerly_which_is_said_once():
    net, other, said = network(), network(), []
    step, plain = make_step(net), make_step(other)
    step.compile(said.append)
    x = torch.ones(8, 3, dtype=torch.float64)
    for _ in range(2):
        step(lambda: fit(net, x, x.sum(1), 0.1))
        plain(lambda: fit(other, x, x.sum(1), 0.1))
    assert len(said) == 1
    assert "functools.partial" in said[0]
    assert all(map(torch.equal, net.parameters(), other.parameters()))


def test_more_ways_of_calling_than_are_worth_compiling_run_eagerly_which_is_said_once(monkeypatch):
    monkeypatch.setattr(module, "MOST", 0)
    net, said = network(), []
    step = make_step(net)
    step.compile(said.append)
    x = torch.ones(8, 3, dtype=torch.float64)
    for _ in range(3):
        step(partial(fit, net, x, x.sum(1), 0.1))
    assert said == ["runs eagerly: it is called in more than 0 ways"]
    assert step.monitor.steps == 3


def test_what_cannot_be_recorded_runs_eagerly_and_leaves_no_trace():
    def by_value(net: nn.Module, x: torch.Tensor):
        loss = net(x).mean()
        return loss if loss.item() > 0 else -loss, {}  # a graph cannot read a number

    net, other, said = network(), network(), []
    step, plain = make_step(net), make_step(other)
    step.compile(said.append)
    x = torch.randn(8, 3, dtype=torch.float64)
    step(partial(by_value, net, x))
    plain(partial(by_value, other, x))
    assert len(said) == 1
    assert all(map(torch.equal, net.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TypeError("expected Tensor() for op: torch.ops.aten.mkldnn_rnn_layer.default"),
         "the kernel of an LSTM cannot be recorded"),
        (RuntimeError("C++ compile error\n\nCommand:\ng++ x\n\nOutput:\nboom: bad header\nmore"),
         "the C++ compiler says: boom: bad header"),
        (ValueError("a line\nanother"), "ValueError: a line"),
    ],
)  # fmt: skip
def test_the_reason_is_one_line(error, reason):
    assert module._reason(error) == reason


def test_a_call_is_its_tensors_and_a_key_of_everything_else():
    rows = torch.arange(6.0)
    batch = Batch(obs=rows[:, None], action=rows, log_prob=rows, advantage=rows, value=rows, target=rows)
    call = partial(fit, network(), batch, 0.5, weight={"a": rows})
    tensors, _, key = leaves(call)
    assert [t.shape for t in tensors] == [(6, 1), *[(6,)] * 5, (), (6,)]
    assert tensors[6].item() == 0.5
    again = with_leaves(call, iter(t + 1 for t in tensors))
    assert again.args[0] is call.args[0]
    assert torch.equal(again.args[1].action, rows + 1)
    assert again.args[2].item() == 1.5
    assert leaves(partial(fit, call.args[0], batch.rows(slice(3)), 0.7, weight={"a": rows}))[2] == key
    others = [
        partial(fit, network(), batch, 0.5, weight={"a": rows}),  # another network
        partial(fit, call.args[0], batch, True, weight={"a": rows}),  # a switch is no number
    ]
    assert all(leaves(other)[2] != key for other in others)


@pytest.mark.long
@pytest.mark.slow
def test_the_half_of_a_library_that_a_killed_run_has_left_is_made_anew(tmp_path: Path) -> None:
    program = """
        from functools import partial
        import torch
        from core.gradients import GradientStep
        net = torch.nn.Linear(3, 1)
        step = GradientStep(net, torch.optim.SGD(net.parameters(), lr=0.1))
        step.compile(print)
        step(partial(lambda x: (net(x).square().mean(), {}), torch.ones(4, 3)))
        assert len(step.compiled.graphs) == 1
    """
    words = [sys.executable, "-c", textwrap.dedent(program)]
    environment = os.environ | {
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }
    subprocess.run(words, env=environment, check=True)
    libraries = list(tmp_path.rglob("*.so"))
    assert libraries
    for library in libraries:
        library.write_bytes(b"")
    subprocess.run(words, env=environment, check=True)
