"""What a user waits for: CPU seconds and peak memory of whole processes, from the shell and back to it.

One thread each, in turn, in an order that changes; `import torch` alone is the limit. gradrl is measured as
it is and with torch's compiler, which `core.cli.eager` keeps out; the peer is a script of stable-baselines3
that does equal work (`programs/ppo_peer.py`). Nothing here imports torch: the peak memory of a process is at
least what its parent held.
"""

import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.numbers import quartiles
from core.run.directory import versions

from .table import write_table

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

ROUNDS, STEPS, EPISODES = 5, 50_000, 100
TRAIN = "from core.scripts.train_rl import main; main()"
WITH_COMPILER = f"import core.cli.job as job; job.keep_compiler_out = lambda: False; {TRAIN}"
PPO = [
    *("agent=ppo", "env=cartpole", "num_envs=8", "agent.num_steps=128", "agent.num_epochs=4"),
    *("agent.num_minibatches=4", "logging.progress=false", "hydra.run.dir=run"),
]
TORCH, OURS, PEER = "import torch", "gradrl", "stable-baselines3"
INSTALL = f"{PEER} is not installed, so there is no row of it: pip install {PEER}"


@dataclass(frozen=True)
class Cost:
    """One process: CPU seconds, of its children too, and its largest resident memory in MB."""

    cpu_s: float
    peak_mb: float


def run(cfg: "BenchConfig") -> None:
    """Print medians and quartiles, and write all figures as JSON."""
    if importlib.util.find_spec("stable_baselines3") is None:
        print(INSTALL)
    commands = programs(cfg.total_steps or STEPS)
    found: dict[str, list[Cost]] = {name: [] for name in commands}
    for number in range(cfg.rounds or ROUNDS):
        for name in list(commands)[:: 1 if number % 2 else -1]:
            found[name].append(cost(commands[name]))
    print("\n".join(summary(found)))
    figures = {
        name: {"cpu_s": [c.cpu_s for c in costs], "peak_mb": [c.peak_mb for c in costs]}
        for name, costs in found.items()
    }
    place = write_table(
        Path(cfg.folder or "runs/startup"), "startup", {"versions": versions(), "rows": figures}
    )
    print(f"figures: {place}")


def programs(steps: int) -> dict[str, list[str]]:
    """What is measured, by the name of its row: the words after `python`."""
    short = [*PPO, "total_steps=256", "evaluation.episodes=1"]
    whole = [*PPO, f"total_steps={steps}", f"evaluation.episodes={EPISODES}"]
    rows = {
        TORCH: ["-c", TORCH],
        f"{OURS}, 256 steps": ["-c", TRAIN, *short],
        f"{OURS}, 256 steps, compiler": ["-c", WITH_COMPILER, *short],
        f"{OURS}, whole": ["-c", TRAIN, *whole],
        f"{OURS}, whole, compiler": ["-c", WITH_COMPILER, *whole],
    }
    if importlib.util.find_spec("stable_baselines3") is not None:
        peer = "core.scripts.suites.programs.ppo_peer"
        rows[f"{PEER}, whole"] = ["-m", peer, str(steps), str(EPISODES)]
    return rows


def cost(words: Sequence[str]) -> Cost:
    """Run `python` with these words in a folder of its own.

    Raises:
        RuntimeError: it failed; the last line that it has written.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            [sys.executable, *words], cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=said, stderr=said,
        )  # fmt: skip
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            last = said.read().decode(errors="replace").strip().splitlines()[-1:]
            raise RuntimeError(f"python {' '.join(words)[:80]}: status {child.returncode}: {' '.join(last)}")
    return Cost(used.ru_utime + used.ru_stime, _megabytes(used))


def summary(found: dict[str, list[Cost]]) -> list[str]:
    """Lines of medians and quartiles, and how much of the peer's time the whole command takes."""
    lines = [f"{'':<30}{'CPU seconds':>22}{'peak memory, MB':>24}"]
    for name, costs in found.items():
        seconds, peaks = ([getattr(c, what) for c in costs] for what in ("cpu_s", "peak_mb"))
        lines.append(f"{name:<30}{quartiles(seconds, '.2f'):>22}{quartiles(peaks, '.0f'):>24}")
    for name in (f"{OURS}, whole", f"{OURS}, whole, compiler"):
        pairs = zip(found.get(f"{PEER}, whole", ()), found[name], strict=False)
        if ratios := [theirs.cpu_s / ours.cpu_s for theirs, ours in pairs]:
            lines.append(f"{f'times faster: {name}':<40}{quartiles(ratios, '.2f'):>22}")
    return lines


def _megabytes(used: resource.struct_rusage) -> float:
    """The peak of a process; the unit is kilobytes, on macOS bytes."""
    return used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
