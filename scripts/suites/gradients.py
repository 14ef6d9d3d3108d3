"""What a watched step costs against the same step written plainly, in CPU seconds of one thread.

Then what looking whether a checkpoint is whole costs against loading it.

All variants train copies of one network on the same batches, in one process. Each is timed in turn with the
plain step, a short block of the one and a short block of the other, in an order that changes; its figure is
the median of the ratios of such pairs. A busy machine slows both halves of a pair.
"""

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from core import Watch
from core.curvature import Hessian
from core.gradients import GlobalNorm, GradientStep, MonitorConfig, Objective
from core.noise import per_sample_norms
from core.numbers import quartiles
from core.run.checkpoint import save
from core.run.seal import unchanged

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

BLOCK_S = 0.03  # seconds of one block: long enough for a clock, short enough to stay paired
PLAIN = "fused Adam"
LOOP, POINT, SETTLED = "not watched", 500, 2000  # steps between two points, and until they are so far apart
WATCHED_ROUNDS = 20
WIDE = "resnet18"  # a logged point of it takes minutes
ROUNDS = 60
PROCESSES = 5
FIRST = """
import sys, time
from pathlib import Path
import torch
from core.run.seal import unchanged
torch.set_num_threads(1)
path, times = Path(sys.argv[1]), [time.process_time()]
unchanged(path)
times.append(time.process_time())
torch.load(path, weights_only=True)
times.append(time.process_time())
print((times[1] - times[0]) / (times[2] - times[1]))
"""

Work = Callable[[], object]


def run(cfg: "BenchConfig") -> None:
    """Print one table per network."""
    torch.set_num_threads(1)
    rounds = cfg.rounds or ROUNDS
    print(f"torch {torch.__version__}, one thread; medians and quartiles of {rounds} pairs, CPU time")
    for name in cfg.networks:
        report(name, "step", step_variants(name), PLAIN, rounds)
        if name != WIDE:
            for fused in (False, True):
                what = f"{POINT} steps of a loop with {'fused ' * fused}Adam"
                report(name, what, loop_variants(name, fused), LOOP, min(rounds, WATCHED_ROUNDS))
        report(name, "measurement", probe_variants(name), "gradient", rounds)
        report_checkpoint(name, min(rounds, WATCHED_ROUNDS))


def report(name: str, what: str, variants: dict[str, Work], plain: str, rounds: int) -> None:
    """Time the variants and print a table: medians, and the ratio's quartiles."""
    print(f"\n{f'{name}: {what}':<46}{'CPU ms':>9}{'wall ms':>10}    / {plain}")
    for variant, work in variants.items():
        if variant != plain:
            pairs = measure(work, variants[plain], rounds)
            ratios = [ours[0] / theirs[0] for ours, theirs in pairs]
            low, median, high = statistics.quantiles(ratios, n=4)
            cpu_ms, wall_ms = (1e3 * statistics.median(ours[i] for ours, _ in pairs) for i in (0, 1))
            print(f"  {variant:<44}{cpu_ms:9.3f}{wall_ms:10.3f}   {median:6.3f}  [{low:.3f}, {high:.3f}]")


def measure(work: Work, plain: Work, rounds: int) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Pairs of (CPU, wall) seconds per call: of the work, of the plain one beside it."""
    calls, plain_calls = block_size(work), block_size(plain)
    pairs = []
    for i in range(rounds):
        if i % 2:
            theirs, ours = seconds(plain, plain_calls), seconds(work, calls)
        else:
            ours, theirs = seconds(work, calls), seconds(plain, plain_calls)
        pairs.append((ours, theirs))
    return pairs


def seconds(work: Work, calls: int) -> tuple[float, float]:
    """CPU and wall time of one call."""
    began, began_cpu = time.perf_counter(), time.process_time()
    for _ in itertools.repeat(None, calls):
        work()
    return (time.process_time() - began_cpu) / calls, (time.perf_counter() - began) / calls


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


def loop_variants(name: str, fused: bool) -> dict[str, Work]:
    """A loop as anyone writes it, from one logged point to the next, and the same with a Watch."""

    def loop(watched: bool) -> Work:
        torch.manual_seed(0)
        net, shape, outputs = network(name)
        x, y = torch.randn(64, *shape), torch.randint(outputs, (64,))
        criterion = nn.CrossEntropyLoss()
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=fused or None)

        def work() -> None:
            for _ in range(POINT):
                optimizer.zero_grad()
                criterion(net(x), y).backward()
                optimizer.step()

        if watched:
            Watch(net, optimizer, loss=criterion, directory=tempfile.mkdtemp())
            for _ in range(SETTLED // POINT):
                work()
        return work

    return {LOOP: loop(watched=False), "watched, all defaults": loop(watched=True)}


def report_checkpoint(name: str, rounds: int) -> None:
    """What looking whether a network's checkpoint is whole costs beside loading it."""
    net, loss = problem(name)
    step = GradientStep(net, torch.optim.Adam(net.parameters(), lr=1e-3))
    step(lambda: (loss(net), {}))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "last.pt")
        save(path, {"policy": net.state_dict(), "step": step.state_dict()})
        work: dict[str, Work] = {
            "torch.load": lambda: torch.load(path, weights_only=True),
            "looking whether it is whole": lambda: unchanged(path),
        }
        report(name, f"checkpoint of {path.stat().st_size / 1e6:.2g} MB", work, "torch.load", rounds)
        first = [sys.executable, "-c", FIRST, str(path)]
        outputs = [
            subprocess.run(first, capture_output=True, text=True, check=True) for _ in range(PROCESSES)
        ]
    shares = [float(output.stdout) for output in outputs]
    print(f"  {'the first time in a new process':<63}   {quartiles(shares, '.3f')}")


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
    variants["per-sample norms of 64 samples"] = lambda: per_sample_norms(objective, check=False)
    variants["per-sample norms, checked"] = lambda: per_sample_norms(objective)
    return variants
