"""Environments as tensors (`env.vectorization=torch`) against gymnasium's own: their steps, and PPO's.

First steps of the environments alone, with random actions, then whole training loops of PPO on CartPole,
whose copies take 32 steps between two updates. All in turn in one process; medians and quartiles. The clock
is the process' CPU time with one thread; where there is a GPU the tensors are there, and the clock is the
wall's.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from core.numbers import quartiles
from core.run.device import resolve_device
from gradrl.envs.make import EnvConfig, inspect_env, make_envs, make_torch_envs, reset_envs

from .rl import TimedRun, ours
from .rl_rows import CLEANRL

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

IDS = ("CartPole-v1", "Acrobot-v1", "Pendulum-v1", "MountainCar-v0", "MountainCarContinuous-v0")
COPIES, TRAINED_COPIES = (1, 64, 1024, 4096), (1024, 4096)
ROUNDS = 5
SECONDS = 0.2  # of a block of steps, about
NUM_STEPS, ROLLOUTS = 32, 4


class WallRun(TimedRun):
    """A run that notes the wall's time of its loop: a device works while the process waits."""

    clock = staticmethod(time.perf_counter)


def run(cfg: "BenchConfig") -> None:
    """Print a line for each environment and number of copies, then one for each size of PPO's rollouts."""
    torch.set_num_threads(1)
    device = resolve_device("auto")
    device = torch.device("cpu") if device.type == "mps" else device
    timed = TimedRun if device.type == "cpu" else WallRun
    rounds = cfg.rounds or ROUNDS
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "one thread of the CPU"
    print(f"gymnasium's copies on the CPU, tensors on {name}; steps of all copies per second, medians")
    for env_id in IDS:
        for num_envs in COPIES:
            takes = {kind: steps(env_id, num_envs, kind, device) for kind in ("auto", "torch")}
            found = in_turn(rounds, {k: partial(speed, take, num_envs, timed) for k, take in takes.items()})
            print(line(f"{env_id} x {num_envs:,}", found), flush=True)
    for num_envs in TRAINED_COPIES:
        contenders = {
            "auto": partial(trained, num_envs, timed, "env.vectorization=auto", "device=cpu"),
            "torch": partial(trained, num_envs, timed, "env.vectorization=torch", f"device={device}"),
        }
        print(line(f"PPO, CartPole-v1 x {num_envs:,}", in_turn(rounds, contenders)), flush=True)


def trained(num_envs: int, timed: type[TimedRun], *words: str) -> float:
    """Environment steps per second of a training loop."""
    shape = (f"num_envs={num_envs}", f"agent.num_steps={NUM_STEPS}", "evaluation.episodes=1")
    return ours([*CLEANRL, *shape, *words], NUM_STEPS * num_envs * ROLLOUTS, 1, timed).speed


def in_turn(rounds: int, contenders: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """What each gives in every round, in an order that changes; a first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name in list(contenders)[:: 1 if number % 2 else -1]:
            value = contenders[name]()
            found[name] += [value] if number else []
    return found


def line(label: str, found: dict[str, list[float]]) -> str:
    """Speeds of both, and the ratio of the pairs."""
    ratios = [new / old for old, new in zip(found["auto"], found["torch"], strict=True)]
    speeds = [f"{kind} {quartiles(found[kind], ',.0f')}" for kind in found]
    return f"{label:<34}" + "".join(f"{text:<48}" for text in speeds) + f"ratio {quartiles(ratios, '.2f')}"


def steps(env_id: str, num_envs: int, kind: str, device: torch.device) -> Callable[[int], None]:
    """What takes so many steps of N copies with actions drawn beforehand, and waits for the device."""
    cfg = EnvConfig(
        id=env_id,
        kwargs={},
        import_module=None,
        wrappers=(),
        train_wrappers=(),
        vectorization="torch" if kind == "torch" else "auto",
        autoreset="same_step",
    )
    info, seeds = inspect_env(cfg), range(num_envs)
    info.action_space.seed(0)
    single = np.array([info.action_space.sample() for _ in range(1000)])
    drawn = np.random.default_rng(0).choice(single, (16, num_envs))
    if kind == "torch":
        envs = make_torch_envs(cfg, info, seeds, device)
        actions = list(torch.from_numpy(drawn).to(device))
    else:
        envs, actions = make_envs(cfg, num_envs), list(drawn)
        reset_envs(envs, seeds)

    def take(count: int) -> None:
        for t in range(count):
            envs.step(actions[t % len(actions)])
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return take


def speed(take: Callable[[int], None], num_envs: int, timed: type[TimedRun]) -> float:
    """Steps of all copies per second, over about as long as a block takes."""
    count = 1
    while True:
        began = timed.clock()
        take(count)
        elapsed = timed.clock() - began
        if elapsed >= SECONDS:
            return count * num_envs / elapsed
        count *= 2
