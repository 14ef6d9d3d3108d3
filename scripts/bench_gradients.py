"""What a watched step costs beside the same step written plainly, in CPU seconds of one thread.

All variants train copies of one network on the same batches, in one process. A round gives every variant a
block of steps, in an order that changes from round to round; a variant's figure is the median over the rounds
of its ratio to the plain step of the same round, so a busy machine slows both.
"""

import itertools
import random
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from core.curvature import Hessian
from core.gradients import GlobalNorm, GradientStep, MonitorConfig, Objective, per_sample_norms

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

BLOCK_S = 0.1  # seconds of one block: long enough for the clock, short enough to stay paired
PLAIN = "fused Adam"

Work = Callable[[], object]


def run(cfg: "BenchConfig") -> None:
    """Print one table per network."""
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, medians of {cfg.rounds} paired rounds, CPU time")
    for name in cfg.models:
        report(name, "step", step_variants(name), PLAIN, cfg.rounds)
        report(name, "measurement", probe_variants(name), "gradient", cfg.rounds)


def report(name: str, what: str, variants: dict[str, Work], plain: str, rounds: int) -> None:
    """Time the variants and print a table."""
    cpu, wall = measure(variants, rounds)
    print(f"\n{name}: {what:<46} CPU ms   wall ms   against {plain}")
    for variant, seconds in cpu.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, cpu[plain], strict=True))
        print(
            f"  {variant:<50}{1e3 * statistics.median(seconds):9.3f}{1e3 * statistics.median(wall[variant]):10.3f}"
            f"{ratio:9.3f} x"
        )


def measure(variants: dict[str, Work], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of CPU and of wall time per call, one entry a round."""
    calls = {name: block_size(work) for name, work in variants.items()}
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    wall: dict[str, list[float]] = {name: [] for name in variants}
    order, shuffled = list(variants), random.Random(0)
    for _ in range(rounds):
        shuffled.shuffle(order)
        for name in order:
            work, count = variants[name], calls[name]
            began, began_cpu = time.perf_counter(), time.process_time()
            for _ in itertools.repeat(None, count):
                work()
            cpu[name].append((time.process_time() - began_cpu) / count)
            wall[name].append((time.perf_counter() - began) / count)
    return cpu, wall


def block_size(work: Work) -> int:
    """Calls that fill a block, after a warm-up."""
    for _ in range(3):
        work()
    began = time.process_time()
    work()
    return max(1, round(BLOCK_S / (time.process_time() - began)))


def network(name: str) -> tuple[nn.Module, tuple[int, ...], int]:
    """A network, the shape of its input and its number of outputs."""
    if name == "resnet18":
        from torchvision.models import resnet18

        return resnet18(num_classes=10), (3, 32, 32), 10
    sizes = {"5k": (4, 64, 64, 2), "90k": (64, 256, 256, 32, 10), "1M": (256, 640, 640, 640, 10)}[name]
    layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1]), sizes[:1], sizes[-1]


def problem(name: str) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    """A fresh network and its loss on a batch of 64, the same numbers each time."""
    torch.manual_seed(0)
    net, shape, outputs = network(name)
    x, y = torch.randn(64, *shape), torch.randint(outputs, (64,))
    return net, lambda net: cross_entropy(net(x), y)


def step_variants(name: str) -> dict[str, Work]:
    """The same step, plain and watched."""

    def plain(fused: bool, clip: bool) -> Work:
        net, loss = problem(name)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=fused or None)

        def work() -> None:
            optimizer.zero_grad()
            loss(net).backward()
            if clip:
                nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            optimizer.step()

        return work

    def watched(clip: bool, monitor: MonitorConfig) -> Work:
        net, loss = problem(name)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
        transforms = [GlobalNorm(max_norm=0.5)] if clip else []
        step = GradientStep(net, optimizer, transforms, monitor=monitor)
        return lambda: step(lambda: (loss(net), {}))

    every_step_only = MonitorConfig(sample_interval=10**9, histogram_interval=10**9)
    return {
        "(a) Adam, clip_grad_norm_": plain(False, True),
        "(b) fused Adam, clip_grad_norm_": plain(True, True),
        PLAIN: plain(True, False),
        "GradientStep: norms, finite flag": watched(False, every_step_only),
        "GradientStep: everything sampled": watched(False, MonitorConfig()),
        "GradientStep: everything sampled, clipping": watched(True, MonitorConfig()),
    }


def probe_variants(name: str) -> dict[str, Work]:
    """One gradient (forward and backward), a Hessian-vector product, all per-sample norms."""
    net, loss = problem(name)
    net.eval()
    parameters = list(net.parameters())
    variants: dict[str, Work] = {"gradient": lambda: torch.autograd.grad(loss(net), parameters)}
    hessian = Hessian(loss(net), parameters)
    v = torch.randn(hessian.size)
    variants["Hessian-vector product, kept graph"] = lambda: hessian(v)
    torch.manual_seed(0)
    _, shape, outputs = network(name)
    batch = (torch.randn(64, *shape), torch.randint(outputs, (64,)))
    objective = Objective(net, lambda forward, x, y: cross_entropy(forward(x), y), batch)
    variants["per-sample norms of 64 samples"] = lambda: per_sample_norms(objective)
    return variants
