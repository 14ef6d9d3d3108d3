"""What needs a GPU: environments as tensors with their learner on it, compiled updates, a GAN's steps.

On a GPU `compile=update` makes CUDA graphs, so each is measured without and with. Without a GPU there is
nothing to measure, which is said.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from core.numbers import quartiles

from . import device_envs, gan_grid
from .rl import TimedRun, ours
from .rl_rows import CLEANRL, LARGE, REPLAY

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

NONE = "no GPU here, so nothing was measured: suite=gpu wants a CUDA device"
COPIES, NUM_STEPS, ROLLOUTS = 4096, 32, 20
SAC_STEPS = 3000
WAYS = {"eager": [], "compiled": ["compile=update"]}


class AwaitedRun(TimedRun):
    """A run that notes the wall's time, once the device has done all that was asked of it."""

    @staticmethod
    def clock() -> float:
        """Seconds."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


def run(cfg: "BenchConfig") -> None:
    """Run all of them where there is a CUDA device."""
    if not torch.cuda.is_available():
        print(NONE)
        return
    device = torch.device("cuda")
    print("\n".join(agents(device, cfg.rounds or device_envs.ROUNDS)), flush=True)
    device_envs.run(cfg)
    gan_grid.measure(cfg, device, Path(cfg.folder or "runs/gpu"))


def agents(device: torch.device, rounds: int) -> list[str]:
    """Lines of PPO's trained steps per second, all copies on the device, and of SAC's updates per second."""
    shape = (f"num_envs={COPIES}", f"agent.num_steps={NUM_STEPS}", "env.vectorization=torch")
    ppo = [*CLEANRL, *shape, "evaluation.episodes=1", f"device={device}"]
    sac = ["agent=sac", *REPLAY, *LARGE, "evaluation.episodes=1", f"device={device}"]
    found: dict[str, dict[str, list[float]]] = {
        what: {way: [] for way in WAYS} for what in ("PPO, steps", "SAC, updates")
    }
    for number in range(rounds):
        for way in list(WAYS)[:: 1 if number % 2 else -1]:
            words, seed = WAYS[way], number + 1
            whole = ours([*ppo, *words], NUM_STEPS * COPIES * ROLLOUTS, seed, AwaitedRun)
            found["PPO, steps"][way].append(whole.speed)
            update_s = ours([*sac, *words], SAC_STEPS, seed, AwaitedRun).update_s
            found["SAC, updates"][way].append(1 / update_s)
    return [line(what, by_way) for what, by_way in found.items()]


def line(what: str, by_way: dict[str, list[float]]) -> str:
    """How many a second in every way, and how many times as many the last makes as the first."""
    first, *_, last = by_way.values()
    ratios = [after / before for before, after in zip(first, last, strict=True)]
    speeds = (f"{way} {quartiles(found, ',.0f')}" for way, found in by_way.items())
    return "  ".join([f"{f'{what} per second:':<26}", *speeds, f"ratio {quartiles(ratios, '.2f')}"])
