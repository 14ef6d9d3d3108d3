"""The losses of a trained pair on a frozen batch: what a landscape is drawn of."""

from pathlib import Path

import torch
from torch import Tensor, nn

from core.cli.saved import saved_options
from core.config import ConfigError, build
from core.gradients import Objective
from core.gradients.objective import Forward
from core.landscape.subject import Subject
from core.run import checkpoint as checkpoints
from core.run.seeding import Generators, seed_for
from gradgan.batch import Batch
from gradgan.game.game import Players
from gradgan.game.players import latents
from gradgan.train import TrainConfig, build_trainer
from gradgan.trainer import Trainer


class Pair(nn.Module):
    """Both players as one module, from latents and real samples to both kinds of logits."""

    def __init__(self, players: Players) -> None:
        super().__init__()
        self.generator, self.discriminator = players

    def forward(self, z: Tensor, real: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor]:
        """D(real) and D(G(z)), [B] each."""
        fake = self.generator(z, *labels)
        return self.discriminator(real, *labels), self.discriminator(fake, *labels)


def load_probe(directory: Path, checkpoint: str = "last", *, batch_size: int | None, seed: int) -> Subject:
    """Both players at a checkpoint, and their adversarial losses on frozen samples, as probes see them.

    Penalties, regularizers and augmentation are left out. The players are those that train, not the averaged
    generator, and in training mode.

    Args:
        directory: of the run; only read.
        checkpoint: "last" or "best".
        batch_size: real samples and as many generated ones; None = the run's own batch.
        seed: of samples and latents.

    Raises:
        ConfigError: no run of train_gan there, no such checkpoint, one that is damaged or of another network,
            or data that are not to be had.
    """
    cfg = build(saved_options(directory))
    if not isinstance(cfg, TrainConfig):
        raise ConfigError(f"{directory} holds no run of train_gan")
    path = directory / "checkpoints" / f"{checkpoint}.pt"
    state = checkpoints.load(path)
    device = torch.device("cpu")
    trainer = build_trainer(cfg, Generators(cfg.seed), device)
    checkpoints.restore(trainer.players.generator, state, "generator", path)
    checkpoints.restore(trainer.players.discriminator, state, "discriminator", path)
    own = torch.Generator().manual_seed(seed_for(cfg.seed, "landscape", seed))
    real = cfg.data.draw(batch_size or cfg.batch_size, own, device)
    z = latents(len(real.x), cfg.latent_size, own, device)
    return Subject(
        directory=directory,
        checkpoint=checkpoint,
        objectives={step.name: objective for objective, step in trainer.objectives(real, z)},
        batch=f"{len(real.x):,} real samples and as many latents",
        step=state["run"]["step"],
        unit="images",
        game=joint_objectives(trainer, real, z),
    )


def joint_objectives(trainer: Trainer, real: Batch, z: Tensor) -> dict[str, Objective]:
    """Each player's adversarial loss as a function of both players' parameters, by player.

    Args:
        trainer: whose players and loss.
        real: frozen real samples.
        z: latents [B, latent_size] of as many generated ones.
    """
    loss, pair = trainer.game.loss, Pair(trainer.players)
    labels = () if real.labels is None else (real.labels,)

    def generator(forward: Forward, *batch: Tensor) -> Tensor:
        real_logits, fake_logits = forward(*batch)
        return loss.generator(fake_logits, real_logits)[0]

    def discriminator(forward: Forward, *batch: Tensor) -> Tensor:
        return loss.discriminator(*forward(*batch))[0]

    batch = (z, real.x, *labels)
    return {
        "generator": Objective(pair, generator, batch),
        "discriminator": Objective(pair, discriminator, batch),
    }
