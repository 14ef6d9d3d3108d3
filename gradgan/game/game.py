"""What both players want: losses, penalty and regularizers, and what the discriminator is shown.

    discriminator:  loss(D(real), D(G(z))) + penalty + regularizers      G is fixed
    generator:      loss(D(G(z)))                                        D is fixed

Pure: tensors in, losses and metrics out. Everything random in a loss follows from the seed of its `Moment`,
so a scheme or an optimizer that looks twice (extragradient, LBFGS) sees the same samples twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from core.checks import require
from core.gradients import Metrics
from core.state import StateDict
from core.transfer import send
from gradgan.augment import Augment
from gradgan.batch import Batch, Round
from gradgan.game.generated import Generated
from gradgan.game.players import Discriminator
from gradgan.losses import Loss
from gradgan.networks.conditioning import Auxiliary
from gradgan.penalties import Penalty
from gradgan.regularizers import Regularizer


class Players(NamedTuple):
    """Generator and discriminator; see `gradgan.game.players`."""

    generator: nn.Module
    discriminator: nn.Module


class Moment(NamedTuple):
    """When a loss is asked for.

    Attributes:
        update: number of the discriminator's update, from 0: decides whether a lazy penalty is due.
        progress: share of the training done, in [0, 1].
        augmentation: probability of each augmentation, 0-d, on the device.
        seed: of everything random in the loss.
    """

    update: int
    progress: float
    augmentation: Tensor
    seed: int


@dataclass(frozen=True, kw_only=True)
class Game:
    """The rules, as they are configured.

    Attributes:
        loss: adversarial loss of both players.
        penalty: on the discriminator's input gradients, or None.
        regularizers: further terms of the discriminator's loss, by name.
        auxiliary: both players also want samples to be classified as their labels, or None.
        augment: shown samples are transformed, real and generated ones alike, or None.
        instance_noise: standard deviation of the noise added to every shown sample at the start; it falls
            linearly to 0 (Sonderby et al. 2017, arXiv:1610.04490, section 3.1).
        top_k: share of its batch, the samples that D finds most real, that the generator learns from at the
            end; it falls linearly from 1 (Sinha et al. 2020, arXiv:2002.06224, section 3).
        joint_graph: whether each loss carries its graph to the parameters of both players.
    """

    loss: Loss
    penalty: Penalty | None = None
    regularizers: Mapping[str, Regularizer] = field(default_factory=dict)
    auxiliary: Auxiliary | None = None
    augment: Augment | None = None
    instance_noise: float = 0.0
    top_k: float = 1.0
    joint_graph: bool = False

    def __post_init__(self) -> None:
        noise, top_k = self.instance_noise, self.top_k
        require(0 <= noise < float("inf"), "instance_noise", noise, "a finite number >= 0")
        require(0 < top_k <= 1, "top_k", top_k, "in (0, 1]")

    def discriminator_loss(
        self,
        players: Players,
        real: Batch,
        generated: Generated,
        moment: Moment,
        memory: Mapping[str, StateDict],
    ) -> tuple[dict[str, Tensor], Metrics]:
        """Everything the discriminator minimises, by name.

        Args:
            players: both of them.
            real: the batch.
            generated: as many samples, with its labels.
            moment: when.
            memory: of each regularizer, by name; only read.

        Returns:
            The terms of its loss, and loss/discriminator (the adversarial one) and the metrics of all terms.
        """
        random = torch.Generator().manual_seed(moment.seed)
        fake = generated.live() if self.joint_graph else generated.fixed()
        penalty = self.penalty if self.penalty is not None and self.penalty.due(moment.update) else None
        x = real.x.detach().requires_grad_(penalty is not None and penalty.on_real)
        fake = fake.requires_grad_(fake.requires_grad or (penalty is not None and penalty.on_fake))
        show = self._shown(moment, random)
        real_logits, real_terms = self._judge(players, show(x), real.labels)
        fake_logits, fake_terms = self._judge(players, show(fake), real.labels)
        adversarial, metrics = self.loss.discriminator(real_logits, fake_logits)
        losses = {"adversarial": adversarial}
        metrics |= {"loss/discriminator": adversarial.detach()}
        if self.auxiliary is not None:
            losses["classification"] = self.auxiliary.weight * (real_terms + fake_terms)
            metrics["loss/classification"] = real_terms.detach()
        if self.augment is not None:
            metrics["augment/real_sign"] = real_logits.detach().sign().mean()
            metrics["augment/probability"] = moment.augmentation
        seen = Round(
            discriminate=lambda samples: players.discriminator(show(samples), real.labels),
            real=x,
            real_logits=real_logits,
            fake=fake,
            fake_logits=fake_logits,
            progress=moment.progress,
            random=random,
        )
        if penalty is not None:
            losses["penalty"], found = penalty(seen)
            metrics |= found
        for name, regularizer in self.regularizers.items():
            term, found = regularizer.loss(seen, moment.update, memory[name])
            metrics |= found
            if term is not None:
                losses[name] = term
        return losses, metrics

    def generator_loss(
        self, players: Players, real: Batch, generated: Generated, moment: Moment
    ) -> tuple[dict[str, Tensor], Metrics]:
        """Everything the generator minimises, by name.

        The discriminator passes the gradient on and gets none.

        Args:
            players: both of them.
            real: the batch; read by losses that compare with real samples, and for its labels.
            generated: as many samples.
            moment: when.

        Returns:
            The terms of its loss, and loss/generator (the adversarial one) with the loss's own metrics.
        """
        random = torch.Generator().manual_seed(moment.seed)
        fake = generated.live()
        show = self._shown(moment, random)
        fake_logits, fake_terms = self._judge(players, show(fake), real.labels)
        real_logits = None
        if self.loss.generator_uses_real:
            with torch.set_grad_enabled(self.joint_graph):
                real_logits = players.discriminator(show(real.x), real.labels)
        count = self.kept(len(fake_logits), moment.progress)
        if count < len(fake_logits):
            best = fake_logits.detach().topk(count).indices
            fake_logits = fake_logits[best]
            real_logits = None if real_logits is None else real_logits[best]
        adversarial, metrics = self.loss.generator(fake_logits, real_logits)
        losses = {"adversarial": adversarial}
        if self.auxiliary is not None:
            losses["classification"] = self.auxiliary.weight * fake_terms
        return losses, metrics | {"loss/generator": adversarial.detach()}

    def kept(self, count: int, progress: float) -> int:
        """How many of `count` generated samples the generator learns from; at least one."""
        return max(1, round(count * (1.0 - progress * (1.0 - self.top_k))))

    def _shown(self, moment: Moment, random: torch.Generator) -> Callable[[Tensor], Tensor]:
        """Samples to what the discriminator sees of them: augmented, then with noise."""
        noise = self.instance_noise * (1.0 - moment.progress)

        def show(samples: Tensor) -> Tensor:
            if self.augment is not None:
                samples = self.augment(samples, moment.augmentation, random)
            if noise > 0:
                drawn = torch.randn(samples.shape, generator=random, dtype=samples.dtype)
                samples = samples + noise * send(drawn, samples.device)
            return samples

        return show

    def _judge(self, players: Players, samples: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits [B], and the cross-entropy of the classes (0 where none are judged), 0-d."""
        if self.auxiliary is None:
            return players.discriminator(samples, labels), samples.new_zeros(())
        assert isinstance(players.discriminator, Discriminator)
        assert labels is not None
        logits, classes = players.discriminator.judge(samples, labels)
        return logits, cross_entropy(classes, labels)
