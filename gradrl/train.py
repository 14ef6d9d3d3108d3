"""The training loop: collect a rollout, learn from it, tell the run."""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, cast

import numpy as np
import torch
from annotated_types import Ge
from torch import nn

from core.checks import checked, require
from core.config import Component
from core.gradients import Clipper, MonitorConfig
from core.gradients.arguments import check_clipper
from core.gradients.probe import Probe
from core.gradients.ranks import num_ranks, this_rank
from core.optim.factory import check_optimizer
from core.optim.schedules import Schedule, check_schedule
from core.report.dashboard import dashboard_of
from core.run.auto_lr import auto_lr
from core.run.callbacks import Callback
from core.run.compiled import Compile, begin_compiling, check_compile, say_saved
from core.run.config import RunConfig
from core.run.device import require_memory, resolve_device, set_num_threads
from core.run.diagnosis import DiagnosisConfig, OnFinding, unit_health_of
from core.run.loggers.loggers import Chosen
from core.run.probes import Probes, check_probes
from core.run.run import Run
from core.run.saved import Saved, write_interface
from core.seeding import Generators, seed_for
from core.state import Stateful
from gradrl import effects
from gradrl.agent import Agent, AgentConfig, AgentModel, Learning
from gradrl.agents.off_policy import OffPolicyConfig, Remembering
from gradrl.agents.ppo_noveld import PPONovelD
from gradrl.collector import Collector
from gradrl.diagnosis import REMEDIES, RULES
from gradrl.envs.make import EnvConfig, EnvInfo, inspect_env, make_envs, make_torch_envs, try_env
from gradrl.evaluation.evaluator import MEASURED, EvaluationConfig, Evaluator
from gradrl.experience.normalize import RewardNormalizer
from gradrl.experience.replay import Transitions, transitions
from gradrl.experience.rollout import Rollout
from gradrl.experience.senses import odd_experience
from gradrl.experience.shares import own_draws, own_envs
from gradrl.initial import read_agent, take_statistics, take_weights
from gradrl.policies.actor import distribution_of
from gradrl.policy import interface_of, normalizer_of
from gradrl.probes.probe import OnPolicyAgent, PolicySnapshots, check_agent
from gradrl.ranks import check_ranks as check_ranks  # as the launcher asks for it
from gradrl.ranks import settled as settled  # so does it for this
from gradrl.report import AGENT
from gradrl.tensor_collector import TensorCollector


@dataclass(frozen=True, kw_only=True)
@checked
class TrainConfig:
    """All options of a training run; conf/rl.yaml explains each."""

    LENGTH: ClassVar[str] = "total_steps"
    BEGINNING: ClassVar[tuple[str, ...]] = ("init_from",)

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
    logger: Chosen = field(default_factory=dict)  # besides the event file
    callbacks: tuple[Component | Callback, ...] = ()
    name: str | None = None
    tags: tuple[str, ...] = ()
    diagnosis: DiagnosisConfig | None = None  # a run from before there was one has none
    on_finding: OnFinding = "report"
    max_rollbacks: Annotated[int, Ge(1)] = 3
    seed: Annotated[int, Ge(0)]
    total_steps: Annotated[int, Ge(1)]
    num_envs: Annotated[int, Ge(1)]
    normalize_observation: bool
    normalize_reward: bool
    init_from: str | None = None
    init_statistics: bool = True
    device: str
    num_threads: Annotated[int | None, Ge(1)]
    compile: Compile = "off"

    def __post_init__(self) -> None:
        ours = not isinstance(self.agent.options, dict)
        require(ours, "agent", self.agent.target.__name__, "an agent like those of gradrl.agents")
        cast(AgentConfig, self.agent.options).minibatches(self.num_envs)


def check(cfg: TrainConfig) -> None:
    """Refuse what cannot be trained, before a directory is made.

    Raises:
        ValueError: the device is not there, the optimizer refuses its options or the parameters of one of the
            players, the schedule follows what the agent does not measure, the environment is unknown, has
            spaces that are not supported or returns what it should not, or agent, policy and the options
            around them do not fit each other.
    """
    check_compile(cfg.compile, resolve_device(cfg.device))
    agent = cast(type[Agent], cfg.agent.target)
    # What the user has written may read what a graph cannot see change: it is recorded once.
    own_agent = not agent.__module__.startswith("gradrl.agents.")
    require(cfg.compile == "off" or not own_agent, "compile", cfg.compile, "off with an agent of one's own")
    own_network = (
        not cfg.policy.target.__module__.startswith("gradrl.")
        or getattr(cfg.policy.options, "network", None) is not None
    )
    require(
        cfg.compile == "off" or not own_network, "compile", cfg.compile, "off with a network of one's own"
    )
    check_fit(cfg, agent)
    check_schedule(cfg.schedule, agent.measures)
    info = inspect_env(cfg.env)
    if cfg.normalize_observation:
        ok = info.observation.dtype != np.uint8
        require(ok, "normalize_observation", "true", "false for images, which the network scales itself")
    model, _ = initial_model(cfg, info)
    check_optimizer(cfg.optimizer, lambda: [cast(nn.Module, model)])
    check_agent(cfg.probe, agent)
    check_probes(cfg.probe, lambda: [cast(nn.Module, model)])
    with warnings.catch_warnings(action="ignore"):  # `train` will give them, on the run's device
        steps = make_agent(cfg, model, torch.Generator()).gradient_steps
    check_clipper(cfg.clipper, [name for step in steps if step.transforms for name in step.names])
    if cfg.optimizer.auto_lr:
        ok = len(steps) == 1 and not agent.off_policy
        require(
            ok, "optimizer.lr", "auto", f"a number for {agent.__name__}: auto is for one loss on a rollout"
        )
    if cfg.env.vectorization == "torch":
        check_acting(cfg, make_agent(cfg, model, torch.Generator()))
    check_memory(cfg, info)
    try_env(cfg.env, info)


def check_acting(cfg: TrainConfig, agent: Agent) -> None:
    """Raise ValueError where the agent cannot act on the device, beside environments that are tensors."""
    acts = distribution_of(agent.make_actor(np.random.default_rng(0))) is not None
    sde = " with policy.sde=true" if getattr(cfg.policy.options, "sde", False) else ""
    allowed = f"auto, native, sync or async for {type(agent).__name__}{sde}, which acts in NumPy"
    require(acts, "env.vectorization", "torch", allowed)
    ok = resolve_device(cfg.device).type != "mps"
    require(ok, "device", cfg.device, "cpu or cuda with env.vectorization=torch, which computes in float64")


def check_memory(cfg: TrainConfig, info: EnvInfo) -> None:
    """Raise ConfigError where the observations of a rollout or of a replay are more than memory holds."""
    row = info.observation.size * info.observation.dtype.itemsize
    options = cast(AgentConfig, cfg.agent.options)
    shape = {"agent.num_steps": options.num_steps, "num_envs": cfg.num_envs}
    largest = max(shape, key=lambda option: shape[option])
    require_memory(largest, shape[largest], math.prod(shape.values()) * row)
    if isinstance(options, OffPolicyConfig):
        require_memory("agent.replay_size", options.replay_size, options.replay_size * row)


def without_effect(cfg: TrainConfig) -> dict[str, str]:
    """Options that change nothing in this configuration, by dotted name, and why."""
    alone = {} if cfg.init_from else {"init_statistics": "there is no init_from whose statistics to take"}
    return alone | effects.without_effect(
        cfg.agent,
        cfg.policy,
        cfg.clipper,
        cfg.optimizer,
        cfg.probe,
        cfg.evaluation,
        cfg.env,
        inspect_env(cfg.env),
    )


def check_fit(cfg: TrainConfig, agent: type[Agent]) -> None:
    """Raise ValueError where agent, policy and normalisation do not go together."""
    fits = issubclass(cfg.policy.target, agent.model_type)
    allowed = f"a {agent.model_type.__name__} for {agent.__name__} (leave policy away to get one that fits)"
    require(fits, "policy", cfg.policy.target.__name__, allowed)
    if agent.off_policy:
        starts = cast(OffPolicyConfig, cfg.agent.options).learning_starts
        allowed = f"at least agent.learning_starts={starts}, before which nothing is learnt"
        require(cfg.total_steps >= starts, "total_steps", cfg.total_steps, allowed)
    for name in ("normalize_observation", "normalize_reward") if agent.off_policy else ():
        allowed = f"false for {agent.__name__}, whose replay would keep what was normalised on older scales"
        require(not getattr(cfg, name), name, "true", allowed)
    known = not (cfg.normalize_observation and issubclass(agent, PPONovelD))
    allowed = f"false for {agent.__name__}, which would not know an observation again on another scale"
    require(known, "normalize_observation", "true", allowed)


def random_steps(cfg: TrainConfig) -> Iterator[str]:
    """What is said where most of the steps are random ones, in which nothing is learnt."""
    options = cfg.agent.options
    if isinstance(options, OffPolicyConfig) and 2 * options.learning_starts > cfg.total_steps:
        starts, total = options.learning_starts, cfg.total_steps
        yield (
            f"agent.learning_starts={starts}: the first {starts:,} of {total:,} env steps are random, and "
            "nothing is learnt in them"
        )


def numbers(cfg: TrainConfig) -> tuple[str, ...]:
    """Entries of a run's summary that are numbers, and tags of the curves `eval/...`."""
    counts = ("updates", "env_steps", "env_steps_per_s", "solved_at_env_steps", "solved_at_wall_s")
    curves = [f"eval/{name}" for name in (*MEASURED, "length_mean")]
    return (*(f"eval_{name}" for name in MEASURED), "best_eval_return_mean", *curves, *counts)


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
    model, initial = (make_model(cfg, info), None) if run.resuming else initial_model(cfg, info)
    model = model.to(device)
    agent = make_agent(cfg, model, generators.torch("minibatches"))
    own = own_envs(cfg.num_envs)
    actor = agent.make_actor(own_draws(generators.numpy("actions"), cfg.num_envs, own))
    snapshots = PolicySnapshots(cast(OnPolicyAgent, agent), cfg.probe, cfg.num_envs)
    probes = Probes(
        cfg.probe,
        cfg.seed,
        snapshots.objectives,
        unit_health_of(cfg.diagnosis),
        lambda: target_lag(agent) | odd_experience(experienced(agent, rollout)),
    )
    collector = make_collector(cfg, info, generators, run.say)
    begin_statistics(cfg, collector, initial)
    evaluator = Evaluator(
        cfg.evaluation, cfg.env, info, cfg.seed, model, collector.observation_normalizer, run
    )
    stateful: dict[str, Stateful | None] = {
        "policy": model,
        "agent": agent,
        "actor": actor,
        "collector": collector,
        "observation_normalizer": collector.observation_normalizer,
        "reward_normalizer": collector.reward_normalizer,
        "generators": generators,
        "evaluator": evaluator,
    }
    run.start(
        total=cfg.total_steps,
        unit="env steps",
        state={name: owner for name, owner in stateful.items() if owner is not None},
        gradient_steps=agent.gradient_steps,
        modules={"policy": cast(nn.Module, model)},
        evaluate=evaluator.evaluate,
        draw=evaluator.draw,
        probes=probes,
        summarise=lambda: (
            evaluator.summarise()
            | {"updates": agent.gradient_steps[0].monitor.steps}
            | ({"steps_left_out": collector.left_out} if collector.left_out else {})
        ),
        headline=("episode/return", "eval/return_mean"),
        rules=RULES,
        remedies=REMEDIES,
        limits=info.action.limits,
        dashboard=dashboard_of(AGENT),
    )
    begin_compiling(cfg.compile, agent.gradient_steps, run.say)
    if this_rank() == 0:
        write_interface(run.directory, interface_of(info.observation_space, info.action_space))
    for remark in (*info.remarks, *random_steps(cfg)):
        run.say(remark)
    try:
        while run.goes_on:
            rollout = collector.collect(actor)
            snapshots.take()
            progress = run.step / cfg.total_steps
            metrics = agent.update(rollout, progress=progress) if rollout.num_valid else {}
            run.finish_step(collector.env_steps, metrics | collector.drain())
            collector.require_finite(2 * cfg.logging.interval)  # a logged point lies among them
        say_saved(cfg.compile, agent.gradient_steps, run.say)
        run.finish(evaluator.final)
    finally:
        collector.envs.close()


def with_auto_lr(cfg: TrainConfig, info: EnvInfo, run: Run) -> TrainConfig:
    """The options with the rate of `optimizer.lr=auto`, from one rollout of the initial policy.

    The rollout is not learnt from. A resumed run finds its rate in the checkpoint.
    """
    if not cfg.optimizer.auto_lr or run.resuming:
        return cfg
    device = resolve_device(cfg.device)
    model, initial = initial_model(cfg, info)
    agent = make_agent(cfg, model.to(device), torch.Generator(device))
    generators = Generators(cfg.seed, device)
    collector = make_collector(cfg, info, generators, run.say, "learning rate")
    begin_statistics(cfg, collector, initial)
    try:
        draws = own_draws(generators.numpy("learning rate"), cfg.num_envs, own_envs(cfg.num_envs))
        rollout = collector.collect(agent.make_actor(draws))
        collector.require_finite(1)
        agent.observe(rollout)
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


def initial_model(cfg: TrainConfig, info: EnvInfo) -> tuple[AgentModel, Saved | None]:
    """The networks that the run begins with, on the CPU, and the run of `init_from` that they come from."""
    model = make_model(cfg, info)
    if cfg.init_from is None:
        return model, None
    initial = read_agent(cfg.init_from, info, cfg.normalize_observation if cfg.init_statistics else None)
    take_weights(cast(nn.Module, model), initial)
    return model, initial


def begin_statistics(cfg: TrainConfig, collector: Collector | TensorCollector, initial: Saved | None) -> None:
    """Let the normalisers begin with the statistics of the run of `init_from`."""
    if initial is not None and cfg.init_statistics:
        names = ("observation_normalizer", "reward_normalizer")
        take_statistics({name: getattr(collector, name) for name in names}, initial)


def make_agent(cfg: TrainConfig, model: AgentModel, generator: torch.Generator) -> Agent:
    """The configured agent over this model."""
    learning = Learning(
        optimizer=cfg.optimizer, clipper=cfg.clipper, schedule=cfg.schedule, monitor=cfg.monitor
    )
    return cast(Agent, cfg.agent(model, learning, generator))


def make_collector(
    cfg: TrainConfig,
    info: EnvInfo,
    generators: Generators,
    say: Callable[[str], None],
    *purpose: str | int,
    num_steps: int | None = None,
) -> Collector | TensorCollector:
    """The environments, seeded, and what stands between them and the agent.

    Args:
        cfg: options.
        info: the environment's spaces.
        generators: those of the run; environments that are tensors are on their device, and draw the actions.
        say: takes one line for the user.
        purpose: each gives other initial states; none = those of the training.
        num_steps: per rollout and environment; None = the agent's.
    """
    options = cast(AgentConfig, cfg.agent.options)
    num_steps = num_steps or options.num_steps
    seeds = [seed_for(cfg.seed, *(purpose or ("environment",)), i) for i in range(cfg.num_envs)]
    normalizers = (
        normalizer_of(info.observation) if cfg.normalize_observation else None,
        RewardNormalizer(cfg.num_envs, options.gamma) if cfg.normalize_reward else None,
    )
    if cfg.env.vectorization == "torch":
        tensors = make_torch_envs(cfg.env, info, seeds, generators.device)
        generator = generators.torch(" ".join(map(str, purpose)) or "actions")
        return TensorCollector(tensors, info.action, num_steps, generator, *normalizers)
    envs = make_envs(cfg.env, cfg.num_envs // num_ranks(), training=True)
    return Collector(envs, info.observation, info.action, num_steps, seeds, *normalizers, say)


def experienced(agent: Agent, rollout: Rollout) -> Transitions:
    """The transitions of the last rollout; of an agent with a replay, the last thousand."""
    if not agent.off_policy:
        return transitions(rollout)
    return cast(Remembering, agent).replay.latest(1000)


def target_lag(agent: Agent) -> dict[str, float]:
    """How far the critics' target network is behind them, by tag; empty where there is none."""
    moves = agent.gradient_steps[-1].monitor.steps  # TD3's targets follow when the actor moves
    return agent.targets[0].lag(moves) if agent.targets else {}
