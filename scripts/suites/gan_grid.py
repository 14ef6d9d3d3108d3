"""What makes a GAN's steps faster: each way alone, on D's step, G's, and D's with R1.

The pairs are the MLPs of `data=ring` and DCGANs of 32 and 64 pixels. Each cell is the time of one step of an
alternating update, whose discriminator's step also makes the samples that the generator's reads (compiled
steps make their own). Ways are taken in turn in one process; the clock is its CPU time, on a GPU the wall's.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from core.cli.launch import compose_tree
from core.config import build, config_dir
from core.numbers import quartiles
from core.run.compiled import check_compile
from core.run.directory import versions
from core.seeding import Generators
from gradgan import compiled
from gradgan.batch import Batch
from gradgan.train import TrainConfig, build_trainer
from gradgan.trainer import Trainer

from .gan import OVERRIDES
from .limit import Products, cpu_s, pays_after
from .table import chosen, write_table

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

ROUNDS = 9
PAIRS = {
    "ring": ["data=ring", "penalty=none", "loss=nonsaturating"],
    "dcgan32": [*OVERRIDES, "data.size=32"],
    "dcgan64": [*OVERRIDES, "data.size=64"],
}
WAYS = {
    "eager": ["channels_last=false"],
    "channels_last": ["channels_last=true"],
    "bf16": ["channels_last=true", "precision=bfloat16"],
    "compile": ["channels_last=true"],
}
R1 = ["penalty=r1", "penalty.interval=1"]
STEPS: tuple[str, ...] = ("D", "G", "D with R1")
LIMIT = "products alone"
GRAPHS = {"cpu": "CUDA graphs: not measured, they need a GPU", "cuda": "compile: as CUDA graphs"}


def run(cfg: "BenchConfig") -> None:
    """Print the grid of each pair, and write all times as JSON."""
    measure(cfg, torch.device("cpu"), Path(cfg.folder or "runs/gan_grid"))


def measure(cfg: "BenchConfig", device: torch.device, folder: Path) -> None:
    """The grids on one device."""
    check_compile("update", device)
    torch.set_num_threads(1)
    clock = time.process_time if device.type == "cpu" else partial(_after_all, device)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # so that the compiler is a child of this process
    figures: dict[str, object] = {}
    for name in chosen(cfg.rows, PAIRS):
        with tempfile.TemporaryDirectory() as cache:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = (
                cache  # empty: what is said of compiling is said of a first time
            )
            found, cost_s = grid(name, cfg.rounds or ROUNDS, device, clock)
        figures[name] = {"seconds": found, "compile_cpu_s": cost_s}
        print("\n".join(table(name, found, cost_s)), flush=True)
    print(GRAPHS[device.type])
    print(f"figures: {write_table(folder, 'gan_grid', {'versions': versions(), 'rows': figures})}")


def grid(
    name: str, rounds: int, device: torch.device, clock: Callable[[], float]
) -> tuple[dict[str, dict[str, list[float]]], dict[str, float]]:
    """Seconds of every step in every way, and the CPU seconds that compiling each has taken."""
    words = [*PAIRS[name], f"device={device.type}"]
    plain = {way: made(words + extra, way) for way, extra in WAYS.items()}
    with_r1 = {way: made([*words, *R1, *extra], way) for way, extra in WAYS.items()}
    found: dict[str, dict[str, list[float]]] = {way: {step: [] for step in STEPS} for way in (*WAYS, LIMIT)}
    products = {step: Products() for step in STEPS}
    cost_s = dict.fromkeys(STEPS, 0.0)
    for number in range(rounds + 2):
        real = batch(plain["eager"], number, device)
        for way in list(WAYS)[:: 1 if number % 2 else -1]:
            for step, call in steps(plain[way], with_r1[way], real).items():
                # The second round notes the products, in the layout that is fastest.
                if number == 1 and way == "channels_last":
                    with products[step]:
                        call()
                    continue
                began, taken = cpu_s(), clock()
                call()
                found[way][step] += [clock() - taken] if number > 1 else []
                if number == 0 and way == "compile":
                    cost_s[step] = cpu_s() - began
        for step in STEPS if number > 1 else ():
            taken = clock()
            products[step].again()
            found[LIMIT][step].append(clock() - taken)
    return found, cost_s


def made(words: list[str], way: str) -> Trainer:
    """A trainer with the same initial weights at every call, whose steps are compiled where asked."""
    options = build(compose_tree("gan", words, [config_dir()])[0])
    assert isinstance(options, TrainConfig)
    trainer = build_trainer(options, Generators(1), torch.device(options.device))
    compiled.begin("update" if way == "compile" else "off", trainer, print)
    return trainer


def batch(trainer: Trainer, number: int, device: torch.device) -> Batch:
    """Real samples of a round: uniform noise, for no arithmetic depends on what they show."""
    random = torch.Generator().manual_seed(number)
    size = trainer.discriminator_step.batch_size
    assert size is not None
    z = torch.zeros(1, trainer.latent_size, device=device)
    with torch.no_grad():
        shape = trainer.average.module(z).shape[1:]
    return Batch((torch.rand(size, *shape, generator=random) * 2 - 1).to(device), None)


def steps(plain: Trainer, with_r1: Trainer, real: Batch) -> dict[str, Callable[[], object]]:
    """One step each of D, of G on the same samples, and of D with R1."""
    of_d, of_g = plain.closures(real, shared=True)
    of_d_with_r1, _ = with_r1.closures(real, shared=False)
    return {
        "D": partial(plain.discriminator_step, *of_d),
        "G": partial(plain.generator_step, *of_g),
        "D with R1": partial(with_r1.discriminator_step, *of_d_with_r1),
    }


def table(name: str, found: dict[str, dict[str, list[float]]], cost_s: dict[str, float]) -> list[str]:
    """Milliseconds of every step, and in brackets how many times as fast as eager; what compiling costs."""
    lines = [f"{name:<16}" + "".join(f"{f'{step}, ms':>26}" for step in STEPS)]
    for way, by_step in found.items():
        cells = []
        for step, taken in by_step.items():
            ratios = [before / after for before, after in zip(found["eager"][step], taken, strict=True)]
            cells.append(f"{1e3 * statistics.median(taken):.1f} {quartiles(ratios, '.2f')}")
        lines.append(f"{way:<16}" + "".join(f"{cell:>26}" for cell in cells))
    alternating = STEPS[:2]
    fast, slow = (
        sum(statistics.median(found[way][step]) for step in alternating)
        for way in ("compile", "channels_last")
    )
    total_s = sum(cost_s[step] for step in alternating)
    costs = ", ".join(f"{step} {taken:.1f}" for step, taken in cost_s.items())
    lines.append(
        f"{'compiling':<16}CPU s, the first time: {costs}; D and G pay after "
        f"{pays_after(total_s, 1 / slow, 1 / fast)} updates"
    )
    return lines


def _after_all(device: torch.device) -> float:
    """The wall's time, once the device has done all that was asked of it."""
    torch.cuda.synchronize(device)
    return time.perf_counter()
