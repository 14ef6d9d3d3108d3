"""Parts as a user brings them, each with one thing wrong, and a few that fit."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from gradgan.data.images import ImageData
from gradgan.images import Images


@dataclass(frozen=True, kw_only=True)
class Margin:
    """A loss that fits."""

    generator_uses_real: ClassVar[bool] = False
    has_threshold: ClassVar[bool] = True
    margin: float = 1.0

    def discriminator(self, real_logits, fake_logits):
        return (self.margin - real_logits).relu().mean() + (self.margin + fake_logits).relu().mean()

    def generator(self, fake_logits, real_logits=None):
        return -fake_logits.mean()


class PlainMargin(Margin):
    """No dataclass of its own, but a subclass of one."""


class NoLoss:
    """No dataclass at all."""


@dataclass(frozen=True, kw_only=True)
class HalfLoss:
    has_threshold: ClassVar[bool] = True

    def discriminator(self, real_logits, fake_logits): ...


@dataclass(frozen=True, kw_only=True)
class VectorLoss(Margin):
    def generator(self, fake_logits, real_logits=None):
        return -fake_logits


@dataclass(frozen=True, kw_only=True)
class NumberLoss(Margin):
    def discriminator(self, real_logits, fake_logits):
        return float((fake_logits - real_logits).mean())


@dataclass(frozen=True, kw_only=True)
class DetachedLoss(Margin):
    def discriminator(self, real_logits, fake_logits):
        return super().discriminator(real_logits, fake_logits).detach()


@dataclass(frozen=True, kw_only=True)
class FailingLoss(Margin):
    def generator(self, fake_logits, real_logits=None):
        return -fake_logits.mean() + real_logits.mean()


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two networks that fit points."""

    name: ClassVar[str] = "pair"
    spectral_norm: bool = False
    width: int = 8

    def check(self, shape): ...

    def generator(self, latent_size, shape, random):
        layers = nn.Linear(latent_size, self.width), nn.ReLU(), nn.Linear(self.width, shape[0])
        return nn.Sequential(*layers)

    def body(self, shape, random):
        return nn.Sequential(nn.Linear(shape[0], self.width), nn.LeakyReLU(0.2)), self.width


@dataclass(frozen=True, kw_only=True)
class NoBody:
    name: ClassVar[str] = "pair"
    spectral_norm: bool = False

    def check(self, shape): ...

    def generator(self, latent_size, shape, random): ...


@dataclass(frozen=True, kw_only=True)
class WrongSamples(Pair):
    def generator(self, latent_size, shape, random):
        return nn.Linear(latent_size, 3)


@dataclass(frozen=True, kw_only=True)
class FailingPair(Pair):
    def generator(self, latent_size, shape, random):
        raise KeyError("width")


@dataclass(frozen=True, kw_only=True)
class FailingCheck(Pair):
    def check(self, shape):
        raise KeyError("shape")


@dataclass(frozen=True, kw_only=True)
class BodyAlone(Pair):
    def body(self, shape, random):
        return super().body(shape, random)[0]


@dataclass(frozen=True, kw_only=True)
class WrongFeatures(Pair):
    def body(self, shape, random):
        return super().body(shape, random)[0], 9


@dataclass(frozen=True, kw_only=True)
class MixingBody(Pair):
    def body(self, shape, random):
        body, width = super().body(shape, random)
        return nn.Sequential(body, nn.BatchNorm1d(width)), width


@dataclass(frozen=True, kw_only=True)
class Stripes(ImageData):
    """Images that fit: 8x8 pixels, stripes of four widths."""

    name: ClassVar[str] = "stripes"
    shape: ClassVar = (1, 8, 8)  # type: ignore[assignment]
    num_classes: ClassVar = 4  # type: ignore[assignment]

    def load(self):
        labels = torch.arange(128) % 4
        columns = torch.arange(8)[None] // (labels[:, None] + 1) % 2
        images = (columns * 255).to(torch.uint8)[:, None, None].expand(-1, 1, 8, -1).contiguous()
        return Images(train=images[:96], held_out=images[96:], labels=labels)


@dataclass(frozen=True, kw_only=True)
class FloatImages(Stripes):
    def load(self):
        found = super().load()
        return Images(train=found.train / 255, held_out=found.held_out / 255, labels=found.labels)


@dataclass(frozen=True, kw_only=True)
class WrongSize(Stripes):
    shape: ClassVar = (1, 16, 16)


@dataclass(frozen=True, kw_only=True)
class FlatShape(Stripes):
    shape: ClassVar = (8, 8)


@dataclass(frozen=True, kw_only=True)
class TooManyLabels(Stripes):
    num_classes: ClassVar = 3


@dataclass(frozen=True, kw_only=True)
class FloatLabels(Stripes):
    def load(self):
        found = super().load()
        return Images(train=found.train, held_out=found.held_out, labels=found.labels.float())


@dataclass(frozen=True, kw_only=True)
class UnexpectedLabels(Stripes):
    num_classes: ClassVar = None


@dataclass(frozen=True, kw_only=True)
class FailingData(Stripes):
    def load(self):
        raise OSError("the disk is on fire")


@dataclass(frozen=True, kw_only=True)
class NoImages(Stripes):
    def load(self):
        return super().load().train


@dataclass(kw_only=True)
class Thawed(ImageData):
    """Its class is not frozen."""

    name: ClassVar[str] = "thawed"
    shape: ClassVar = (1, 8, 8)  # type: ignore[assignment]
    num_classes: ClassVar = 4  # type: ignore[assignment]

    def load(self):
        return Stripes().load()


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A transform that fits."""

    bound: float = 1.0

    def __call__(self, gradients, state):
        state["steps"] = state.get("steps", 0) + 1
        for value in gradients.dense():
            value.clamp_(-self.bound, self.bound)
        gradients.changed()


@dataclass(frozen=True, kw_only=True)
class FailingTransform(Bound):
    def __call__(self, gradients, state):
        gradients.values.clamp_(-self.bound, self.bound)


@dataclass(frozen=True, kw_only=True)
class ShorterTransform(Bound):
    def __call__(self, gradients, state):
        gradients.values = gradients.values[:1]


@dataclass(frozen=True, kw_only=True)
class SilentTransform(Bound):
    def __call__(self, gradients, state):
        gradients.values[0].mul_(0.5)


@dataclass(frozen=True, kw_only=True)
class KeepsAnObject(Bound):
    def __call__(self, gradients, state):
        state["mine"] = object()


@dataclass(frozen=True, kw_only=True)
class SmallLogits:
    """A penalty that fits."""

    on_real: ClassVar[bool] = True
    on_fake: ClassVar[bool] = False
    weight: float = 0.1

    def due(self, update):
        return True

    def __call__(self, batch):
        term = self.weight * batch.real_logits.square().mean()
        return term, {"penalty/logits": term.detach()}


@dataclass(frozen=True, kw_only=True)
class FailingPenalty(SmallLogits):
    def __call__(self, batch):
        return super().__call__(batch.logits)


@dataclass(frozen=True, kw_only=True)
class VectorPenalty(SmallLogits):
    def __call__(self, batch):
        return batch.real_logits.square(), {}


@dataclass(frozen=True, kw_only=True)
class NumberMetric(SmallLogits):
    def __call__(self, batch):
        return super().__call__(batch)[0], {"penalty/logits": 1.0}


@dataclass(frozen=True, kw_only=True)
class FailingAfter:
    """A regularizer whose first half fits."""

    def check(self, shape): ...

    def loss(self, batch, update, state):
        return None, {}

    def after(self, discriminator, metrics, state):
        state["last"] = metrics["nothing"]


@dataclass(frozen=True, kw_only=True)
class Steps:
    """A schedule that fits: half of the rate after every quarter of the run."""

    needs: ClassVar = ()

    def __call__(self, progress, metrics=None, state=None):
        return 0.5 ** (4 * min(progress, 1.0) // 1)


@dataclass(frozen=True, kw_only=True)
class Backwards(Steps):
    def __call__(self, progress, metrics=None, state=None):
        return 0.5 - progress


@dataclass(frozen=True, kw_only=True)
class FailingSchedule(Steps):
    def __call__(self, progress):
        return 1.0
