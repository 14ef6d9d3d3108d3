"""The training loop: collect a rollout, learn from it, tell the run."""

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, cast

import torch

from core.checks import require
from core.gradients import Clipper, GradientStep, Metrics, MonitorConfig, Objective
from core.gradients.probe import Probe
from core.optim.factory import check_optimizer
from core.optim.schedules import Schedule, ScheduledRate, check_schedule
from core.run.config import Component
from core.run.device import resolve_device, set_num_threads
from core.run.probes import Probes, check_probes
from core.run.rate import guided_lr
from core.run.run import Run, RunConfig
from core.run.seeding import Generators, seed_for
from core.state import Stateful
from gradrl.collector import Collector
from gradrl.envs import EnvConfig, EnvInfo, inspect_env, make_envs
from gradrl.judge import EvaluationConfig, Judge
from gradrl.networks import MLPActorCritic
from gradrl.normalize import ObservationNormalizer, RewardNormalizer
from gradrl.rollout import Rollout


class OnPolicyConfig(Protocol):
    """What the loop reads of an agent's options."""

    @property
    def num_steps(self) -> int:
        """T, steps per rollout and environment."""
        ...

    @property
    def gamma(self) -> float:
        """Discount per step."""
        ...

    def check(self, num_envs: int) -> None:
        """Raise ValueError, naming the option, when this number of environments does not fit the options."""
        ...

    def minibatch_size(self, num_envs: int) -> int:
        """Samples of one gradient step."""
        ...


class Agent(Protocol):
    """Learns from rollouts.

    Attributes:
        measures: metrics of its updates that a schedule may follow.
        gradient_step: moves its parameters.
        learning_rate: of that step, with what its schedule remembers.
    """

    measures: ClassVar[tuple[str, ...]]
    gradient_step: GradientStep
    learning_rate: ScheduledRate

    def update(self, rollout: Rollout, progress: float) -> Metrics:
        """Learn from what the policy has just brought about; `progress` in [0, 1] drives the schedules."""
        ...

    def observe(self, rollout: Rollout) -> object:
        """Take in a rollout without learning from it."""
        ...

    def objective(self) -> Objective:
        """The loss on the last rollout: what probes look at."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All options of a training run; conf/rl.yaml explains each."""

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
        cast(OnPolicyConfig, self.agent.options).check(self.num_envs)


def check(cfg: TrainConfig) -> None:
    """What can be known before a directory or a network is made.

    Raises:
        ValueError: the device is not there, the optimizer refuses its options, the schedule follows what the
            agent does not measure, or the environment is unknown or has spaces that are not supported.
    """
    resolve_device(cfg.device)
    check_schedule(cfg.schedule, cast(type[Agent], cfg.agent.target).measures)
    check_optimizer(cfg.optimizer, lambda: [make_model(cfg, inspect_env(cfg.env))])
    check_probes(cfg.probe, lambda: [make_model(cfg, inspect_env(cfg.env))])
    inspect_env(cfg.env)


def train(cfg: TrainConfig, run: Run) -> None:
    """Train an agent.

    Args:
        cfg: options that `check` has accepted.
        run: logs, evaluates, draws and saves.
    """
    device = resolve_device(cfg.device)
    set_num_threads(cfg.num_threads)
    info = inspect_env(cfg.env)
    cfg = with_guided_lr(cfg, info, run)
    generators = Generators(cfg.seed, device)
    actions = generators.numpy("actions")
    model = make_model(cfg, info).to(device)
    agent = make_agent(cfg, model, generators.torch("minibatches"))
    collector = make_collector(cfg, info, run)
    judge = Judge(cfg.evaluation, cfg.env, info, cfg.seed, model, collector.observation_normalizer, run)
    memory: dict[str, Stateful | None] = {
        "policy": model,
        "collector": collector,
        "observation_normalizer": collector.observation_normalizer,
        "reward_normalizer": collector.reward_normalizer,
        "generators": generators,
        "learning_rate": agent.learning_rate,
        "judge": judge,
    }
    run.start(
        total=cfg.total_steps,
        unit="env steps",
        state={name: owner for name, owner in memory.items() if owner is not None},
        gradient_steps=[agent.gradient_step],
        evaluate=judge.evaluate,
        draw=judge.draw,
        probes=Probes(cfg.probe, cfg.seed, lambda: [(agent.objective(), agent.gradient_step)]),
        summarise=lambda: judge.summarise() | {"updates": agent.gradient_step.monitor.steps},
        headline=("episode/return", "eval/return_mean"),
    )
    try:
        while run.step < cfg.total_steps:
            policy = model.host_policy()
            rollout = collector.collect(lambda obs, policy=policy: policy.sample(obs, actions))
            metrics = agent.update(rollout, progress=run.step / cfg.total_steps)
            run.finish_step(collector.env_steps, metrics | collector.drain())
        run.finish(judge.final)
    finally:
        collector.envs.close()


def with_guided_lr(cfg: TrainConfig, info: EnvInfo, run: Run) -> TrainConfig:
    """The rate that `optimizer.lr=auto` stands for, from a rollout of the initial policy, then forgotten.

    A resumed run finds its rate in the checkpoint.
    """
    if not cfg.optimizer.auto_lr or run.resuming:
        return cfg
    device = resolve_device(cfg.device)
    model = make_model(cfg, info).to(device)
    agent = make_agent(cfg, model, torch.Generator(device))
    collector = make_collector(cfg, info, run, purpose="learning rate")
    actions, policy = Generators(cfg.seed).numpy("learning rate"), model.host_policy()
    try:
        agent.observe(collector.collect(lambda obs: policy.sample(obs, actions)))
    finally:
        collector.envs.close()
    batch_size = cast(OnPolicyConfig, cfg.agent.options).minibatch_size(cfg.num_envs)
    lr = guided_lr(cfg.optimizer, cfg.clipper, agent.objective(), batch_size, cfg.seed, run.say)
    return replace(cfg, optimizer=cfg.optimizer.with_lr(lr))


def make_model(cfg: TrainConfig, info: EnvInfo) -> MLPActorCritic:
    """Policy and value function with the initial weights of the run's seed, on the CPU."""
    generator = torch.Generator().manual_seed(seed_for(cfg.seed, "initialisation"))
    return cast(MLPActorCritic, cfg.policy(info.observation.size, info.action, generator))


def make_agent(cfg: TrainConfig, model: MLPActorCritic, generator: torch.Generator) -> Agent:
    """The configured agent over this model."""
    agent = cfg.agent(model, cfg.optimizer, cfg.clipper, cfg.schedule, generator, monitor=cfg.monitor)
    return cast(Agent, agent)


def make_collector(cfg: TrainConfig, info: EnvInfo, run: Run, purpose: str = "environment") -> Collector:
    """The environments, seeded, and what stands between them and the agent."""
    options = cast(OnPolicyConfig, cfg.agent.options)
    return Collector(
        make_envs(cfg.env, cfg.num_envs),
        info.observation,
        info.action,
        options.num_steps,
        [seed_for(cfg.seed, purpose, i) for i in range(cfg.num_envs)],
        ObservationNormalizer(info.observation.size) if cfg.normalize_observation else None,
        RewardNormalizer(cfg.num_envs, options.gamma) if cfg.normalize_reward else None,
        run.say,
    )
