"""Measure the generator of a finished (or interrupted) run again."""

from dataclasses import replace
from pathlib import Path

import torch

from core.cli.saved import build_to_measure
from core.config import ConfigError
from core.run import checkpoint as checkpoints
from core.seeding import Generators
from gradgan.features import Features
from gradgan.train import TrainConfig, build_trainer, make_evaluator


def evaluate_run(
    directory: Path,
    samples: int,
    checkpoint: str,
    seed: int | None,
    *,
    features: Features | None = None,
    truncation: float | None = None,
) -> dict[str, object]:
    """Measure the averaged generator of a checkpoint.

    Args:
        directory: of the run.
        samples: generated samples, >= 2.
        checkpoint: "last", "best" or "good".
        seed: of the latents; None = the run's own, which repeats the run's final measurement.
        features: what images are measured under; None = as in the run.
        truncation: no element of a latent beyond it, > 0; None = as in the run.

    Returns:
        What summary.json says of a generator: see `measure` of `MixtureEvaluator` and `ImageEvaluator`.

    Raises:
        ConfigError: no run there, no such checkpoint, or one that is damaged or of another network; the
            feature network cannot be made.
    """
    cfg = build_to_measure(directory)
    if not isinstance(cfg, TrainConfig):
        raise ConfigError(f"{directory} holds no run of train_gan")
    if features is not None and len(cfg.data.shape) == 1:
        raise ConfigError(f"{directory} holds a generator of points, which are measured under no features")
    if features is not None:
        cfg = replace(cfg, features=features)
    if truncation is not None:
        cfg = replace(cfg, evaluation=replace(cfg.evaluation, truncation=truncation))
    path = directory / "checkpoints" / f"{checkpoint}.pt"
    trainer = build_trainer(cfg, Generators(cfg.seed), torch.device("cpu"))
    checkpoints.restore(trainer.average, checkpoints.load(path), "average", path)
    evaluator = make_evaluator(cfg, cfg.seed if seed is None else seed, samples)
    return evaluator.measure(trainer.average.module)
