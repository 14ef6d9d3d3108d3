"""What ranks cost and gain: the same training by one process, by one with more threads, and by torchrun.

PPO on HalfCheetah, whose environments the ranks share, and a DCGAN of 32 pixels, whose batches they share;
24 whole commands in turn, in an order that changes: some 6 minutes on two quiet cores. Speeds are those of
the training loop, as the run's summary has them; CPU seconds and the wall's are those of the whole command,
start and pictures included.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.numbers import quartiles

from .table import write_table

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

ROUNDS, RANKS, STEPS = 3, 2, 16_384
SPEED = {"train_rl": "env_steps_per_s", "train_gan": "images_per_s"}
QUIET = ("logging.draw_interval=1000000000", "logging.eval_interval=1000000000", "device=cpu")
PPO = ("agent=ppo", "env=halfcheetah", "num_envs=8", "agent.num_steps=512", "evaluation.episodes=1")
DCGAN = (
    *("data=folder", "data.root=images", "data.size=32", "network=dcgan", "network.width=32"),
    *("batch_size=64", "evaluation.samples=8"),
)
IMAGES = 256


@dataclass(frozen=True)
class Way:
    """How a training is started: ranks of torchrun, 0 without it, and threads of each process."""

    ranks: int
    threads: int


WAYS = {
    "one process": Way(0, 1),
    f"one process, {RANKS} threads": Way(0, RANKS),
    "torchrun, 1 rank": Way(1, 1),
    f"torchrun, {RANKS} ranks": Way(RANKS, 1),
}


@dataclass(frozen=True)
class Cost:
    """One training: environment steps or images a second of its loop; seconds of CPUs and of the wall."""

    speed: float
    cpu_s: float
    wall_s: float


def run(cfg: "BenchConfig") -> None:
    """Print medians and quartiles for both trainings, and write all figures as JSON."""
    steps = cfg.total_steps or STEPS
    trainings = {
        "PPO, HalfCheetah": ("train_rl", (*PPO, f"total_steps={steps}")),
        "DCGAN, 32 pixels": ("train_gan", (*DCGAN, f"total_images={steps // 4}")),
    }
    figures = {}
    for title, (script, words) in trainings.items():
        found: dict[str, list[Cost]] = {name: [] for name in WAYS}
        for number in range(cfg.rounds or ROUNDS):
            for name in list(WAYS)[:: 1 if number % 2 else -1]:
                found[name].append(cost(WAYS[name], script, words))
                print(f"{title}, {name}: {found[name][-1].wall_s:.0f} s", flush=True)
        print("\n".join(summary(title, found)), flush=True)
        figures[title] = {name: [vars(c) for c in costs] for name, costs in found.items()}
    print(f"figures: {write_table(Path(cfg.folder or 'runs/ranks'), 'ranks', {'rows': figures})}")


def cost(way: Way, script: str, words: tuple[str, ...]) -> Cost:
    """Train once, in a folder of its own.

    Raises:
        RuntimeError: it failed; the last line that it has written.
    """
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={way.ranks}"]
    command = [*(torchrun if way.ranks else ()), "-m", f"core.scripts.{script}", *words, *QUIET]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        if script == "train_gan":
            draw(Path(folder, "images"))
        began = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, *command, f"num_threads={way.threads}", "hydra.run.dir=run"], cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": str(way.threads)}, stdout=said, stderr=said,
        )  # fmt: skip
        _, status, used = os.wait4(child.pid, 0)
        wall_s = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
            last = next((line for line in lines if line.startswith("error: ")), "".join(lines[-1:]))
            raise RuntimeError(f"{script} with {way}: status {child.returncode}: {last}")
        speed = json.loads(Path(folder, "run", "summary.json").read_text())[SPEED[script]]
    return Cost(speed, used.ru_utime + used.ru_stime, wall_s)


def draw(folder: Path) -> None:
    """Random images of 32 pixels: how fast a network learns does not depend on what it is shown."""
    from PIL import Image

    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        pixels = random.integers(256, size=(32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def summary(title: str, found: dict[str, list[Cost]]) -> list[str]:
    """A line for each way, and its speed in parts of that of one process."""
    first = found["one process"]
    lines = [f"{title:<26}{'a second':>22}{'of one process':>18}{'CPU seconds':>20}{'wall seconds':>20}"]
    for name, costs in found.items():
        ratios = [c.speed / one.speed for c, one in zip(costs, first, strict=True)]
        columns = [quartiles([getattr(c, what) for c in costs], ".1f") for what in ("cpu_s", "wall_s")]
        speed = quartiles([c.speed for c in costs], ",.0f")
        lines.append(f"{name:<26}{speed:>22}{quartiles(ratios, '.2f'):>18}{columns[0]:>20}{columns[1]:>20}")
    return lines
