"""What is measured and drawn of a generator: one judge for points in the plane, one for images.

A judge uses its own generators with fixed seeds, made anew each time: the same latents through the whole
training, and no trace in the training's own randomness.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.run.media import Image, Media
from core.run.seeding import seed_for
from gradgan.data import Images, Mixture
from gradgan.features import Classifier, cached_classifier
from gradgan.metrics import ImageDistance, class_counts, mixture_metrics
from gradgan.sampling import image_grid, latents, sample, scatter, to_pixels

NUM_DRAWN_IMAGES = 100
NUM_DRAWN_POINTS = 2500


class MixtureJudge:
    """Judges points against the mixture they should come from.

    Args:
        mixture: the truth.
        latent_size: of the generators to come.
        samples: how many are measured.
        seed: of the latents.
    """

    headline = ("eval/modes", "eval/high_quality", "eval/reverse_kl")

    def __init__(self, mixture: Mixture, latent_size: int, samples: int, seed: int) -> None:
        self.mixture = mixture
        self.latent_size = latent_size
        self.samples = samples
        self.seed = seed

    def measure(self, generator: nn.Module) -> dict[str, object]:
        """Count modes, and measure high_quality and reverse_kl, as `metrics.mixture_metrics` defines them."""
        points = self._points(generator, self.samples, "evaluation")
        return dict(mixture_metrics(points, self.mixture.centres, self.mixture.std))

    def score(self, measured: dict[str, object]) -> float:
        """Share of high quality, less the reverse KL: bigger is better."""
        return float(str(measured["high_quality"])) - float(str(measured["reverse_kl"]))

    def draw(self, generator: nn.Module) -> dict[str, Media]:
        """The points over the centres."""
        points = self._points(generator, NUM_DRAWN_POINTS, "drawing")
        return {"samples": Image(scatter(points, self.mixture))}

    def _points(self, generator: nn.Module, count: int, purpose: str) -> Tensor:
        return _sample(generator, count, self.latent_size, self.seed, purpose) * self.mixture.scale


class ImageJudge:
    """Judges images against held-out real ones, under a classifier trained on the data set's own labels.

    Without labels there is no feature network, and nothing is measured.

    Args:
        name: of the data set.
        images: the data set.
        latent_size: of the generators to come.
        samples: how many are measured.
        seed: of the latents.
        classifier: makes (or loads) the feature network from all images and labels; called at most once.
    """

    def __init__(
        self,
        name: str,
        images: Images,
        latent_size: int,
        samples: int,
        seed: int,
        classifier: Callable[[str, Tensor, Tensor], Classifier] = cached_classifier,
    ) -> None:
        self.images = images
        self.latent_size = latent_size
        self.samples = samples
        self.seed = seed
        self.features = f"{name}_classifier" if images.labels is not None else None
        self.headline = ("eval/fid", "eval/kid") if self.features else ()
        self._make_classifier = classifier
        self._network: tuple[Classifier, ImageDistance] | None = None

    def measure(self, generator: nn.Module) -> dict[str, object]:
        """Measure fid and kid, their floors of real from real, and how many images fell into each class."""
        unmeasured: dict[str, object] = {"precision": None, "recall": None}
        if self.features is None:
            names = ("fid", "kid", "features", "fid_floor", "kid_floor")
            return {**dict.fromkeys(names), **unmeasured}
        classifier, distance = self._feature_network()
        fake = to_pixels(_sample(generator, self.samples, self.latent_size, self.seed, "evaluation"))
        return {
            **distance(fake),
            **unmeasured,
            "features": self.features,
            **distance.floor,
            "fid_samples": distance.count,
            "class_counts": class_counts(classifier, fake),
        }

    def score(self, measured: dict[str, object]) -> float:
        """The negated FID, so that bigger is better."""
        return -float(str(measured["fid"]))

    def draw(self, generator: nn.Module) -> dict[str, Media]:
        """A grid of samples; the latents stay the same through the training."""
        fake = _sample(generator, NUM_DRAWN_IMAGES, self.latent_size, self.seed, "drawing")
        return {"samples": Image(image_grid(to_pixels(fake)))}

    def _feature_network(self) -> tuple[Classifier, ImageDistance]:
        if self._network is None:
            assert self.features is not None
            assert self.images.labels is not None
            pixels = torch.cat([self.images.train, self.images.held_out])
            classifier = self._make_classifier(self.features, pixels, self.images.labels)
            self._network = classifier, ImageDistance(self.images, classifier, self.samples)
        return self._network


Judge = MixtureJudge | ImageJudge


def _sample(generator: nn.Module, count: int, latent_size: int, seed: int, purpose: str) -> Tensor:
    """Samples on the CPU for latents that depend on nothing but the seed and the purpose."""
    random = torch.Generator().manual_seed(seed_for(seed, purpose))
    device = next(generator.parameters()).device
    return sample(generator, latents(count, latent_size, random, device))
