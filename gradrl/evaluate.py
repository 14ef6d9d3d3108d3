"""Evaluate the policy of a run again: more episodes, other seeds, sampled actions."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from core.cli.saved import saved_options
from core.config import ConfigError, build
from core.run import checkpoint as checkpoints
from core.seeding import seed_for
from gradrl.envs.make import inspect_env
from gradrl.evaluation.evaluator import evaluate, evaluation_actor, lost_returns
from gradrl.policy import normalizer_of
from gradrl.train import TrainConfig, make_model


def evaluate_run(
    directory: Path, episodes: int, checkpoint: str, deterministic: bool, seed: int | None
) -> dict[str, object]:
    """Run episodes with the parameters of a checkpoint.

    Args:
        directory: the run directory.
        episodes: how many.
        checkpoint: "last" or "best".
        deterministic: the most likely action; false samples.
        seed: of the episodes; None repeats the final evaluation's initial states.

    Returns:
        Mean, deviation, extremes and number of the returns, and what they were measured on.

    Raises:
        ConfigError: no run there, no such checkpoint, one that is damaged or of another network, or an
            environment that cannot be made.
    """
    cfg = _saved_config(directory)
    path = directory / "checkpoints" / f"{checkpoint}.pt"
    state = checkpoints.load(path)
    try:
        info = inspect_env(cfg.env)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    model = make_model(cfg, info)
    checkpoints.restore(model, state, "policy", path)
    normalizer = normalizer_of(info.observation) if cfg.normalize_observation else None
    if normalizer is not None:
        checkpoints.restore(normalizer, state, "observation_normalizer", path)
    seed = seed_for(cfg.seed, "evaluation", "final") if seed is None else seed
    actor = evaluation_actor(model, normalizer, deterministic=deterministic, seed=seed)
    options = replace(cfg.evaluation, episodes=episodes)
    seen = evaluate(actor, cfg.env, info, options, episodes, seed)
    return {
        "env": cfg.env.id,
        "checkpoint": checkpoint,
        "deterministic": deterministic,
        "env_steps": state["run"]["step"],
        "eval_return_mean": float(seen.returns.mean()),
        "eval_return_std": float(seen.returns.std()),
        "eval_return_min": float(np.fmin.reduce(seen.returns)),
        "eval_return_max": float(np.fmax.reduce(seen.returns)),
        "eval_length_mean": float(seen.lengths.mean()),
        "eval_episodes": len(seen.returns),
        "eval_episodes_capped": seen.capped,
        **lost_returns(seen),
    }


def _saved_config(directory: Path) -> TrainConfig:
    """The options that the run in `directory` was trained with."""
    cfg = build(saved_options(directory))
    if not isinstance(cfg, TrainConfig):
        raise ConfigError(f"{directory} holds no run of train_rl")
    return cfg
