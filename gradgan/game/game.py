"""Both losses of a GAN: what each player minimises on a batch, and what the discriminator is shown.

    discriminator:  loss(D(real), D(G(z))) + penalty + regularizers      G is fixed
    generator:      loss(D(G(z)))                                        D is fixed

Pure: tensors in, losses and metrics out. Everything random in a loss follows from the seed of its `StepInfo`,
so a scheme or an optimizer that evaluates it twice (extragradient, LBFGS) sees the same samples twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from core.checks import Finite, checked
from core.gradients import Metrics
from core.gradients.ranks import own, whole
from core.state import StateDict
from core.transfer import send
from gradgan.augment import Augment
from gradgan.batch import Batch, ScoredBatch
from gradgan.game.players import Discriminator
from gradgan.game.shared_pass import SharedPass
from gradgan.losses import Loss, learns_everywhere
from gradgan.networks.conditioning import Auxiliary
from gradgan.penalties import Penalty
from gradgan.regularizers import Regularizer


class StepInfo(NamedTuple):
    """When a loss is computed, and from which seed.

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


class FakeBatch:
    """G(z), made once for both players.

    The discriminator's loss makes the samples and leaves their graph to the generator's loss, which saves one
    forward pass in every update. A loss that asks for samples once the graph has been used,
    or once the generator has moved, gets new samples from the same latents.

    Args:
        generator: latents [B, latent_size], and labels where it is conditional, to samples [B, ...].
        z: the latents.
        labels: int64 [B], or None.
        shared: whether a loss of the generator follows; if not, no graph is built for it.
        one_pass: whether that loss may read the logits that D gave in the discriminator's loss.
    """

    def __init__(
        self, generator: nn.Module, z: Tensor, labels: Tensor | None, *, shared: bool, one_pass: bool = False
    ) -> None:
        self.generator, self.z, self.labels, self.shared = generator, z, labels, shared
        self.one_pass = one_pass
        self.scored: SharedPass | None = None  # of the discriminator's last loss
        self._parameters = list(generator.parameters())
        self._made: tuple[Tensor, int] | None = None

    def detached(self) -> Tensor:
        """Samples without a graph."""
        if not self.shared:
            with torch.no_grad():
                return self.with_graph()
        if self._made is None or self._made[1] != self._version():
            self._made = self.generator(self.z, self.labels), self._version()
        return self._made[0].detach()

    def with_graph(self) -> Tensor:
        """Samples with their graph, which serves one backward pass."""
        made, self._made = self._made, None
        if made is not None and made[1] == self._version():
            return made[0]
        return self.generator(self.z, self.labels)

    def _version(self) -> int:
        """A count that grows with every in-place change of a parameter, even one that is undone later."""
        return sum(p._version for p in self._parameters)


@dataclass(frozen=True, kw_only=True)
@checked
class Game:
    """What both players minimise, as it is configured.

    Attributes:
        loss: adversarial loss of both players.
        penalty: on the discriminator's input gradients, or None.
        regularizers: further terms of the discriminator's loss, by name.
        auxiliary: makes both players also want each sample classified as its label, or None.
        augment: transforms the samples that the discriminator sees, real and fake ones alike, or None.
        instance_noise: standard deviation at the start of the noise added to every sample that the
            discriminator sees; it falls linearly to 0 (Sonderby et al. 2017, arXiv:1610.04490, section 3.1).
        top_k: share of its batch, the samples that D finds most real, that the generator learns from at the
            end; it falls linearly from 1 (Sinha et al. 2020, arXiv:2002.06224, section 3).
        joint_graph: whether each loss carries its graph to the parameters of both players.
    """

    loss: Loss
    penalty: Penalty | None = None
    regularizers: Mapping[str, Regularizer] = field(default_factory=dict)
    auxiliary: Auxiliary | None = None
    augment: Augment | None = None
    instance_noise: Annotated[float, Ge(0), Finite] = 0.0
    top_k: Annotated[float, Gt(0), Le(1)] = 1.0
    joint_graph: bool = False

    def discriminator_loss(
        self,
        discriminator: nn.Module,
        real: Batch,
        fake: FakeBatch,
        info: StepInfo,
        states: Mapping[str, StateDict],
    ) -> tuple[dict[str, Tensor], Metrics]:
        """Everything the discriminator minimises, by name.

        Args:
            discriminator: samples [B, ...], and labels, to logits [B].
            real: real samples.
            fake: as many generated ones, with the same labels.
            info: when, and from which seed.
            states: of the regularizers, by name; only read.

        Returns:
            The terms of its loss; and loss/discriminator (the adversarial one), `logit_metrics`, and the
            metrics of all terms.
        """
        random = torch.Generator().manual_seed(info.seed)
        y = fake.with_graph() if self.joint_graph else fake.detached()
        penalty = self.penalty if self.penalty is not None and self.penalty.due(info.update) else None
        x = real.x.detach().requires_grad_(penalty is not None and penalty.on_real)
        y = y.requires_grad_(y.requires_grad or (penalty is not None and penalty.on_fake))
        show = self._shown(info, random)
        one_pass = fake.one_pass and not (penalty is not None and penalty.on_fake)
        scored = SharedPass(fake.generator, discriminator) if one_pass else None
        if scored is not None:
            fake.scored = scored
        real_logits, real_terms = self._logits(discriminator, show(x), real.labels)
        watched = y if scored is None else scored.samples(y)
        fake_logits, fake_terms = self._logits(discriminator, show(watched), real.labels)
        if scored is not None:
            fake_logits = scored.logits(fake_logits, real_logits)
        adversarial = self.loss.discriminator(real_logits, fake_logits)
        losses = {"adversarial": adversarial}
        metrics = logit_metrics(real_logits, fake_logits, has_threshold=self.loss.has_threshold)
        metrics |= {"loss/discriminator": adversarial.detach()}
        if self.auxiliary is not None:
            losses["classification"] = self.auxiliary.weight * (real_terms + fake_terms)
            metrics["loss/classification"] = real_terms.detach()
        if self.augment is not None:
            logits = real_logits.detach()  # torch's sign of NaN is 0, as if one could not tell
            metrics["augment/real_sign"] = torch.where(logits.isnan(), logits, logits.sign()).mean()
            metrics["augment/probability"] = info.augmentation
        batch = ScoredBatch(
            discriminate=lambda samples: discriminator(show(samples), real.labels),
            real=x,
            real_logits=real_logits,
            fake=y,
            fake_logits=fake_logits,
            progress=info.progress,
            random=random,
        )
        if penalty is not None:
            losses["penalty"], found = penalty(batch)
            metrics |= found
        for name, regularizer in self.regularizers.items():
            term, found = regularizer.loss(batch, info.update, states[name])
            metrics |= found
            if term is not None:
                losses[name] = term
        return losses, metrics

    def generator_loss(
        self, discriminator: nn.Module, real: Batch, fake: FakeBatch, info: StepInfo
    ) -> tuple[dict[str, Tensor], Metrics]:
        """Everything the generator minimises, by name.

        The discriminator passes the gradient on and gets none.

        Args:
            discriminator: samples [B, ...], and labels, to logits [B].
            real: real samples, read by losses that compare with them, and for their labels.
            fake: as many generated ones.
            info: when, and from which seed.

        Returns:
            The terms of its loss, and loss/generator (the adversarial one).
        """
        fake_logits, real_logits, fake_terms = self._generator_logits(discriminator, real, fake, info)
        count = self.kept(len(fake_logits), info.progress)
        if count < len(fake_logits):
            best = fake_logits.detach().topk(count).indices
            fake_logits = fake_logits[best]
            real_logits = None if real_logits is None else real_logits[best]
        adversarial = self.loss.generator(fake_logits, real_logits)
        losses = {"adversarial": adversarial}
        if self.auxiliary is not None:
            losses["classification"] = self.auxiliary.weight * fake_terms
        return losses, {"loss/generator": adversarial.detach()}

    def _generator_logits(
        self, discriminator: nn.Module, real: Batch, fake: FakeBatch, info: StepInfo
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """What the generator's loss reads: D(fake), D(real) if it compares, the cross-entropy of D(fake)."""
        y = fake.with_graph()
        if fake.scored is not None and fake.scored.complete:
            fake_logits, real_logits = fake.scored.again(y)
            return fake_logits, real_logits if self.loss.generator_uses_real else None, y.new_zeros(())
        show = self._shown(info, torch.Generator().manual_seed(info.seed))
        fake_logits, fake_terms = self._logits(discriminator, show(y), real.labels)
        if not self.loss.generator_uses_real:
            return fake_logits, None, fake_terms
        with torch.set_grad_enabled(self.joint_graph):
            return fake_logits, discriminator(show(real.x), real.labels), fake_terms

    @cached_property
    def asks_once(self) -> bool:
        """Whether both losses show D the same generated samples, and only D's logits tell them apart.

        Augmentations and noise are drawn anew for the generator; class logits take the gradient back to a
        sample by a second way.
        """
        same = self.augment is None and self.instance_noise == 0 and self.auxiliary is None
        return same and not self.joint_graph and learns_everywhere(self.loss)

    def kept(self, count: int, progress: float) -> int:
        """How many of `count` generated samples the generator learns from; at least one."""
        if self.top_k == 1:
            return count
        return max(1, round(count * (1.0 - progress * (1.0 - self.top_k))))

    def _shown(self, info: StepInfo, random: torch.Generator) -> Callable[[Tensor], Tensor]:
        """Samples to what the discriminator sees of them: augmented, then with noise."""
        noise = self.instance_noise * (1.0 - info.progress)

        def show(samples: Tensor) -> Tensor:
            if self.augment is not None:
                samples = self.augment(samples, info.augmentation, random)
            if self.instance_noise > 0:
                shape = whole(len(samples)), *samples.shape[1:]
                drawn = own(torch.randn(shape, generator=random, dtype=samples.dtype))
                samples = samples + noise * send(drawn, samples.device)
            return samples

        return show

    def _logits(
        self, discriminator: nn.Module, samples: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Logits [B], and the cross-entropy of the classes (0 where none are predicted), 0-d."""
        if self.auxiliary is None:
            return discriminator(samples, labels), samples.new_zeros(())
        assert isinstance(discriminator, Discriminator)
        assert labels is not None
        logits, class_logits = discriminator.classify(samples, labels)
        return logits, cross_entropy(class_logits, labels)


def logit_metrics(real_logits: Tensor, fake_logits: Tensor, *, has_threshold: bool) -> Metrics:
    """Mean logits, and how often the discriminator is right.

    Args:
        real_logits: D(real), [B].
        fake_logits: D(fake), [B].
        has_threshold: whether 0 separates what D takes for real from what it takes for fake; if not, only
            differences of logits have a meaning.

    Returns:
        logits/real and logits/fake, means; logits/accuracy in [0, 1]: with a threshold the fraction of both
        batches on their own side of 0 (0 itself is neither); without one the fraction of pairs, sample i of
        one kind with sample i of the other, in the right order (a tie counts as wrong). The two samples of a
        pair have the same label: across labels a conditional discriminator need not rank.
    """
    real, fake = real_logits.detach(), fake_logits.detach()
    if has_threshold:
        accuracy = 0.5 * ((real > 0).float().mean() + (fake < 0).float().mean())
    else:
        accuracy = (real > fake).float().mean()
    return {"logits/real": real.mean(), "logits/fake": fake.mean(), "logits/accuracy": accuracy}
