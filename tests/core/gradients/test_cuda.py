"""A step on a GPU: the host never waits, few kernels are added, and the numbers are the CPU's.

Skipped where there is none.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from core.gradients import (
    AGC,
    AdaGC,
    AutoClip,
    Centralize,
    GlobalNorm,
    GradientStep,
    MonitorConfig,
    PCGrad,
    PerLayerNorm,
    Value,
    ZClip,
    global_norm,
    layer_norms,
)
from core.gradients.captured import Captured

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a CUDA device")

WARM_UP = 6  # steps after which nothing is made for the first time
EXTRA_KERNELS = 8


@contextmanager
def no_waiting() -> Iterator[None]:
    """Whatever makes the host wait for the device raises."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def network(device: str = "cuda") -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2)).to(
        device
    )


def batch(device: str = "cuda") -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    x, y = torch.randn(32, 4, generator=random), torch.randn(32, 2, generator=random)
    return x.to(device), y.to(device)


def loss_of(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (net(x) - y).square().mean()


Make = Callable[[nn.Module], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda net: torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=True),
    "adam": lambda net: torch.optim.Adam(net.parameters(), lr=0.01, fused=True),
    "adamw": lambda net: torch.optim.AdamW(net.parameters(), lr=0.01, fused=True),
    "adagrad": lambda net: torch.optim.Adagrad(net.parameters(), lr=0.01),
}
TRANSFORMS = {
    "none": [],
    "global_norm": [GlobalNorm(max_norm=0.01)],
    "per_layer": [PerLayerNorm(max_norm=0.01)],
    "value": [Value(max_value=0.001)],
    "agc": [AGC(clipping=0.01, eps=1e-3)],
    "autoclip": [AutoClip(percentile=10.0, window=16)],
    "zclip": [ZClip(alpha=0.97, z_threshold=2.5, warmup_steps=3, max_norm=1.0)],
    "adagc": [AdaGC(lambda_rel=1.05, lambda_abs=1.0, beta=0.98, warmup_steps=3)],
    "centralize": [Centralize()],
    "pcgrad": [PCGrad()],
}


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_step_never_waits_whatever_is_measured(name: str) -> None:
    net, data = network(), batch()
    monitor = MonitorConfig(sample_interval=2, histogram_interval=3)
    step = GradientStep(net, OPTIMIZERS[name](net), monitor=monitor, batch_size=32)
    for i in range(4 * WARM_UP):
        if i < WARM_UP:
            step(lambda: (loss_of(net, *data), {}))
            continue
        with no_waiting():
            step(lambda: (loss_of(net, *data), {}))
    assert step.monitor.drain()["gradient/norm"] > 0


@pytest.mark.parametrize("name", TRANSFORMS)
def test_no_transform_waits(name: str) -> None:
    net, data = network(), batch()
    step = GradientStep(net, OPTIMIZERS["adam"](net), TRANSFORMS[name])

    def closure() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        loss = loss_of(net, *data)
        return {"first": loss, "second": -0.3 * loss}, {}

    for _ in range(WARM_UP):
        step(closure)
    with no_waiting():
        for _ in range(WARM_UP):
            step(closure)
    assert all(p.isfinite().all() for p in net.parameters())


def kernels(act: Callable[[], object], repeats: int = 10) -> float:
    """Kernels that the device runs for one call, copies and fills included."""
    for _ in range(WARM_UP):
        act()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(repeats):
            act()
        torch.cuda.synchronize()
    return sum(e.device_type == torch.autograd.DeviceType.CUDA for e in seen.events()) / repeats


def test_norms_and_the_guard_add_at_most_eight_kernels() -> None:
    net, plain, data = network(), network(), batch()
    optimizer = OPTIMIZERS["adam"](plain)
    step = GradientStep(net, OPTIMIZERS["adam"](net), monitor=MonitorConfig(sample_interval=10_000))

    def plainly() -> None:
        optimizer.zero_grad()
        loss_of(plain, *data).backward()
        optimizer.step()

    extra = kernels(lambda: step(lambda: (loss_of(net, *data), {}))) - kernels(plainly)
    print(f"\nextra kernels a step: {extra}")
    assert extra <= EXTRA_KERNELS


def test_clipping_adds_at_most_eight_kernels_to_torchs_own() -> None:
    net, plain, data = network(), network(), batch()
    optimizer = OPTIMIZERS["adam"](plain)
    step = GradientStep(
        net,
        OPTIMIZERS["adam"](net),
        [GlobalNorm(max_norm=0.01)],
        monitor=MonitorConfig(sample_interval=10_000),
    )

    def plainly() -> None:
        optimizer.zero_grad()
        loss_of(plain, *data).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.01)
        optimizer.step()

    extra = kernels(lambda: step(lambda: (loss_of(net, *data), {}))) - kernels(plainly)
    print(f"\nkernels beside clip_grad_norm_: {extra:+}")
    assert extra <= EXTRA_KERNELS


@pytest.mark.parametrize("scale", [1.0, 1e20, 1e-22, 1e-40])
def test_norms_are_those_of_float64(scale: float) -> None:
    random = torch.Generator().manual_seed(0)
    tensors = [torch.randn(n, generator=random) * scale for n in (1, 1000, 300_001)]
    exact = torch.stack([t.double().norm() for t in tensors])
    found = [t.cuda() for t in tensors]
    torch.testing.assert_close(layer_norms(found).cpu(), exact, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(global_norm(found).cpu(), exact.norm(), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_changes_nothing(name: str, bad: float) -> None:
    net, data = network(), batch()
    step = GradientStep(net, OPTIMIZERS[name](net))
    step(lambda: (loss_of(net, *data), {}))
    before = [p.detach().clone() for p in net.parameters()]
    step(lambda: (loss_of(net, *data) * bad, {}))
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert step.monitor.drain()["gradient/skipped"] == 0.5
    step(lambda: (loss_of(net, *data), {}))
    assert not any(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_the_cpus(name: str) -> None:
    trained = []
    for device in ("cpu", "cuda"):
        net, data = network(device).double(), [part.double() for part in batch(device)]
        step = GradientStep(net, OPTIMIZERS[name](net), [GlobalNorm(max_norm=0.1)])
        for _ in range(20):
            step(lambda net=net, data=data: (loss_of(net, *data), {}))
        trained.append([p.detach().cpu() for p in net.parameters()])
    torch.testing.assert_close(*trained, rtol=1e-9, atol=1e-12)


def named(net: nn.Module, x: Tensor, y: Tensor, weight: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    error = loss_of(net, x, y)
    return {"error": error, "size": weight * net[0].weight.square().sum()}, {"loss": error.detach()}


@pytest.mark.slow
def test_compiled_steps_are_cuda_graphs_that_give_the_eager_numbers_and_never_wait() -> None:
    eager, compiled, said = network(), network(), []
    steps = [
        GradientStep(net, OPTIMIZERS["adam"](net), [GlobalNorm(max_norm=0.1)]) for net in (eager, compiled)
    ]
    steps[1].compile(said.append)
    random = torch.Generator("cuda").manual_seed(2)
    losses: list[list[Tensor]] = [[], []]
    for i in range(4 * WARM_UP):
        x, y = (torch.randn(32, n, generator=random, device="cuda") for n in (4, 2))
        for net, step, found in zip((eager, compiled), steps, losses, strict=True):
            call = partial(named, net, x, y, 0.1 / (i + 1))
            if i < WARM_UP:
                found.append(step(call)["loss"])
                continue
            with no_waiting():
                found.append(step(call)["loss"])
    assert said == []
    assert steps[1].compiled is not None
    assert [type(graph.run) for graph in steps[1].compiled.graphs] == [Captured]
    torch.testing.assert_close(torch.stack(losses[1]), torch.stack(losses[0]), rtol=1e-5, atol=1e-6)
    for a, b in zip(eager.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)
