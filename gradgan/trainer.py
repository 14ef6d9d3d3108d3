"""The training step of a GAN, on one page.

    discriminator:  its losses on real samples and on G(z)          G is fixed; `discriminator.steps` times
    generator:      its losses on D(G(z)), of the last of these z   D is fixed
    average of G:   moves towards G

Both losses are in `gradgan.game.game`. An update scheme (alternating, simultaneous, ...) decides in which
order the two gradients are computed and applied; each player's `GradientStep` changes only its own
parameters, so the other player stays fixed and costs no weight gradients. Where a scheme takes both gradients
at one point, one backward pass through the discriminator can serve both (`gradgan.game.shared_pass`).
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from core.form import Anything, Number
from core.gradients import Closure, GradientStep, Metrics
from core.gradients.ranks import own
from core.optim.averaging import ExponentialMovingAverage
from core.optim.schedules import Schedule, ScheduledRate
from core.optim.schemes.schemes import Move, Scheme
from core.optim.schemes.stateful import scheme_form
from core.state import StateDict, copied
from gradgan.batch import Batch
from gradgan.game.game import FakeBatch, Game, StepInfo
from gradgan.game.players import latents
from gradgan.game.recordable import RecordableGame
from gradgan.game.shared_pass import scores_alone


class Trainer:
    """Two players, their gradient steps, and the game they play.

    Args:
        generator: latents [B, latent_size], and labels, to samples.
        discriminator: samples, and labels, to logits [B].
        generator_step: the step of the generator's parameters.
        discriminator_step: the step of the discriminator's parameters.
        average: follows the generator; counts images.
        game: both losses.
        scheme: order of the two players' moves.
        schedule: multiplier of both learning rates over the training.
        latent_size: numbers in a latent.
        random: every draw of the training follows from it.
        micro_batches: parts of each batch that are taken one after the other, to save memory; the gradient is
            that of the whole batch (but batch norm sees the parts).
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
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
        self.generator = generator
        self.discriminator = discriminator
        self.generator_step = generator_step
        self.discriminator_step = discriminator_step
        self.average = average
        self.game = game
        self.scheme = scheme
        self.learning_rates = [ScheduledRate(schedule, s) for s in (discriminator_step, generator_step)]
        self.latent_size = latent_size
        self.random = random
        self.micro_batches = micro_batches
        # float16 has no room below the slopes that are to be divided by.
        wide = discriminator_step.precision != "float16"
        self.one_pass = wide and scheme.at_one_point and game.asks_once and scores_alone(discriminator)
        self.recordable: RecordableGame | None = None  # where the steps are compiled
        self.updates = 0
        self.discriminator_updates = 0
        self.progress = 0.0
        self.scheme_state: StateDict = {}
        self.regularizer_states: dict[str, StateDict] = {name: {} for name in game.regularizers}
        initial = game.augment.initial if game.augment is not None else 0.0
        self.augmentation = torch.tensor(initial, device=generator_step.device)

    def update(self, batches: Sequence[Batch], progress: float) -> Metrics:
        """Move the discriminator once for each batch, and the generator with the last of them.

        Args:
            batches: real samples, at least one batch; all but the last move the discriminator alone.
            progress: share of the training done, in [0, 1].

        Returns:
            loss/discriminator, loss/generator, and the metrics of logits, penalty and regularizers, all at
            the last batch.
        """
        self.progress = progress
        for rate in self.learning_rates:
            rate.set(progress)
        *first, last = batches
        for real in first:
            discriminator_closures, _ = self.closures(real, shared=False)
            self._after_discriminator(self.discriminator_step(*discriminator_closures), real)
        discriminator_closures, generator_closures = self.closures(last, shared=self.micro_batches == 1)
        metrics = self.scheme(
            Move(self.discriminator_step, discriminator_closures),
            Move(self.generator_step, generator_closures),
            self.scheme_state,
        )
        self._after_discriminator(metrics, last)
        for rate in self.learning_rates:
            rate.observe()
        self.average.update(sum(len(real.x) for real in batches))
        self.updates += 1
        return metrics

    def closures(self, real: Batch, *, shared: bool) -> tuple[list[Closure], list[Closure]]:
        """The discriminator's and the generator's losses on a batch, one closure for each micro-batch.

        Of several ranks each takes its rows; what is drawn is drawn for all of them.

        Everything random is drawn here, or follows from a seed drawn here, because a closure that is called
        twice has to see the same samples.
        """
        of_discriminator: list[Closure] = []
        of_generator: list[Closure] = []
        xs = real.x.chunk(self.micro_batches)
        labels = [None] * len(xs) if real.labels is None else real.labels.chunk(self.micro_batches)
        for x, label in zip(xs, labels, strict=True):
            z = own(latents(len(x), self.latent_size, self.random, x.device))
            part = Batch(own(x), None if label is None else own(label))
            seed, other_seed = torch.randint(2**62, (2,), generator=self.random).tolist()
            info = StepInfo(self.discriminator_updates, self.progress, self.augmentation, seed)
            states = self.regularizer_states
            if self.recordable is not None:
                both = self.recordable.closures(part, z, info, other_seed, states, shared=shared)
            else:
                one_pass = shared and self.one_pass
                fake = FakeBatch(self.generator, z, part.labels, shared=shared, one_pass=one_pass)
                arguments = self.discriminator, part, fake
                both = (
                    partial(self.game.discriminator_loss, *arguments, info, states),
                    partial(self.game.generator_loss, *arguments, info._replace(seed=other_seed)),
                )
            of_discriminator.append(both[0])
            of_generator.append(both[1])
        return of_discriminator, of_generator

    def _after_discriminator(self, metrics: Metrics, real: Batch) -> None:
        """What follows an update of the discriminator: states of regularizers, augmentation, count."""
        for name, regularizer in self.game.regularizers.items():
            regularizer.after(self.discriminator, metrics, self.regularizer_states[name])
        if self.game.augment is not None:
            sign = metrics["augment/real_sign"]
            self.augmentation = self.game.augment.adapt(self.augmentation, sign, len(real.x))
        self.discriminator_updates += 1

    def state_dict(self) -> StateDict:
        """Counts of updates, augmentation, and the states of scheme, regularizers and schedules.

        The modules are saved by name.
        """
        return {
            "updates": self.updates,
            "discriminator_updates": self.discriminator_updates,
            "progress": self.progress,
            "augmentation": self.augmentation.clone(),
            "scheme": copied(self.scheme_state),
            "regularizers": copied(self.regularizer_states),
            "learning_rates": [rate.state_dict() for rate in self.learning_rates],
        }

    def state_form(self) -> StateDict:
        """What `state_dict` must look like."""
        described = {name: getattr(r, "state_form", None) for name, r in self.game.regularizers.items()}
        return {
            **self.state_dict(),
            "progress": Number(0, 1),
            "scheme": scheme_form(self.scheme, self.discriminator_step, self.generator_step),
            "regularizers": {name: form() if form else Anything() for name, form in described.items()},
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.updates = int(state["updates"])
        self.discriminator_updates = int(state["discriminator_updates"])
        self.progress = float(state["progress"])
        device = self.generator_step.device
        self.augmentation = state["augmentation"].to(device)
        self.scheme_state = copied(state["scheme"], device)
        self.regularizer_states = copied(state["regularizers"], device)
        for rate, saved in zip(self.learning_rates, state["learning_rates"], strict=True):
            rate.load_state_dict(saved)
