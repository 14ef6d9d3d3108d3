"""The training step of a GAN, on one page.

    z ~ N(0, 1)
    discriminator:  loss(D(real), D(G(z))) + penalty      G is fixed
    generator:      loss(D(G(z')))                        D is fixed
    average of G <- average of G and G

An update scheme (alternating, simultaneous, ...) decides in which order the two gradients are taken and
applied; each player's `GradientStep` touches only its own parameters, so the other one is fixed by itself.
"""

import torch
from torch import Tensor, nn

from core.gradients import GradientStep, Metrics
from core.optim.averaging import ExponentialMovingAverage
from core.optim.game import Scheme
from core.optim.schedules import Schedule
from gradgan.losses import Loss
from gradgan.penalties import Penalty
from gradgan.sampling import latents


class Trainer:
    """Two players, their gradient steps, and what they play for.

    Args:
        generator: latents [B, latent_size] to samples [B, ...].
        discriminator: samples [B, ...] to logits [B].
        generator_step: the step of the generator's parameters.
        discriminator_step: the step of the discriminator's parameters.
        average: follows the generator; counts images.
        loss: adversarial loss of both players.
        penalty: on the discriminator's input gradients, or None.
        scheme: order of the two players' moves.
        schedule: multiplier of both learning rates over the training.
        latent_size: numbers in a latent.
        random: every latent of the training is drawn from it.
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        generator_step: GradientStep,
        discriminator_step: GradientStep,
        average: ExponentialMovingAverage,
        loss: Loss,
        penalty: Penalty | None,
        scheme: Scheme,
        schedule: Schedule,
        latent_size: int,
        random: torch.Generator,
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.generator_step = generator_step
        self.discriminator_step = discriminator_step
        self.average = average
        self.loss = loss
        self.penalty = penalty
        self.scheme = scheme
        self.schedule = schedule
        self.latent_size = latent_size
        self.random = random
        self.updates = 0

    def update(self, real: Tensor, progress: float) -> Metrics:
        """Move both players once.

        Args:
            real: [B, ...], as the discriminator sees them.
            progress: share of the training done, in [0, 1]; sets learning rates and penalty.

        Returns:
            loss/discriminator, loss/generator, and the metrics of loss and penalty.
        """
        for step in (self.discriminator_step, self.generator_step):
            step.set_lr_scale(self.schedule(progress))
        # Drawn here and not in the closures, so that an optimizer that looks twice sees the same samples.
        z_discriminator, z_generator = (
            latents(len(real), self.latent_size, self.random, real.device) for _ in range(2)
        )
        metrics = self.scheme(
            self.discriminator_step,
            lambda: self.discriminator_loss(real, z_discriminator, progress),
            self.generator_step,
            lambda: self.generator_loss(real, z_generator),
        )
        self.average.update(len(real))
        self.updates += 1
        return metrics

    def discriminator_loss(
        self, real: Tensor, z: Tensor, progress: float
    ) -> tuple[dict[str, Tensor], Metrics]:
        """Adversarial loss, and the penalty when it is due; the generator gets no gradient."""
        with torch.no_grad():
            fake = self.generator(z)
        penalty = self.penalty if self.penalty is not None and self.penalty.due(self.updates) else None
        if penalty is not None:
            real = real.detach().requires_grad_(penalty.on_real)
            fake = fake.requires_grad_(penalty.on_fake)
        real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
        adversarial, metrics = self.loss.discriminator(real_logits, fake_logits)
        losses = {"adversarial": adversarial}
        if penalty is not None:
            losses["penalty"], norms = penalty(real, real_logits, fake, fake_logits, progress)
            metrics |= norms
        return losses, metrics | {"loss/discriminator": adversarial.detach()}

    def generator_loss(self, real: Tensor, z: Tensor) -> tuple[Tensor, Metrics]:
        """Adversarial loss of fresh samples; the discriminator passes the gradient on and gets none."""
        real_logits = None
        if self.loss.generator_uses_real:
            with torch.no_grad():
                real_logits = self.discriminator(real)
        loss, metrics = self.loss.generator(self.discriminator(self.generator(z)), real_logits)
        return loss, metrics | {"loss/generator": loss.detach()}

    def state_dict(self) -> dict[str, object]:
        """The number of updates (it decides when a lazy penalty is due); the modules are saved by name."""
        return {"updates": self.updates}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue from `state_dict`."""
        self.updates = int(str(state["updates"]))
