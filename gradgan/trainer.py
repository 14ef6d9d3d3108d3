"""The training step of a GAN, on one page.

    discriminator:  its losses on real samples and G(z)     G is fixed; several times, if asked for
    generator:      its losses on D(G(z)), the last of these z    D is fixed
    average of G <- average of G and G

What the losses are is `gradgan.game.game`. An update scheme (alternating, simultaneous, ...) decides in which
order the two gradients are taken and applied; each player's `GradientStep` touches only its own parameters,
so the other one is fixed by itself and costs no weight gradients.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from core.gradients import Closure, GradientStep, Metrics, Objective
from core.gradients.objective import Forward, frozen
from core.optim.averaging import ExponentialMovingAverage
from core.optim.schedules import Schedule, ScheduledRate
from core.optim.schemes.schemes import Scheme
from core.state import StateDict, copied
from gradgan.batch import Batch
from gradgan.game.game import Game, Moment, Players
from gradgan.game.generated import Generated
from gradgan.game.players import latents


class Part(NamedTuple):
    """A micro-batch of one update.

    Attributes:
        real: real samples.
        generated: as many generated ones.
        discriminator: when its loss is asked for, and its draws.
        generator: likewise.
    """

    real: Batch
    generated: Generated
    discriminator: Moment
    generator: Moment


class Trainer:
    """Two players, their gradient steps, and the game they play.

    Args:
        players: generator (latents [B, latent_size] to samples) and discriminator (samples to logits [B]).
        generator_step: the step of the generator's parameters.
        discriminator_step: the step of the discriminator's parameters.
        average: follows the generator; counts images.
        game: what both players want.
        scheme: order of the two players' moves.
        schedule: multiplier of both learning rates over the training.
        latent_size: numbers in a latent.
        random: every draw of the training follows from it.
        micro_batches: parts that each batch is taken in, one after the other, to save memory; the gradient is
            that of the whole batch (but batch norm sees the parts).
    """

    def __init__(
        self,
        *,
        players: Players,
        generator_step: GradientStep,
        discriminator_step: GradientStep,
        average: ExponentialMovingAverage,
        game: Game,
        scheme: Scheme,
        schedule: Schedule,
        latent_size: int,
        random: torch.Generator,
        micro_batches: int = 1,
    ) -> None:
        self.players = players
        self.generator_step = generator_step
        self.discriminator_step = discriminator_step
        self.average = average
        self.game = game
        self.scheme = scheme
        self.learning_rates = [ScheduledRate(schedule, s) for s in (discriminator_step, generator_step)]
        self.latent_size = latent_size
        self.random = random
        self.micro_batches = micro_batches
        self.updates = 0
        self.discriminator_updates = 0
        self.progress = 0.0
        self.scheme_memory: StateDict = {}
        self.memory: dict[str, StateDict] = {name: {} for name in game.regularizers}
        initial = game.augment.initial if game.augment is not None else 0.0
        self.augmentation = torch.tensor(initial, device=generator_step.device)

    def update(self, batches: Sequence[Batch], progress: float) -> Metrics:
        """Move the discriminator once for each batch, and the generator with the last of them.

        Args:
            batches: real samples, at least one batch; all but the last move the discriminator alone.
            progress: share of the training done, in [0, 1].

        Returns:
            loss/discriminator, loss/generator, and the metrics of loss, penalty and regularizers at the last
            batch.
        """
        self.progress = progress
        for rate in self.learning_rates:
            rate.set(progress)
        *first, last = batches
        for real in first:
            parts = self._parts(real, shared=False)
            self._after_discriminator(self.discriminator_step(*self._discriminator(parts)), real)
        parts = self._parts(last, shared=self.micro_batches == 1)
        metrics = self.scheme(
            self.discriminator_step,
            self._discriminator(parts),
            self.generator_step,
            self._generator(parts),
            self.scheme_memory,
        )
        self._after_discriminator(metrics, last)
        for rate in self.learning_rates:
            rate.observe()
        self.average.update(sum(len(real.x) for real in batches))
        self.updates += 1
        return metrics

    def _parts(self, real: Batch, *, shared: bool) -> list[Part]:
        """The batch and as many generated samples, in micro-batches.

        Everything random is drawn here, or follows from a seed drawn here: a closure that is called twice has
        to see the same samples.
        """
        xs = real.x.chunk(self.micro_batches)
        labels = [None] * len(xs) if real.labels is None else real.labels.chunk(self.micro_batches)
        parts = []
        for x, own in zip(xs, labels, strict=True):
            z = latents(len(x), self.latent_size, self.random, x.device)
            generated = Generated(self.players.generator, z, own, shared=shared)
            seeds = torch.randint(2**62, (2,), generator=self.random).tolist()
            parts.append(Part(Batch(x, own), generated, *map(self._moment, seeds)))
        return parts

    def _moment(self, seed: int) -> Moment:
        return Moment(self.discriminator_updates, self.progress, self.augmentation, seed)

    def _discriminator(self, parts: Sequence[Part]) -> list[Closure]:
        """Its losses, one closure for each part."""

        def closure(part: Part) -> Closure:
            return lambda: self.game.discriminator_loss(
                self.players, part.real, part.generated, part.discriminator, self.memory
            )

        return [closure(part) for part in parts]

    def _generator(self, parts: Sequence[Part]) -> list[Closure]:
        def closure(part: Part) -> Closure:
            return lambda: self.game.generator_loss(self.players, part.real, part.generated, part.generator)

        return [closure(part) for part in parts]

    def _after_discriminator(self, metrics: Metrics, real: Batch) -> None:
        """What follows an update of the discriminator: regularizers' memories, augmentation, count."""
        for name, regularizer in self.game.regularizers.items():
            regularizer.after(self.players.discriminator, metrics, self.memory[name])
        if self.game.augment is not None:
            sign = metrics["augment/real_sign"]
            self.augmentation = self.game.augment.adapt(self.augmentation, sign, len(real.x))
        self.discriminator_updates += 1

    def objectives(self, real: Batch, z: Tensor) -> list[tuple[Objective, GradientStep]]:
        """Both players' adversarial losses on frozen samples: what probes look at.

        Penalties, regularizers and augmentation are left out.

        Args:
            real: as the discriminator sees them.
            z: latents [B, latent_size] of as many generated samples.
        """
        loss = self.game.loss
        generate, discriminate = (frozen(player) for player in self.players)
        labels = () if real.labels is None else (real.labels,)

        def discriminator_loss(forward: Forward, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
            return loss.discriminator(forward(real, *labels), forward(fake, *labels))[0]

        def generator_loss(forward: Forward, z: Tensor, real: Tensor, *labels: Tensor) -> Tensor:
            real_logits = discriminate(real, *labels) if loss.generator_uses_real else None
            return loss.generator(discriminate(forward(z, *labels), *labels), real_logits)[0]

        with torch.no_grad():
            fake = generate(z, *labels)
        objectives = [
            Objective(player, loss_, (*batch, *labels), batch_names=(*names, "labels")[: 2 + len(labels)])
            for player, loss_, batch, names in (
                (self.players.generator, generator_loss, (z, real.x), ("latents", "real samples")),
                (self.players.discriminator, discriminator_loss, (real.x, fake), ("real samples", "samples")),
            )
        ]
        return list(zip(objectives, (self.generator_step, self.discriminator_step), strict=True))

    def state_dict(self) -> StateDict:
        """Counts of updates, augmentation, and what scheme, regularizers and schedules remember.

        The modules are saved by name.
        """
        return {
            "updates": self.updates,
            "discriminator_updates": self.discriminator_updates,
            "progress": self.progress,
            "augmentation": self.augmentation.clone(),
            "scheme": copied(self.scheme_memory),
            "regularizers": copied(self.memory),
            "learning_rates": [rate.state_dict() for rate in self.learning_rates],
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.updates = int(state["updates"])
        self.discriminator_updates = int(state["discriminator_updates"])
        self.progress = float(state["progress"])
        device = self.generator_step.device
        self.augmentation = state["augmentation"].to(device)
        self.scheme_memory = copied(state["scheme"], device)
        self.memory = copied(state["regularizers"], device)
        for rate, saved in zip(self.learning_rates, state["learning_rates"], strict=True):
            rate.load_state_dict(saved)
