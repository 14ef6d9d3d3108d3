"""The losses of a trained pair on a frozen batch: what a landscape is computed from."""

from pathlib import Path

import torch

from core.cli.saved import build_to_measure
from core.config import ConfigError
from core.landscape.subject import Subject
from core.run import checkpoint as checkpoints
from core.seeding import Generators, seed_for
from gradgan.game.players import latents
from gradgan.objectives import joint_objectives, player_objectives
from gradgan.train import TrainConfig, build_trainer


def load_probe(directory: Path, checkpoint: str = "last", *, batch_size: int | None, seed: int) -> Subject:
    """Both players at a checkpoint, and their adversarial losses on frozen samples, as probes see them.

    Penalties, regularizers and augmentation are left out. The players are those that train, not the averaged
    generator, and in training mode.

    Args:
        directory: of the run; only read.
        checkpoint: "last", "best" or "good".
        batch_size: real samples and as many generated ones; None = the run's own batch.
        seed: of samples and latents.

    Raises:
        ConfigError: no run of train_gan there, no such checkpoint, one that is damaged or of another network,
            or data that cannot be read.
    """
    cfg = build_to_measure(directory)
    if not isinstance(cfg, TrainConfig):
        raise ConfigError(f"{directory} holds no run of train_gan")
    path = directory / "checkpoints" / f"{checkpoint}.pt"
    state = checkpoints.load(path)
    device = torch.device("cpu")
    trainer = build_trainer(cfg, Generators(cfg.seed), device)
    checkpoints.restore(trainer.generator, state, "generator", path)
    checkpoints.restore(trainer.discriminator, state, "discriminator", path)
    own = torch.Generator().manual_seed(seed_for(cfg.seed, "landscape", seed))
    real = cfg.data.draw(batch_size or cfg.batch_size, own, device)
    z = latents(len(real.x), cfg.latent_size, own, device)
    return Subject(
        directory=directory,
        checkpoint=checkpoint,
        objectives={step.name: objective for objective, step in player_objectives(trainer, real, z)},
        batch=f"{len(real.x):,} real samples and as many latents",
        step=checkpoints.step_of(state, path),
        unit="images",
        game=joint_objectives(trainer, real, z),
    )
