"""The losses of a trained agent on a frozen batch of fresh experience: what a landscape is drawn of."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from core.cli.saved import build_to_measure
from core.config import ConfigError
from core.landscape.subject import Subject
from core.run import checkpoint as checkpoints
from core.seeding import Generators
from core.state import StateDict
from gradrl.agent import Agent, AgentConfig
from gradrl.agents.off_policy import OffPolicyConfig
from gradrl.envs.make import EnvInfo, inspect_env
from gradrl.experience.normalize import RewardNormalizer
from gradrl.experience.rollout import Rollout
from gradrl.train import TrainConfig, make_agent, make_collector, make_model

ROUNDS = 4  # a replay agent draws its batch from this many times as many fresh transitions


def load_probe(directory: Path, checkpoint: str = "last", *, batch_size: int | None, seed: int) -> Subject:
    """An agent at a checkpoint, and its own training losses on experience that it has just collected.

    The policy acts as in training, in environments with seeds of their own, behind the checkpoint's
    normalisers, which do not move. An agent that learns from rollouts gets one: at the checkpoint every
    probability ratio is 1, as at the first step of an update, and a coefficient with a schedule (clipping)
    has the value it began with. An agent with a replay gets a batch out of fresh transitions.

    Args:
        directory: of the run; only read.
        checkpoint: "last", "best" or "good".
        batch_size: steps, about (rounded up to whole rollouts over all environments); None = the agent's own
            rollout, or its batch.
        seed: of environments and actions.

    Raises:
        ConfigError: no run of train_rl there, no such checkpoint, one that is damaged or of another network,
            or an environment that cannot be made.
    """
    cfg = build_to_measure(directory)
    if not isinstance(cfg, TrainConfig):
        raise ConfigError(f"{directory} holds no run of train_rl")
    path = directory / "checkpoints" / f"{checkpoint}.pt"
    state = checkpoints.load(path)
    try:
        info = inspect_env(cfg.env)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    cfg, wanted = _fresh_only(cfg, batch_size)
    model = make_model(cfg, info)
    checkpoints.restore(model, state, "policy", path)
    agent = make_agent(cfg, model, torch.Generator())
    checkpoints.restore(agent, _without_replay(state), "agent", path)
    rollout = _collect(cfg, info, agent, state, path, -(-wanted // cfg.num_envs), seed)
    agent.observe(rollout)
    return Subject(
        directory=directory,
        checkpoint=checkpoint,
        objectives={step.name: objective for objective, step in agent.objectives()},
        batch=_described(agent, rollout.num_valid),
        step=checkpoints.step_of(state, path),
        unit="env steps",
    )


def _fresh_only(cfg: TrainConfig, batch_size: int | None) -> tuple[TrainConfig, int]:
    """Options with which a replay agent takes its batch from what comes in now; and steps to take."""
    options = cast(AgentConfig, cfg.agent.options)
    if not isinstance(options, OffPolicyConfig):
        return cfg, batch_size or options.num_steps * cfg.num_envs
    size = batch_size or options.batch_size
    fresh = replace(options, learning_starts=0, replay_size=2 * ROUNDS * size + cfg.num_envs, batch_size=size)
    return replace(cfg, agent=replace(cfg.agent, options=fresh)), ROUNDS * size


def _without_replay(state: StateDict) -> StateDict:
    """The checkpoint as if the agent had an empty replay."""
    agent = state.get("agent")
    if not isinstance(agent, dict) or "replay" not in agent:
        return state
    return {**state, "agent": {**agent, "replay": {"rows": {}, "total": 0}}}


def _collect(
    cfg: TrainConfig, info: EnvInfo, agent: Agent, state: StateDict, path: Path, num_steps: int, seed: int
) -> Rollout:
    """A rollout of the agent, seen through the normalisers of the checkpoint, which do not move."""
    generators = Generators(cfg.seed)
    actor = agent.make_actor(generators.numpy(f"landscape {seed}"))
    raw = replace(cfg, normalize_reward=False)
    collector = make_collector(raw, info, generators, print, "landscape", seed, num_steps=num_steps)
    try:
        if collector.observation_normalizer is not None:
            checkpoints.restore(collector.observation_normalizer, state, "observation_normalizer", path)
        rollout = collector.collect(actor)
        collector.require_finite(1)
    finally:
        collector.envs.close()
    if not cfg.normalize_reward:
        return rollout
    normalizer = RewardNormalizer(cfg.num_envs, cast(AgentConfig, cfg.agent.options).gamma)
    checkpoints.restore(normalizer, state, "reward_normalizer", path)
    return replace(rollout, reward=torch.from_numpy(normalizer.scaled(rollout.reward.numpy())))


def _described(agent: Agent, collected: int) -> str:
    (objective, _), *_ = agent.objectives()
    if agent.off_policy:
        return f"{objective.samples:,} of {collected:,} fresh transitions"
    return f"a fresh rollout of {collected:,} steps"
