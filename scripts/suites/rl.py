"""Agents against stable-baselines3 and skrl: environment steps per CPU second, what was learnt, one action.

Ours eager, ours compiled (`compile=update`) and theirs run the same number of steps with the same
hyperparameters, whole runs in turn in one process, in an order that changes; the figure is the median of the
ratios of such rounds. The clock is the process' CPU time over the learning loop: acting, environment, update
and logging, without construction and the evaluation, and for ours and stable-baselines3 from the end of the
first update on: before it nothing is learnt, and graphs are compiled in it.

The limit is the matrix products of our updates alone (`scripts.suites.limit`), which leaves out acting and
the environment: as a speed, and as a share of the time that the updates take. What compiling costs is the CPU
time up to the end of the first update, a C++ compiler's included, beyond that of the eager run: once with an
empty cache, and again in the same process in the rounds.

Equal work is checked: gradient steps, of all optimizers, for 1,000 environment steps. Ours does not count the
reset of an environment as a step, so a rollout with resets in it has fewer of them and as many updates.

Peers run in our process, and so in our environment, to take turns with us; what `make bench-peers` adds asks
for no other version of what is there. skrl runs the row cleanrl only.
"""

import copy
import importlib
import importlib.metadata
import itertools
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from core.cli.launch import compose_tree
from core.config import build, config_dir
from core.gradients import Metrics
from core.numbers import quartiles
from core.run.directory import versions as all_versions
from core.run.run import Run
from core.seeding import seed_globally
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import DiscreteAction
from gradrl.policies.networks import ActorCritic, MLPConfig
from gradrl.policy import Policy
from gradrl.train import TrainConfig, train

from .limit import Products, cpu_s, pays_after, seconds
from .rl_rows import ROWS, Row
from .table import chosen, write_table

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

OFF = 0.1  # share by which another's work may differ from ours
EPISODES = 100  # of the evaluation after each run, with the most likely actions
NEVER = 10**12
STEPS, ROUNDS = 51_200, 5
WARM_UP = 2048
ACTIONS = 500  # of a block
NOTED = 2  # updates whose products are noted: with TD3, one with the actor and one without
OVERRIDES = [
    f"evaluation.episodes={EPISODES}",
    *(f"logging.{what}_interval={NEVER}" for what in ("eval", "draw", "checkpoint")),
    "logging.progress=false",
]
PEERS = {  # how each runs here
    "stable-baselines3": "defaults, with its Monitor; no TensorBoard log",
    "skrl": "its trainer and random memory; no TensorBoard log; the row cleanrl alone",
}
MISSING = "is not installed, so its figures are left out: make bench-peers"


@dataclass(frozen=True)
class Result:
    """One run, in CPU seconds.

    Attributes:
        speed: environment steps per second of its loop.
        score: mean return reached.
        begin_s: up to the end of the first update.
        update_s: of the updates, for one environment step; 0 where it was not taken.
        steps: environment steps, all of them.
        updates: gradient steps, all of them, of every optimizer.
    """

    speed: float
    score: float
    begin_s: float = 0.0
    update_s: float = 0.0
    steps: int = 0
    updates: int = 0


def run(cfg: "BenchConfig") -> None:
    """Print every round, then medians and quartiles."""
    torch.set_num_threads(1)
    steps, rounds, peers = cfg.total_steps or STEPS, cfg.rounds or ROUNDS, installed()
    versions = f"torch {torch.__version__}, gymnasium {importlib.metadata.version('gymnasium')}"
    print(f"{versions}, one thread, {steps:,} steps")
    print("gradrl: defaults, with the gradient monitor and TensorBoard events of every metric and layer")
    for name, how in PEERS.items():
        print(f"{name} {peers[name]}: {how}" if name in peers else f"{name} {MISSING}")
    figures: dict[str, object] = {}
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # so that the compiler is a child of this process
    for name in chosen(cfg.rows or tuple(ROWS)[:1], ROWS):
        print(f"{name}:")
        with tempfile.TemporaryDirectory() as cache:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
            figures[name] = compare(ROWS[name], steps, rounds, peers)
    acting(rounds, "stable-baselines3" in peers)
    place = write_table(Path(cfg.folder or "runs/rl"), "rl", {"versions": all_versions(), "rows": figures})
    print(f"figures: {place}")


def compare(row: Row, steps: int, rounds: int, peers: Collection[str]) -> dict[str, object]:
    """Print the rounds of one row, and their summary; all figures."""
    contenders: dict[str, Callable[[int, int], Result]] = {
        "compiled": partial(ours, [*row.overrides, "compile=update"]),
        "gradrl": partial(ours, row.overrides),
    }
    products = Products()
    if "stable-baselines3" in peers:
        contenders["stable-baselines3"] = partial(theirs, row)
    if "skrl" in peers and row is ROWS["cleanrl"]:
        contenders["skrl"] = partial(of_skrl, row)
    # Imports, first calls, and graphs for the cache.
    first = {name: contender(WARM_UP, 0) for name, contender in contenders.items()}
    ours(row.overrides, max(WARM_UP, (NOTED + 1) * row.rollout), 0, products=products)
    results, limit_s = [], []
    for seed in range(1, rounds + 1):
        order = list(contenders)[:: 1 if seed % 2 else -1]
        found = {name: contenders[name](steps, seed) for name in order}
        limit_s.append(seconds(products.again) / (NOTED * row.rollout))
        results.append(found)
        print("  ".join([f"seed {seed}:", *(f"{n} {words(found[n])}" for n in contenders)]), flush=True)
    print("\n".join(summary(results) + work(results) + ends(first, results, limit_s)))
    return {"first": jsoned([first]), "rounds": jsoned(results), "limit_s": limit_s}


def jsoned(rounds: list[dict[str, Result]]) -> list[dict[str, dict[str, float]]]:
    """Rounds as JSON has them."""
    return [{name: asdict(result) for name, result in found.items()} for found in rounds]


def ends(first: dict[str, Result], rounds: list[dict[str, Result]], limit_s: list[float]) -> list[str]:
    """Lines about what compiling costs and when it pays, and about the limit."""
    lines = []
    slow, fast = (statistics.median(r[name].speed for r in rounds) for name in ("gradrl", "compiled"))
    for when, found in (("empty cache", [first]), ("again", rounds)):
        cost_s = statistics.median(r["compiled"].begin_s - r["gradrl"].begin_s for r in found)
        after = pays_after(cost_s, slow, fast)
        lines.append(f"compiling, {when:<23}{cost_s:>18.1f} CPU s, pays after {after} steps")
    lines.append(f"{'limit: products of the updates':<34}{quartiles([1 / s for s in limit_s], ',.0f'):>30}")
    for name in ("gradrl", "compiled"):
        shares = [100 * least / r[name].update_s for least, r in zip(limit_s, rounds, strict=True)]
        lines.append(f"{f'{name}: % of the limit, updates':<34}{quartiles(shares, '.0f'):>30}")
    return lines


def summary(rounds: list[dict[str, Result]]) -> list[str]:
    """Lines of medians and quartiles: speeds, what was learnt, and the ratios within rounds."""
    lines = [f"{'':<34}{'steps per CPU second':>30}{'mean return':>26}"]
    for name in rounds[0]:
        speeds, scores = ([getattr(r[name], what) for r in rounds] for what in ("speed", "score"))
        lines.append(f"{name:<34}{quartiles(speeds, ',.0f'):>30}{quartiles(scores, '.0f'):>26}")
    for first, second in itertools.combinations(rounds[0], 2):
        ratios = [found[first].speed / found[second].speed for found in rounds]
        line = f"{f'{first} : {second}':<34}{quartiles(ratios, '.2f'):>30}"
        if all(found[first].update_s and found[second].update_s for found in rounds):
            alone = [found[second].update_s / found[first].update_s for found in rounds]
            line += f"  updates alone {quartiles(alone, '.2f')}"
        lines.append(line)
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


def work(rounds: list[dict[str, Result]]) -> list[str]:
    """Lines about how much each learns from a step; whoever is more than a tenth off is told as unequal."""
    lines = [f"{'':<34}{'gradient steps for 1,000 steps':>30}"]
    each = {name: [1000 * r[name].updates / r[name].steps for r in rounds] for name in rounds[0]}
    own = statistics.median(each["gradrl"])
    for name, found in each.items():
        unequal = "" if abs(statistics.median(found) / own - 1) < OFF else "  NOT EQUAL"
        lines.append(f"{name:<34}{quartiles(found, '.1f'):>30}{unequal}")
    return lines


def words(result: Result) -> str:
    """One run in words."""
    return f"{result.speed:,.0f} steps/s, mean return {result.score:.0f}"


def installed() -> dict[str, str]:
    """The versions of the peers that are there."""
    found = {}
    for name in PEERS:
        with suppress(ImportError):
            importlib.import_module(name.replace("-", "_"))
            found[name] = importlib.metadata.version(name)
    return found


@contextmanager
def counted() -> Iterator[list[int]]:
    """The steps of all optimizers inside, one entry each."""
    taken: list[int] = []
    hook = register_optimizer_step_post_hook(lambda *_: taken.append(1))
    try:
        yield taken
    finally:
        hook.remove()


class TimedRun(Run):
    """A run that notes the CPU time of its loop after the first update, and draws nothing at its end."""

    first = 0  # step at which the clock began

    clock = staticmethod(time.process_time)

    def start(self, **kwargs) -> None:  # type: ignore[override]  # hands on whatever `Run.start` takes
        """As in `Run`, then the clock."""
        super().start(**kwargs)
        self.gradient_steps = kwargs["gradient_steps"]
        self.updating = False
        self.began, self.started = self.clock(), cpu_s()

    def finish_step(self, step: int, metrics: Metrics) -> None:
        """As in `Run`; the clock begins anew after the first update."""
        super().finish_step(step, metrics)
        if not self.updating and all(s.monitor.steps for s in self.gradient_steps):
            self.updating, self.first = True, step
            self.began, self.begin_s = self.clock(), cpu_s() - self.started

    def finish(self, measure: Callable[[], Mapping[str, object]]) -> None:
        """The clock, then the long evaluation."""
        self.loop_s = self.clock() - self.began
        self.found = measure()


class Updates:
    """Times an agent's updates while a run trains.

    Args:
        agent: its class.
        products: those of the first updates are noted there, and nothing is timed; None = time them.
        clock: what tells the time.
    """

    def __init__(self, agent: Any, products: Products | None, clock: Callable[[], float]) -> None:
        self.agent, self.update, self.products, self.clock = agent, agent.update, products, clock
        self.seconds: list[float] = []

    def __enter__(self) -> "Updates":
        def update(agent: Any, *args: Any, **kwargs: Any) -> Metrics:
            if not all(step.monitor.steps for step in agent.gradient_steps):  # the first compiles
                return self.update(agent, *args, **kwargs)
            self.seconds.append(0.0)
            if self.products is not None and len(self.seconds) <= NOTED:
                with self.products:
                    return self.update(agent, *args, **kwargs)
            began = self.clock()
            metrics = self.update(agent, *args, **kwargs)
            self.seconds[-1] = self.clock() - began
            return metrics

        self.agent.update = update
        return self

    def __exit__(self, *error: object) -> None:
        self.agent.update = self.update


def ours(
    words: Sequence[str],
    steps: int,
    seed: int,
    timed: type[TimedRun] = TimedRun,
    products: Products | None = None,
) -> Result:
    """A run of gradrl with these overrides."""
    words = [*words, *OVERRIDES, f"total_steps={steps}", f"seed={seed}"]
    tree, _, _ = compose_tree("rl", words, [config_dir()])
    cfg = build(tree)
    assert isinstance(cfg, TrainConfig)
    seed_globally(seed)
    with tempfile.TemporaryDirectory() as folder:
        run = timed(Path(folder), cfg.logging, tree, {"seed": seed})
        try:
            with Updates(cfg.agent.target, products, timed.clock) as updates:
                train(cfg, run)
        finally:
            run.close()
    score = run.found["eval_return_mean"]
    assert isinstance(score, float)
    speed, begin_s = (run.step - run.first) / run.loop_s, run.begin_s
    per_update = cfg.num_envs * getattr(cfg.agent.options, "num_steps", 1)
    update_s = statistics.fmean(updates.seconds) if updates.seconds else math.nan
    taken = sum(step.monitor.steps for step in run.gradient_steps)
    return Result(speed, score, begin_s, update_s / per_update, run.step, taken)


def theirs(row: Row, steps: int, seed: int) -> Result:
    """The same of stable-baselines3."""
    sb3 = importlib.import_module("stable_baselines3")
    env_util = importlib.import_module("stable_baselines3.common.env_util")
    evaluation = importlib.import_module("stable_baselines3.common.evaluation")
    envs = env_util.make_vec_env(row.env, n_envs=row.num_envs, seed=seed)
    options = copy.deepcopy(dict(row.options))  # it notes `use_sde` in the policy's own, which rows share
    model = getattr(sb3, row.algorithm)("MlpPolicy", envs, seed=seed, device="cpu", **options)
    update, updates = model.train, []  # of each: the step, the clock at its end, and the seconds it took

    def train(*args: Any, **kwargs: Any) -> None:
        took = seconds(partial(update, *args, **kwargs))
        updates.append((model.num_timesteps, time.process_time(), took))

    model.train = train
    with counted() as taken:
        model.learn(total_timesteps=steps)
        ended = time.process_time()
    eval_envs = env_util.make_vec_env(row.env, n_envs=20, seed=10_000 + seed)
    with redirect_stdout(StringIO()):
        score, _ = evaluation.evaluate_policy(model, eval_envs, n_eval_episodes=EPISODES, deterministic=True)
    done, (first, began, _) = model.num_timesteps, updates[0]
    update_s = statistics.fmean(took for *_, took in updates[1:]) / row.rollout
    speed = (done - first) / (ended - began)
    return Result(speed, float(score), update_s=update_s, steps=done, updates=len(taken))


def of_skrl(row: Row, steps: int, seed: int) -> Result:
    """The same of skrl."""
    peer = importlib.import_module("core.scripts.suites.skrl_peer")
    with counted() as taken:
        done, cpu_s, score = peer.trained(row, steps, seed, EPISODES)
    return Result(done / cpu_s, score, steps=done, updates=len(taken))
