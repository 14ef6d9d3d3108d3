"""What is measured and drawn of a generator: one evaluator for points in the plane, one for images.

An evaluator has random generators of its own with fixed seeds: the latents and labels are the same through
the whole training, and the training's own randomness is not touched.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from core.draw.media import Image, Media
from core.numbers import plain_number
from core.seeding import seed_for
from gradgan.evaluation.metrics import NAMES, ImageMetrics, mixture_metrics
from gradgan.evaluation.sample_pictures import BREAK, image_grid, scatter, titled
from gradgan.evaluation.sampling import even_labels, nearest, proportional_labels, sample, spherical
from gradgan.features import Features
from gradgan.game.players import latents
from gradgan.images import Images, to_pixels

NUM_DRAWN_POINTS = 2500
ROWS, COLUMNS = 10, 10  # of images in a picture
MAX_CLASSES = 20  # rows of a picture with one for each class
NEIGHBOURS = 8
MAX_COUNTED = 100  # classes whose counts are listed


@dataclass(frozen=True, kw_only=True)
class FixedLatents:
    """The latents and labels that a generator is measured and drawn on.

    Attributes:
        size: numbers in a latent.
        seed: of all of them.
        num_classes: of a conditional generator; None = it is not.
        like: labels of the data, int64 [N], whose shares the labels have; None = all classes alike. Of other
            shares than the data's even a perfect generator makes another distribution.
        truncation: no element beyond it, > 0; None = any.
    """

    size: int
    seed: int
    num_classes: int | None = None
    like: Tensor | None = None
    truncation: float | None = None

    def draw(self, count: int, purpose: str, device: torch.device) -> Tensor:
        """Latents [count, size] that depend on nothing but the seed and the purpose."""
        random = torch.Generator().manual_seed(seed_for(self.seed, purpose))
        return latents(count, self.size, random, device, truncation=self.truncation)

    def labels(self, count: int, purpose: str) -> Tensor | None:
        """Labels [count] in random order, likewise; None = not conditional."""
        if self.num_classes is None:
            return None
        random = torch.Generator().manual_seed(seed_for(self.seed, purpose, "labels"))
        if self.like is None:
            return even_labels(count, self.num_classes, random)
        return proportional_labels(count, self.like, random)

    def samples(self, generator: nn.Module, count: int, purpose: str) -> Tensor:
        """Samples [count, ...] on the CPU."""
        return sample(generator, self.draw(count, purpose, device_of(generator)), self.labels(count, purpose))


class Evaluator(Protocol):
    """Measures and draws a generator; it is moved nowhere, and nothing of it changes."""

    @property
    def headline(self) -> tuple[str, ...]:
        """Tags of the metrics to show while training; empty where nothing is measured."""
        ...

    @property
    def unmeasured(self) -> str:
        """Why nothing is measured, a predicate of the data; empty where something is."""
        ...

    def measure(self, generator: nn.Module) -> dict[str, object]:
        """Every number by its name in summary.json; None is what was not measured."""
        ...

    def score(self, measured: dict[str, object]) -> float:
        """One number of what `measure` returned: bigger is better."""
        ...

    def draw(self, generator: nn.Module) -> dict[str, Media]:
        """Pictures of its samples by tag."""
        ...


class MixtureEvaluator:
    """Compares points with the mixture of Gaussians that they should come from.

    Args:
        latents: what the points are generated from; a label is the index of a Gaussian.
        centres: means of the Gaussians, [K, 2].
        std: of each Gaussian along each axis.
        scale: what a generator's output is multiplied by to be in the units of the centres.
        real: samples of the mixture in the units of the centres, as many as shall be measured, [N, 2].
    """

    headline = ("eval/modes", "eval/high_quality", "eval/reverse_kl")
    unmeasured = ""

    def __init__(
        self, latents: FixedLatents, *, centres: Tensor, std: float, scale: float, real: Tensor
    ) -> None:
        self.latents = latents
        self.centres, self.std, self.scale = centres, std, scale
        self.real = real

    def measure(self, generator: nn.Module) -> dict[str, object]:
        """Count modes, and measure high_quality and reverse_kl, as `metrics.mixture_metrics` defines them.

        With each comes `<name>_floor`, the same of as many samples of the mixture itself; `samples` is their
        number.
        """
        measured = self._metrics(self._points(generator, len(self.real), "evaluation"))
        floor = self._metrics(self.real)
        return {**measured, **{f"{name}_floor": v for name, v in floor.items()}, "samples": len(self.real)}

    def score(self, measured: dict[str, object]) -> float:
        """Share of high quality, less the reverse KL: bigger is better."""
        return float(str(measured["high_quality"])) - float(str(measured["reverse_kl"]))

    def draw(self, generator: nn.Module) -> dict[str, Media]:
        """The points over the centres."""
        points = self._points(generator, NUM_DRAWN_POINTS, "drawing")
        return {"samples": scatter(points, self.centres, self.std)}

    def _points(self, generator: nn.Module, count: int, purpose: str) -> Tensor:
        return self.latents.samples(generator, count, purpose) * self.scale

    def _metrics(self, points: Tensor) -> dict[str, float]:
        return mixture_metrics(points, self.centres, self.std)


class ImageEvaluator:
    """Compares images with held-out real ones, under features that are named with the numbers.

    Nothing is measured where there is nothing to measure under or against: without labels under features that
    need them, and with fewer than two images held out or to train on.

    Args:
        name: of the data set.
        images: the data set.
        latents: what images are generated from.
        samples: how many are measured.
        features: makes the feature network, when first needed.
        say: told why measuring takes long.

    Attributes:
        unmeasured: why nothing is measured, a predicate of the data; empty where something is.

    Raises:
        ConfigError: the feature network cannot be made.
    """

    def __init__(
        self,
        name: str,
        images: Images,
        latents: FixedLatents,
        samples: int,
        features: Features,
        say: Callable[[str], None] = print,
    ) -> None:
        self.images = images
        self.latents = replace(latents, like=images.train_labels)
        self.samples = samples
        self.unmeasured = _lacking(images, features)
        self.features = None if self.unmeasured else features.name_on(name)
        self.headline = () if self.unmeasured else ("eval/fid", "eval/kid")
        if images.labels is not None or not features.needs_labels:
            features.check(images)
        self._choice = features
        self._say = say
        self._metrics: ImageMetrics | None = None

    def measure(self, generator: nn.Module) -> dict[str, object]:
        """What `metrics.ImageMetrics` measures, with its floors, and what it was measured under and on.

        Returns:
            fid, kid, precision, recall, density, coverage, inception_score, modes and reverse_kl, each with
            `<name>_floor`; features, the name of the network; fid_samples, how many images were on either
            side of all of these; class_counts, how many of all samples are of each of the data's classes (up
            to 100 classes). None is what was not measured.
        """
        names = (*NAMES, *(f"{name}_floor" for name in NAMES), "features", "fid_samples", "class_counts")
        if self.features is None:
            return {**dict.fromkeys(names)}
        metrics = self._made(device_of(generator))
        fake = to_pixels(self.latents.samples(generator, self.samples, "evaluation"))
        measured, counts = metrics(fake)
        found: dict[str, object] = {
            **measured,
            **metrics.floor,
            "features": self.features,
            "fid_samples": metrics.count,
            "class_counts": counts if counts is None or len(counts) <= MAX_COUNTED else None,
        }
        return {name: found[name] for name in names}

    def score(self, measured: dict[str, object]) -> float:
        """The negated FID, so that bigger is better."""
        return -float(str(measured["fid"]))

    def draw(self, generator: nn.Module) -> dict[str, Media]:
        """Samples, paths between latents, and samples next to their nearest training images.

        The latents are the same through the whole training.
        """
        return {
            "samples": Image(self._samples(generator)),
            "interpolations": Image(self._interpolations(generator)),
            "neighbours": Image(self._neighbours(generator)),
        }

    def _samples(self, generator: nn.Module) -> np.ndarray:
        """A square of samples; of a conditional generator one row for each class, the latents by column."""
        classes = self._classes()
        if classes is None:
            fake = self.latents.samples(generator, ROWS * COLUMNS, "drawing")
            return titled(image_grid(to_pixels(fake)), "Samples" + self._note())
        z = self.latents.draw(COLUMNS, "drawing", device_of(generator)).repeat(len(classes), 1)
        fake = sample(generator, z, torch.tensor(classes).repeat_interleave(COLUMNS))
        title = (
            f"Samples: a row for each class{self._of_all(classes)}, a latent for each column{self._note()}"
        )
        return titled(image_grid(to_pixels(fake), COLUMNS), title, rows=[str(c) for c in classes])

    def _interpolations(self, generator: nn.Module) -> np.ndarray:
        """Paths between two latents each, from left to right."""
        ends = self.latents.draw(2 * ROWS, "interpolation", device_of(generator))
        z = spherical(ends[:ROWS], ends[ROWS:], COLUMNS).flatten(0, 1)
        title, names, labels = "From one latent to another along the great circle", [], None
        classes = self._classes()
        if classes is not None:
            rows = [classes[i * len(classes) // ROWS] for i in range(ROWS)]
            labels, names = torch.tensor(rows).repeat_interleave(COLUMNS), [str(c) for c in rows]
            title += ", the class of each row kept"
        fake = sample(generator, z, labels)
        return titled(image_grid(to_pixels(fake), COLUMNS), title + self._note(), rows=names)

    def _neighbours(self, generator: nn.Module) -> np.ndarray:
        """Samples in the first column, and right of each the training images that differ least from it."""
        fake = to_pixels(self.latents.samples(generator, ROWS, "neighbours"))
        pool = self.images.train
        count = min(NEIGHBOURS, len(pool))
        found = pool[nearest(fake, pool, count)]  # [ROWS, count, C, H, W]
        both = torch.cat([fake[:, None], found], dim=1).flatten(0, 1)
        canvas = image_grid(both, 1 + count, group=1)
        second = (canvas.shape[1] - BREAK) / (1 + count) + BREAK
        return titled(
            canvas,
            f"Samples and, of {len(pool):,} training images, those nearest by pixels{self._note()}",
            headings=[(0.0, "sample"), (second / canvas.shape[1], "nearest training images")],
        )

    def _classes(self) -> list[int] | None:
        """The classes that are drawn: all, or 20 evenly spread."""
        count = self.latents.num_classes
        if count is None:
            return None
        drawn = min(count, MAX_CLASSES)
        return [i * count // drawn for i in range(drawn)]

    def _of_all(self, classes: list[int]) -> str:
        count = self.latents.num_classes
        return "" if len(classes) == count else f" ({len(classes)} of {count})"

    def _note(self) -> str:
        bound = self.latents.truncation
        return "" if bound is None else f" (latents truncated at {bound:g})"

    def _made(self, device: torch.device) -> ImageMetrics:
        if self._metrics is None:
            network = self._choice.make(self.images, self._say).to(device)
            self._metrics = ImageMetrics(self.images, network, self.samples, device)
        return self._metrics


def _lacking(images: Images, features: Features) -> str:
    """What the data lack to be measured; empty where it is nothing."""
    if images.labels is None and features.needs_labels:
        return "has no labels to train features on (features=mobilenet needs none)"
    for part, there in (("held out", images.held_out), ("to train on", images.train)):
        if len(there) < 2:
            return f"has {len(there) or 'none'} {part}, and at least 2 are needed"
    return ""


def device_of(module: nn.Module) -> torch.device:
    """Where a module is."""
    return next(module.parameters()).device


def outcome(measured: Mapping[str, object], headline: Sequence[str]) -> str:
    """The metrics of the headline, each beside the same metric of real samples where it has one."""
    texts = []
    for tag in headline:
        name = tag.removeprefix("eval/")
        value, floor = (measured.get(key) for key in (name, f"{name}_floor"))
        if isinstance(value, int | float):
            real = f" (real data {plain_number(floor)})" if isinstance(floor, int | float) else ""
            texts.append(f"{name} {plain_number(value)}{real}")
    return ", ".join(texts)
