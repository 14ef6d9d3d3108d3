"""The training step of a GAN, on one page.

    z ~ N(0, 1)
    discriminator:  loss(D(real), D(G(z))) + penalty      G is fixed
    generator:      loss(D(G(z')))                        D is fixed
    average of G <- average of G and G

An update scheme (alternating, simultaneous, ...) decides in which order the two gradients are taken and
applied; each player's `GradientStep` touches only its own parameters, so the other one is fixed by itself.
A scheme that differentiates one player's gradient by the other's parameters (consensus) gets both losses with
their graph to both players; the others are spared it.
"""

import torch
from torch import Tensor, nn

from core.gradients import GradientStep, Metrics, Objective
from core.gradients.objective import Forward, frozen
from core.optim.averaging import ExponentialMovingAverage
from core.optim.game import Scheme
from core.optim.schedules import Schedule, ScheduledRate
from core.state import StateDict, copied
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
        self.learning_rates = [ScheduledRate(schedule, s) for s in (discriminator_step, generator_step)]
        self.latent_size = latent_size
        self.random = random
        self.updates = 0
        self.memory: StateDict = {}

    def update(self, real: Tensor, progress: float) -> Metrics:
        """Move both players once.

        Args:
            real: [B, ...], as the discriminator sees them.
            progress: share of the training done, in [0, 1]; sets learning rates and penalty.

        Returns:
            loss/discriminator, loss/generator, and the metrics of loss and penalty.
        """
        for rate in self.learning_rates:
            rate.set(progress)
        # Drawn here and not in the closures, so that who looks twice (extragradient, LBFGS) sees the same
        # samples.
        z_discriminator, z_generator = (
            latents(len(real), self.latent_size, self.random, real.device) for _ in range(2)
        )
        metrics = self.scheme(
            self.discriminator_step,
            lambda: self.discriminator_loss(real, z_discriminator, progress),
            self.generator_step,
            lambda: self.generator_loss(real, z_generator),
            self.memory,
        )
        for rate in self.learning_rates:
            rate.observe()
        self.average.update(len(real))
        self.updates += 1
        return metrics

    def discriminator_loss(
        self, real: Tensor, z: Tensor, progress: float
    ) -> tuple[dict[str, Tensor], Metrics]:
        """Adversarial loss, and the penalty when it is due; the generator gets no gradient."""
        with torch.set_grad_enabled(self.scheme.needs_joint_graph):
            fake = self.generator(z)
        penalty = self.penalty if self.penalty is not None and self.penalty.due(self.updates) else None
        if penalty is not None:
            real = real.detach().requires_grad_(penalty.on_real)
            fake = fake.requires_grad_(penalty.on_fake or fake.requires_grad)
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
            with torch.set_grad_enabled(self.scheme.needs_joint_graph):
                real_logits = self.discriminator(real)
        loss, metrics = self.loss.generator(self.discriminator(self.generator(z)), real_logits)
        return loss, metrics | {"loss/generator": loss.detach()}

    def objectives(self, real: Tensor, z: Tensor) -> list[tuple[Objective, GradientStep]]:
        """Both players' adversarial losses on frozen samples: what probes look at. Penalties are left out.

        Args:
            real: [B, ...], as the discriminator sees them.
            z: latents [B, latent_size] of as many generated samples.
        """
        generate, discriminate = frozen(self.generator), frozen(self.discriminator)

        def discriminator_loss(forward: Forward, real: Tensor, fake: Tensor) -> Tensor:
            return self.loss.discriminator(forward(real), forward(fake))[0]

        def generator_loss(forward: Forward, z: Tensor, real: Tensor) -> Tensor:
            real_logits = discriminate(real) if self.loss.generator_uses_real else None
            return self.loss.generator(discriminate(forward(z)), real_logits)[0]

        with torch.no_grad():
            fake = generate(z)
        return [
            (Objective(self.generator, generator_loss, (z, real)), self.generator_step),
            (Objective(self.discriminator, discriminator_loss, (real, fake)), self.discriminator_step),
        ]

    def state_dict(self) -> StateDict:
        """The number of updates (it decides when a lazy penalty is due), the scheme's and schedules' memory.

        The modules are saved by name.
        """
        return {
            "updates": self.updates,
            "memory": copied(self.memory),
            "learning_rates": [rate.state_dict() for rate in self.learning_rates],
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.updates = int(state["updates"])
        self.memory = copied(state["memory"], self.generator_step.device)
        for rate, saved in zip(self.learning_rates, state["learning_rates"], strict=True):
            rate.load_state_dict(saved)
