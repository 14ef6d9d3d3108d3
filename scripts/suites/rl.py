"""Agents against stable-baselines3: environment steps per CPU second, what was learnt, one action.

Ours eager, ours compiled (`compile=update`) and theirs run the same number of steps with the same
hyperparameters, whole runs in turn in one process, in an order that changes; the figure is the median of the
ratios of such rounds. The clock is the process' CPU time over the learning loop: acting, environment, update
and logging, without construction and the evaluation, and for ours without the iteration of the first update,
in which graphs are compiled.
"""

import importlib
import importlib.metadata
import itertools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch

from core.cli.launch import compose_tree
from core.config import build, config_dir
from core.gradients import Metrics
from core.numbers import quartiles
from core.run.run import Run
from core.seeding import seed_globally
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import DiscreteAction
from gradrl.policies.networks import ActorCritic, MLPConfig
from gradrl.policy import Policy
from gradrl.train import TrainConfig, train

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

EPISODES = 100  # of the evaluation after each run, with the most likely actions
NEVER = 10**12
STEPS, ROUNDS = 51_200, 5
WARM_UP = 2048
ACTIONS = 500  # of a block
# CleanRL's ppo.py: 4 environments x 128 steps, 4 epochs x 4 minibatches, Adam at 2.5e-4 annealed to 0.
CLEANRL = [
    "agent=ppo",
    "env=cartpole",
    "experiment=none",
    "num_envs=4",
    "agent.num_steps=128",
    "agent.num_epochs=4",
    "agent.num_minibatches=4",
    "agent.gamma=0.99",
    "agent.gae_lambda=0.95",
    "agent.clip_coef=0.2",
    "agent.value_clip_coef=0.2",
    "agent.value_coef=0.5",
    "agent.entropy_coef=0.01",
    "optimizer=adam",
    "optimizer.lr=2.5e-4",
    "optimizer.eps=1e-5",
    "schedule=linear",
    "clipper=global_norm",
    "clipper.max_norm=0.5",
]
OVERRIDES = [
    f"evaluation.episodes={EPISODES}",
    *(f"logging.{what}_interval={NEVER}" for what in ("eval", "draw", "checkpoint")),
    "logging.progress=false",
]
REPLAY = [
    "env=pendulum",
    "experiment=none",
    "num_envs=1",
    "agent.num_steps=1",
    "agent.learning_starts=500",
    "agent.batch_size=64",
    "policy.hidden_sizes=[64,64]",
    "clipper=none",
    "schedule=constant",
    "optimizer.lr=3e-4",
]


@dataclass(frozen=True)
class Row:
    """What is compared: our overrides, and the peer's class, environment and keywords."""

    overrides: list[str]
    algorithm: str
    env: str
    num_envs: int
    options: Mapping[str, Any]


SMALL = {
    "policy_kwargs": {"net_arch": [64, 64]},
    "learning_starts": 500,
    "batch_size": 64,
    "learning_rate": 3e-4,
}
ROWS = {
    "cleanrl": Row(
        CLEANRL,
        "PPO",
        "CartPole-v1",
        4,
        {
            "n_steps": 128,
            "batch_size": 128,
            "n_epochs": 4,
            "learning_rate": lambda remaining: 2.5e-4 * remaining,
            "gamma": 0.99,
            "gae_lambda": 0.95,
            "clip_range": 0.2,
            "clip_range_vf": 0.2,
            "ent_coef": 0.01,
            "vf_coef": 0.25,  # of the mean squared error, not of half of it
            "max_grad_norm": 0.5,
            "policy_kwargs": {"optimizer_kwargs": {"eps": 1e-5}},
        },
    ),
    "zoo": Row(
        ["agent=ppo", "env=cartpole"],  # its page has rl-baselines3-zoo's settings
        "PPO",
        "CartPole-v1",
        8,
        {
            "n_steps": 32,
            "batch_size": 256,
            "n_epochs": 20,
            "learning_rate": lambda remaining: 1e-3 * remaining,
            "gamma": 0.98,
            "gae_lambda": 0.8,
            "clip_range": lambda remaining: 0.2 * remaining,
            "vf_coef": 0.25,
        },
    ),
    "halfcheetah": Row(
        [
            "agent=ppo",
            "env=halfcheetah",
            "experiment=none",
            "num_envs=1",
            "agent.num_steps=2048",
            "agent.num_epochs=10",
            "agent.num_minibatches=32",
            "optimizer.lr=3e-4",
        ],
        "PPO",
        "HalfCheetah-v5",
        1,
        {"n_steps": 2048, "batch_size": 64, "n_epochs": 10, "vf_coef": 0.25},
    ),
    "sac": Row(["agent=sac", *REPLAY], "SAC", "Pendulum-v1", 1, SMALL),
    "td3": Row(["agent=td3", *REPLAY], "TD3", "Pendulum-v1", 1, SMALL),
}
INSTALL = "stable-baselines3 is not installed, so this is our figure alone: pip install stable-baselines3"


@dataclass(frozen=True)
class Result:
    """One run: environment steps per CPU second of its loop, mean return reached, seconds to compile."""

    speed: float
    score: float
    compile_s: float = 0.0


def run(cfg: "BenchConfig") -> None:
    """Print every round, then medians and quartiles."""
    torch.set_num_threads(1)
    steps, rounds, peer = cfg.total_steps or STEPS, cfg.rounds or ROUNDS, installed()
    versions = f"torch {torch.__version__}, gymnasium {importlib.metadata.version('gymnasium')}"
    print(f"{versions}, one thread, {steps:,} steps")
    print("gradrl: defaults, with the gradient monitor and TensorBoard events of every metric and layer")
    print(
        INSTALL
        if peer is None
        else f"stable-baselines3 {peer}: defaults, with its Monitor; no TensorBoard log"
    )
    for name in cfg.rows or tuple(ROWS)[:1]:
        print(f"{name}:")
        compare(ROWS[name], steps, rounds, peer is not None)
    acting(rounds, peer is not None)


def compare(row: Row, steps: int, rounds: int, peer: bool) -> None:
    """Print the rounds of one row, and their summary."""
    contenders: dict[str, Callable[[int, int], Result]] = {
        "compiled": partial(ours, [*row.overrides, "compile=update"]),
        "gradrl": partial(ours, row.overrides),
    }
    if peer:
        contenders["stable-baselines3"] = partial(theirs, row)
    for contender in contenders.values():
        contender(WARM_UP, 0)  # imports, first calls, and graphs for the cache
    results = []
    for seed in range(1, rounds + 1):
        order = list(contenders)[:: 1 if seed % 2 else -1]
        found = {name: contenders[name](steps, seed) for name in order}
        results.append(found)
        print("  ".join([f"seed {seed}:", *(f"{n} {words(found[n])}" for n in contenders)]), flush=True)
    print("\n".join(summary(results)))


def summary(rounds: list[dict[str, Result]]) -> list[str]:
    """Lines of medians and quartiles: speeds, what was learnt, and the ratios within rounds."""
    lines = [f"{'':<34}{'steps per CPU second':>30}{'mean return':>26}"]
    for name in rounds[0]:
        speeds, scores = ([getattr(r[name], what) for r in rounds] for what in ("speed", "score"))
        lines.append(f"{name:<34}{quartiles(speeds, ',.0f'):>30}{quartiles(scores, '.0f'):>26}")
    for first, second in itertools.combinations(rounds[0], 2):
        ratios = [found[first].speed / found[second].speed for found in rounds]
        lines.append(f"{f'{first} : {second}':<34}{quartiles(ratios, '.2f'):>30}")
    compiled = [found["compiled"] for found in rounds if "compiled" in found]
    if compiled:
        lines.append(f"{'seconds to compile':<34}{quartiles([r.compile_s for r in compiled], '.1f'):>30}")
    return lines


def acting(rounds: int, peer: bool) -> None:
    """Print what one action for one observation costs: a policy of ours, and `predict` of an equal network.

    Blocks of both in turn, in an order that changes; CPU time, medians and quartiles.
    """
    space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    model = ActorCritic(MLPConfig(), Observation(space), DiscreteAction(2, 0), torch.Generator())
    policy = Policy(model, space, gym.spaces.Discrete(2))
    contenders: dict[str, Callable[[np.ndarray], object]] = {"gradrl": policy}
    if peer:
        sb3 = importlib.import_module("stable_baselines3")
        agent = sb3.PPO("MlpPolicy", "CartPole-v1", device="cpu")
        contenders["stable-baselines3"] = lambda obs: agent.predict(obs, deterministic=True)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    random = np.random.default_rng(0)
    for number in range(4 * rounds + 1):
        observations = random.normal(size=(ACTIONS, 4)).astype(np.float32)
        for name in list(contenders)[:: 1 if number % 2 else -1]:
            began = time.process_time()
            for obs in observations:
                contenders[name](obs)
            seconds[name].append((time.process_time() - began) / ACTIONS)
    print(f"{'':<20}{'CPU us for one action':>30}")
    for name, found in seconds.items():
        print(f"{name:<20}{quartiles([1e6 * s for s in found[1:]], '.1f'):>30}")  # the first warms up
    if peer:
        pairs = zip(*seconds.values(), strict=True)
        ratios = [theirs / ours for ours, theirs in list(pairs)[1:]]
        print(f"{'ratio':<20}{quartiles(ratios, '.2f'):>30}")


def words(result: Result) -> str:
    """One run in words."""
    return f"{result.speed:,.0f} steps/s, mean return {result.score:.0f}"


def installed() -> str | None:
    """The version of stable-baselines3, None without it."""
    try:
        importlib.import_module("stable_baselines3")
    except ImportError:
        return None
    return importlib.metadata.version("stable_baselines3")


class TimedRun(Run):
    """A run that notes the CPU time of its loop after the first update, and draws nothing at its end."""

    first = 0  # step at which the clock began

    clock = staticmethod(time.process_time)

    def start(self, **kwargs) -> None:  # type: ignore[override]  # hands on whatever `Run.start` takes
        """As in `Run`, then the clock."""
        super().start(**kwargs)
        self.gradient_steps = kwargs["gradient_steps"]
        self.updating = False
        self.began = self.clock()

    def finish_step(self, step: int, metrics: Metrics) -> None:
        """As in `Run`; the clock begins anew after the first update."""
        super().finish_step(step, metrics)
        if not self.updating and all(s.monitor.steps for s in self.gradient_steps):
            self.updating, self.first = True, step
            self.began = self.clock()

    def finish(self, measure: Callable[[], Mapping[str, object]]) -> None:
        """The clock, then the long evaluation."""
        self.loop_s = self.clock() - self.began
        self.found = measure()


def ours(words: Sequence[str], steps: int, seed: int, timed: type[TimedRun] = TimedRun) -> Result:
    """A run of gradrl with these overrides."""
    words = [*words, *OVERRIDES, f"total_steps={steps}", f"seed={seed}"]
    tree, _, _ = compose_tree("rl", words, [config_dir()])
    cfg = build(tree)
    assert isinstance(cfg, TrainConfig)
    seed_globally(seed)
    with tempfile.TemporaryDirectory() as folder:
        run = timed(Path(folder), cfg.logging, tree, {"seed": seed})
        try:
            train(cfg, run)
        finally:
            run.close()
    score = run.found["eval_return_mean"]
    assert isinstance(score, float)
    graphs = [graph for each in run.gradient_steps if each.compiled for graph in each.compiled.graphs]
    return Result((run.step - run.first) / run.loop_s, score, sum(graph.compile_s for graph in graphs))


def theirs(row: Row, steps: int, seed: int) -> Result:
    """The same of stable-baselines3."""
    sb3 = importlib.import_module("stable_baselines3")
    env_util = importlib.import_module("stable_baselines3.common.env_util")
    evaluation = importlib.import_module("stable_baselines3.common.evaluation")
    envs = env_util.make_vec_env(row.env, n_envs=row.num_envs, seed=seed)
    model = getattr(sb3, row.algorithm)("MlpPolicy", envs, seed=seed, device="cpu", **row.options)
    began = time.process_time()
    model.learn(total_timesteps=steps)
    cpu_s = time.process_time() - began
    eval_envs = env_util.make_vec_env(row.env, n_envs=20, seed=10_000 + seed)
    with redirect_stdout(StringIO()):
        score, _ = evaluation.evaluate_policy(model, eval_envs, n_eval_episodes=EPISODES, deterministic=True)
    return Result(model.num_timesteps / cpu_s, float(score))
