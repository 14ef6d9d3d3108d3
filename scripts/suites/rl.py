"""PPO on CartPole against stable-baselines3: environment steps per CPU second, what was learnt, one action.

Both run the same number of steps with CleanRL's hyperparameters, whole runs in turn in one process, in an
order that changes; the figure is the median of the ratios of such pairs. The clock is the process' CPU time
over the learning loop: acting, environment, update and logging, without construction and the evaluation.
"""

import importlib
import importlib.metadata
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import gymnasium as gym
import numpy as np
import torch

from core.cli.launch import compose_tree
from core.config import build, config_dir
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
ACTIONS = 500  # of a block
# CleanRL's ppo.py: 4 environments x 128 steps, 4 epochs x 4 minibatches, Adam at 2.5e-4 annealed to 0.
OVERRIDES = [
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
    f"evaluation.episodes={EPISODES}",
    *(f"logging.{what}_interval={NEVER}" for what in ("eval", "draw", "checkpoint")),
    "logging.progress=false",
]
INSTALL = "stable-baselines3 is not installed, so this is our figure alone: pip install stable-baselines3"


@dataclass(frozen=True)
class Result:
    """One run: environment steps per CPU second of its loop, and the mean return it reached."""

    speed: float
    score: float


def run(cfg: "BenchConfig") -> None:
    """Print every round, then medians and quartiles."""
    torch.set_num_threads(1)
    steps, peer = cfg.total_steps or STEPS, installed()
    versions = f"torch {torch.__version__}, gymnasium {importlib.metadata.version('gymnasium')}"
    print(f"PPO on CartPole-v1, CleanRL's hyperparameters, {steps:,} steps; {versions}, one thread")
    print("gradrl: defaults, with the gradient monitor and TensorBoard events of every metric and layer")
    print(
        INSTALL
        if peer is None
        else f"stable-baselines3 {peer}: defaults, with its Monitor; no TensorBoard log"
    )
    contenders: dict[str, Callable[[int, int], Result]] = {"gradrl": ours}
    if peer is not None:
        contenders["stable-baselines3"] = theirs
    for contender in contenders.values():
        contender(512, 0)  # imports and first calls
    rounds = []
    for seed in range(1, (cfg.rounds or ROUNDS) + 1):
        order = list(contenders)[:: 1 if seed % 2 else -1]
        found = {name: contenders[name](steps, seed) for name in order}
        rounds.append(found)
        print("  ".join([f"seed {seed}:", *(f"{n} {words(found[n])}" for n in contenders)]), flush=True)
    print("\n".join(summary(rounds)))
    acting(cfg.rounds or ROUNDS, peer is not None)


def summary(rounds: list[dict[str, Result]]) -> list[str]:
    """Lines of medians and quartiles: speeds, what was learnt, and the ratio of the pairs."""
    lines = [f"{'':<20}{'steps per CPU second':>30}{'mean return':>26}"]
    for name in rounds[0]:
        speeds, scores = ([getattr(r[name], what) for r in rounds] for what in ("speed", "score"))
        lines.append(f"{name:<20}{quartiles(speeds, ',.0f'):>30}{quartiles(scores, '.0f'):>26}")
    if len(rounds[0]) == 2:
        ratios = [found["gradrl"].speed / found["stable-baselines3"].speed for found in rounds]
        lines.append(f"{'ratio':<20}{quartiles(ratios, '.2f'):>30}")
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
    """A run that notes the CPU time of its loop and draws nothing at its end."""

    clock = staticmethod(time.process_time)

    def start(self, **kwargs) -> None:  # type: ignore[override]  # hands on whatever `Run.start` takes
        """As in `Run`, then the clock."""
        super().start(**kwargs)
        self.began = self.clock()

    def finish(self, measure: Callable[[], Mapping[str, object]]) -> None:
        """The clock, then the long evaluation."""
        self.loop_s = self.clock() - self.began
        self.found = measure()


def ours(steps: int, seed: int, *overrides: str, timed: type[TimedRun] = TimedRun) -> Result:
    """A run of gradrl, with further overrides and another clock."""
    words = [*OVERRIDES, *overrides, f"total_steps={steps}", f"seed={seed}"]
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
    return Result(run.step / run.loop_s, score)


def theirs(steps: int, seed: int) -> Result:
    """The same of stable-baselines3."""
    sb3 = importlib.import_module("stable_baselines3")
    env_util = importlib.import_module("stable_baselines3.common.env_util")
    evaluation = importlib.import_module("stable_baselines3.common.evaluation")
    envs = env_util.make_vec_env("CartPole-v1", n_envs=4, seed=seed)
    model = sb3.PPO(
        "MlpPolicy",
        envs,
        n_steps=128,
        batch_size=128,
        n_epochs=4,
        learning_rate=lambda remaining: 2.5e-4 * remaining,
        gamma=0.99,
        gae_lambda=0.95,
        clip_range=0.2,
        clip_range_vf=0.2,
        ent_coef=0.01,
        vf_coef=0.25,  # of the mean squared error, not of half of it
        max_grad_norm=0.5,
        policy_kwargs={"optimizer_kwargs": {"eps": 1e-5}},
        seed=seed,
        device="cpu",
    )
    began = time.process_time()
    model.learn(total_timesteps=steps)
    cpu_s = time.process_time() - began
    eval_envs = env_util.make_vec_env("CartPole-v1", n_envs=20, seed=10_000 + seed)
    with redirect_stdout(StringIO()):
        score, _ = evaluation.evaluate_policy(model, eval_envs, n_eval_episodes=EPISODES, deterministic=True)
    return Result(model.num_timesteps / cpu_s, float(score))
