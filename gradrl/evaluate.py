"""Evaluate the policy of a run again: more episodes, other seeds, sampled actions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from core.cli.saved import build_to_measure
from core.config import ConfigError
from core.draw.mp4 import mp4, require_ffmpeg
from core.run import checkpoint as checkpoints
from core.run.files import write_bytes, write_media
from core.run.tensorboard import Writer
from core.seeding import seed_for
from gradrl.envs.make import EnvInfo, inspect_env
from gradrl.evaluation.evaluator import evaluate, evaluation_actor, lost_returns
from gradrl.evaluation.video import play, side_by_side
from gradrl.policies.actor import Actor
from gradrl.policy import normalizer_of
from gradrl.train import TrainConfig, make_model

Render = Literal["human", "mp4", "gif", "none"]
SHOWN = 9  # episodes side by side
SECONDS = 20.0  # of a video


def evaluate_run(
    directory: Path,
    episodes: int,
    checkpoint: str,
    deterministic: bool,
    seed: int | None,
    render: Render = "none",
) -> dict[str, object]:
    """Run episodes with the parameters of a checkpoint.

    Args:
        directory: the run directory.
        episodes: how many.
        checkpoint: "last", "best" or "good".
        deterministic: the most likely action; false samples.
        seed: of the episodes; None repeats the final evaluation's initial states.
        render: what shows up to nine episodes; a file goes to `media/`, and to TensorBoard too.

    Returns:
        Mean, deviation, extremes and number of the returns, and what they were measured on.

    Raises:
        ConfigError: no run there, no such checkpoint, one that is damaged or of another network, or an
            environment that cannot be made or drawn.
    """
    if render == "mp4":
        require_ffmpeg()
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
    generator = np.random.default_rng(seed)
    actor = evaluation_actor(model, normalizer, deterministic=deterministic, generator=generator)
    step = checkpoints.step_of(state, path)
    if render != "none":
        _show(
            directory,
            step,
            render,
            actor,
            cfg,
            info,
            [seed_for(seed, "video", i) for i in range(min(episodes, SHOWN))],
        )
    options = replace(cfg.evaluation, episodes=episodes)
    seen = evaluate(actor, cfg.env, info, options, episodes, seed)
    return {
        "env": cfg.env.id,
        "checkpoint": checkpoint,
        "deterministic": deterministic,
        "env_steps": step,
        "eval_return_mean": float(seen.returns.mean()),
        "eval_return_std": float(seen.returns.std()),
        "eval_return_min": float(np.fmin.reduce(seen.returns)),
        "eval_return_max": float(np.fmax.reduce(seen.returns)),
        "eval_length_mean": float(seen.lengths.mean()),
        "eval_episodes": len(seen.returns),
        "eval_episodes_capped": seen.capped,
        **lost_returns(seen),
    }


def _show(
    directory: Path,
    step: int,
    render: Render,
    actor: Actor,
    cfg: TrainConfig,
    info: EnvInfo,
    seeds: Sequence[int],
) -> None:
    """Show episodes in a window, or side by side in a file, in TensorBoard and so in the report."""
    if render == "human":
        play(actor, cfg.env, info, seeds)
        return
    video = side_by_side(actor, cfg.env, info, seeds, SECONDS)
    content = mp4(video) if render == "mp4" else None
    gif, _ = write_media(directory / "media", "evaluation", video)
    writer = Writer(directory)
    try:
        writer.media("evaluation", video, gif, step)
    finally:
        writer.close()
    if content is not None:
        write_bytes(directory / "media" / "evaluation.mp4", content)
    print(f"video: {directory / 'media' / f'evaluation.{render}'}")


def _saved_config(directory: Path) -> TrainConfig:
    """The options that the run in `directory` was trained with."""
    cfg = build_to_measure(directory)
    if not isinstance(cfg, TrainConfig):
        raise ConfigError(f"{directory} holds no run of train_rl")
    return cfg
