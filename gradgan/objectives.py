"""The adversarial losses on frozen samples: what probes, automatic learning rates and landscapes look at.

Penalties, regularizers and augmentation are left out.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from core.config import ConfigError
from core.gradients import GradientStep, Objective
from core.gradients.objective import Forward, frozen
from core.gradients.probe import Probe
from core.noise import NoiseProbe
from gradgan.batch import Batch
from gradgan.losses import Loss, compares_samples
from gradgan.networks import Network
from gradgan.trainer import Trainer


def player_objectives(trainer: Trainer, real: Batch, z: Tensor) -> list[tuple[Objective, GradientStep]]:
    """The generator's and the discriminator's loss, each as a function of its own parameters, with its step.

    Args:
        trainer: whose players and loss.
        real: frozen real samples, as the discriminator sees them.
        z: latents [B, latent_size] of as many generated samples.
    """
    loss = trainer.game.loss
    generate, discriminate = frozen(trainer.generator), frozen(trainer.discriminator)
    labels = () if real.labels is None else (real.labels,)

    def generator_loss(forward: Forward, z: Tensor, real: Tensor, *labels: Tensor) -> Tensor:
        real_logits = discriminate(real, *labels) if loss.generator_uses_real else None
        return loss.generator(discriminate(forward(z, *labels), *labels), real_logits)

    def discriminator_loss(forward: Forward, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        return loss.discriminator(forward(real, *labels), forward(fake, *labels))

    with torch.no_grad():
        fake = generate(z, *labels)
    count = 2 + len(labels)
    generator = Objective(
        trainer.generator,
        generator_loss,
        (z, real.x, *labels),
        batch_names=("latents", "real samples", "labels")[:count],
    )
    discriminator = Objective(
        trainer.discriminator,
        discriminator_loss,
        (real.x, fake, *labels),
        batch_names=("real samples", "samples", "labels")[:count],
    )
    return [(generator, trainer.generator_step), (discriminator, trainer.discriminator_step)]


class Pair(nn.Module):
    """Both players as one module, from latents and real samples to both kinds of logits."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def forward(self, z: Tensor, real: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor]:
        """D(real) and D(G(z)), [B] each."""
        fake = self.generator(z, *labels)
        return self.discriminator(real, *labels), self.discriminator(fake, *labels)


def joint_objectives(trainer: Trainer, real: Batch, z: Tensor) -> dict[str, Objective]:
    """Each player's loss as a function of both players' parameters, by player; arguments as above."""
    loss, pair = trainer.game.loss, Pair(trainer.generator, trainer.discriminator)

    def generator_loss(forward: Forward, *batch: Tensor) -> Tensor:
        real_logits, fake_logits = forward(*batch)
        return loss.generator(fake_logits, real_logits)

    def discriminator_loss(forward: Forward, *batch: Tensor) -> Tensor:
        return loss.discriminator(*forward(*batch))

    batch = (z, real.x) if real.labels is None else (z, real.x, real.labels)
    return {
        "generator": Objective(pair, generator_loss, batch),
        "discriminator": Objective(pair, discriminator_loss, batch),
    }


def check_noise(probes: Mapping[str, Probe], loss: Loss, network: Network) -> None:
    """Raise ConfigError where noise is to be measured of samples without gradients of their own."""
    for name in (name for name, probe in probes.items() if isinstance(probe, NoiseProbe)):
        if compares_samples(loss):
            raise ConfigError(
                f"probe={name} wants a loss that is the mean of its samples' own losses, and loss "
                f"{type(loss).__name__} compares the samples of a whole batch: leave the probe out, or "
                "take another loss"
            )
        if getattr(network, "batch_norm", False):
            raise ConfigError(
                f"probe={name} wants network.batch_norm=false: the samples of a batch share the statistics "
                "of batch normalisation, so none has a gradient of its own"
            )
