"""The training loop: collect a rollout, learn from it, tell the run."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Protocol, cast

import numpy as np
import torch
from torch import nn

from core.checks import require
from core.config import Component
from core.gradients import Clipper, GradientStep, Metrics, MonitorConfig, Objective
from core.gradients.probe import Probe
from core.optim.factory import check_optimizer
from core.optim.schedules import Schedule, check_schedule
from core.run.auto_lr import auto_lr
from core.run.device import resolve_device, set_num_threads
from core.run.diagnosis import DiagnosisConfig, OnFinding, unit_health_of
from core.run.probes import Probes, check_probes
from core.run.run import Run, RunConfig
from core.seeding import Generators, seed_for
from core.state import StateDict, Stateful
from gradrl.agent_facts import followers, limits
from gradrl.collector import Collector
from gradrl.diagnosis import REMEDIES, RULES
from gradrl.envs.make import EnvConfig, EnvInfo, inspect_env, make_envs
from gradrl.evaluation.evaluator import EvaluationConfig, Judge, Model
from gradrl.experience.normalize import ObservationNormalizer, RewardNormalizer
from gradrl.experience.rollout import Rollout
from gradrl.policies.actor import Behaviour
from gradrl.probes.probe import OnPolicyAgent, Snapshots, check_agent


class AgentConfig(Protocol):
    """What the loop reads of an agent's options."""

    @property
    def num_steps(self) -> int:
        """T, steps per rollout and environment."""
        ...

    @property
    def gamma(self) -> float:
        """Discount per step."""
        ...

    def minibatches(self, num_envs: int) -> tuple[int, int]:
        """Gradient steps of the policy on each rollout, at most, and samples of each.

        Raises:
            ValueError: this number of environments does not fit the options; it names the option.
        """
        ...


class Agent(Protocol):
    """Learns from rollouts: from each once (on-policy), or from a replay that it keeps of them (off-policy).

    Attributes:
        measures: metrics of its updates that a schedule may follow.
        model_type: what its networks must be.
        off_policy: it learns from old experience too, which running normalisation would leave on old scales.
    """

    measures: ClassVar[tuple[str, ...]]
    model_type: ClassVar[type]
    off_policy: ClassVar[bool]

    @property
    def gradient_steps(self) -> Sequence[GradientStep]:
        """One per player; the first one's steps are the run's updates."""
        ...

    def behaviour(self, generator: np.random.Generator) -> Behaviour:
        """What acts while experience is collected."""
        ...

    def update(self, rollout: Rollout, progress: float) -> Metrics:
        """Learn from what the behaviour has just brought about; `progress` in [0, 1] drives the schedules."""
        ...

    def observe(self, rollout: Rollout) -> object:
        """Take in a rollout without learning from it."""
        ...

    def objectives(self) -> Sequence[tuple[Objective, GradientStep]]:
        """The losses on a frozen batch, each with its step: what probes look at; none before the first."""
        ...

    def state_dict(self) -> StateDict:
        """All that it remembers beside the model and the gradient steps."""
        ...

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        ...


class AgentModel(Model, Protocol):
    """Networks of an agent: a module that acts."""

    def to(self, device: torch.device) -> "AgentModel":
        """The same module on a device."""
        ...

    def state_dict(self) -> StateDict:
        """Parameters and buffers."""
        ...

    def load_state_dict(self, state: StateDict) -> object:
        """Take them over."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All options of a training run; conf/rl.yaml explains each."""

    LENGTH: ClassVar[str] = "total_steps"

    agent: Component
    env: EnvConfig
    policy: Component
    optimizer: Component
    clipper: Clipper | None
    schedule: Schedule
    monitor: MonitorConfig
    probe: dict[str, Probe] | None
    evaluation: EvaluationConfig
    logging: RunConfig
    diagnosis: DiagnosisConfig | None = None  # a run from before there was one has none
    on_finding: OnFinding = "report"
    seed: int
    total_steps: int
    num_envs: int
    normalize_observation: bool
    normalize_reward: bool
    device: str
    num_threads: int | None

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "an integer >= 0")
        for name in ("total_steps", "num_envs"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer >= 1")
        threads = self.num_threads
        require(threads is None or threads >= 1, "num_threads", threads, "an integer >= 1 or null")
        cast(AgentConfig, self.agent.options).minibatches(self.num_envs)


def check(cfg: TrainConfig) -> None:
    """What can be known before a directory or a network is made.

    Raises:
        ValueError: the device is not there, the optimizer refuses its options or the parameters of one of the
            players, the schedule follows what the agent does not measure, the environment is unknown or has
            spaces that are not supported, or agent, policy and the options around them do not fit each other.
    """
    resolve_device(cfg.device)
    agent = cast(type[Agent], cfg.agent.target)
    check_fit(cfg, agent)
    check_schedule(cfg.schedule, agent.measures)
    info = inspect_env(cfg.env)
    if cfg.normalize_observation:
        ok = info.observation.dtype != np.uint8
        require(ok, "normalize_observation", "true", "false for images, which the network scales itself")
    model = lru_cache(maxsize=1)(lambda: make_model(cfg, info))
    model()
    check_optimizer(cfg.optimizer, lambda: [cast(nn.Module, model())])
    check_agent(cfg.probe, agent)
    check_probes(cfg.probe, lambda: [cast(nn.Module, model())])
    with warnings.catch_warnings(action="ignore"):  # they come when it is made in earnest, on its device
        steps = make_agent(cfg, model(), torch.Generator()).gradient_steps
    if cfg.optimizer.auto_lr:
        ok = len(steps) == 1 and not agent.off_policy
        require(
            ok, "optimizer.lr", "auto", f"a number for {agent.__name__}: auto is for one loss on a rollout"
        )


def check_fit(cfg: TrainConfig, agent: type[Agent]) -> None:
    """Raise ValueError where agent, policy and normalisation do not go together."""
    fits = issubclass(cfg.policy.target, agent.model_type)
    allowed = f"a {agent.model_type.__name__} for {agent.__name__} (leave policy away to get one that fits)"
    require(fits, "policy", cfg.policy.target.__name__, allowed)
    for name in ("normalize_observation", "normalize_reward") if agent.off_policy else ():
        allowed = f"false for {agent.__name__}, whose replay would keep what was normalised on older scales"
        require(not getattr(cfg, name), name, "true", allowed)


def train(cfg: TrainConfig, run: Run) -> None:
    """Train an agent.

    Args:
        cfg: options that `check` has accepted.
        run: logs, evaluates, draws and saves.
    """
    device = resolve_device(cfg.device)
    set_num_threads(cfg.num_threads)
    info = inspect_env(cfg.env)
    cfg = with_auto_lr(cfg, info, run)
    generators = Generators(cfg.seed, device)
    model = make_model(cfg, info).to(device)
    agent = make_agent(cfg, model, generators.torch("minibatches"))
    behaviour = agent.behaviour(generators.numpy("actions"))
    snapshots = Snapshots(cast(OnPolicyAgent, agent), cfg.probe, cfg.num_envs)
    collector = make_collector(cfg, info, run.say)
    judge = Judge(cfg.evaluation, cfg.env, info, cfg.seed, model, collector.observation_normalizer, run)
    memory: dict[str, Stateful | None] = {
        "policy": model,
        "agent": agent,
        "behaviour": behaviour,
        "collector": collector,
        "observation_normalizer": collector.observation_normalizer,
        "reward_normalizer": collector.reward_normalizer,
        "generators": generators,
        "judge": judge,
    }
    run.start(
        total=cfg.total_steps,
        unit="env steps",
        state={name: owner for name, owner in memory.items() if owner is not None},
        gradient_steps=agent.gradient_steps,
        evaluate=judge.evaluate,
        draw=judge.draw,
        probes=Probes(
            cfg.probe, cfg.seed, snapshots.objectives, unit_health_of(cfg.diagnosis), lambda: followers(agent)
        ),
        summarise=lambda: judge.summarise() | {"updates": agent.gradient_steps[0].monitor.steps},
        headline=("episode/return", "eval/return_mean"),
        rules=RULES,
        remedies=REMEDIES,
        limits=limits(info.action),
    )
    try:
        while run.step < cfg.total_steps:
            rollout = collector.collect(behaviour)
            snapshots.take()
            metrics = agent.update(rollout, progress=run.step / cfg.total_steps)
            run.finish_step(collector.env_steps, metrics | collector.drain())
        run.finish(judge.final)
    finally:
        collector.envs.close()


def with_auto_lr(cfg: TrainConfig, info: EnvInfo, run: Run) -> TrainConfig:
    """The rate that `optimizer.lr=auto` stands for, from a rollout of the initial policy, then forgotten.

    A resumed run finds its rate in the checkpoint.
    """
    if not cfg.optimizer.auto_lr or run.resuming:
        return cfg
    device = resolve_device(cfg.device)
    agent = make_agent(cfg, make_model(cfg, info).to(device), torch.Generator(device))
    collector = make_collector(cfg, info, run.say, "learning rate")
    try:
        agent.observe(collector.collect(agent.behaviour(Generators(cfg.seed).numpy("learning rate"))))
    finally:
        collector.envs.close()
    ((objective, _),) = agent.objectives()
    _, batch_size = cast(AgentConfig, cfg.agent.options).minibatches(cfg.num_envs)
    lr = auto_lr(cfg.optimizer, cfg.clipper, objective, batch_size, cfg.seed, run.say)
    return replace(cfg, optimizer=cfg.optimizer.with_lr(lr))


def make_model(cfg: TrainConfig, info: EnvInfo) -> AgentModel:
    """The agent's networks with the initial weights of the run's seed, on the CPU."""
    generator = torch.Generator().manual_seed(seed_for(cfg.seed, "initialisation"))
    return cast(AgentModel, cfg.policy(info.observation, info.action, generator))


def make_agent(cfg: TrainConfig, model: AgentModel, generator: torch.Generator) -> Agent:
    """The configured agent over this model."""
    agent = cfg.agent(model, cfg.optimizer, cfg.clipper, cfg.schedule, generator, monitor=cfg.monitor)
    return cast(Agent, agent)


def make_observation_normalizer(cfg: TrainConfig, info: EnvInfo) -> ObservationNormalizer | None:
    """What stands between the environment's observations and the policy; None for nothing."""
    if not cfg.normalize_observation:
        return None
    columns = np.zeros(info.observation.size, np.bool_)
    for part in info.observation.parts:
        columns[part.start : part.stop] = part.kind == "vector"
    if not columns.any():  # images alone: their bytes stay bytes
        return None
    return ObservationNormalizer(info.observation.size, columns=None if columns.all() else columns)


def make_collector(
    cfg: TrainConfig,
    info: EnvInfo,
    say: Callable[[str], None],
    *purpose: str | int,
    num_steps: int | None = None,
) -> Collector:
    """The environments, seeded, and what stands between them and the agent.

    Args:
        cfg: options.
        info: the environment's spaces.
        say: takes one line for the user.
        purpose: other words give other initial states; none = those of the training.
        num_steps: per rollout and environment; None = the agent's.
    """
    options = cast(AgentConfig, cfg.agent.options)
    purpose = purpose or ("environment",)
    return Collector(
        make_envs(cfg.env, cfg.num_envs, training=True),
        info.observation,
        info.action,
        num_steps or options.num_steps,
        [seed_for(cfg.seed, *purpose, i) for i in range(cfg.num_envs)],
        make_observation_normalizer(cfg, info),
        RewardNormalizer(cfg.num_envs, options.gamma) if cfg.normalize_reward else None,
        say,
    )
