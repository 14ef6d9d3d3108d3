"""`gradgan.evaluation.evaluator`: what is measured of a perfect generator, and of one that is not."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.config import ConfigError
from core.draw.media import Image, encode
from gradgan.data.digits import Digits
from gradgan.data.mixtures import Grid, Ring
from gradgan.evaluation.evaluator import FixedLatents, ImageEvaluator, MixtureEvaluator
from gradgan.evaluation.metrics import NAMES
from gradgan.features import FeatureNetwork, Features
from gradgan.features.classifier import Classifier, ClassifierFeatures
from gradgan.images import Images, normalised

RING = Ring(num_modes=8, radius=1.0, std=0.01)


class Oracle(nn.Module):
    """Turns latents [N, 4] into samples of a mixture, in its own unit."""

    def __init__(self, mixture: Ring | Grid) -> None:
        super().__init__()
        self.mixture = mixture
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        centres = self.mixture.centres
        uniform = 0.5 * (1 + torch.erf(z[:, 0] / math.sqrt(2)))
        mode = (uniform * len(centres)).long().clamp(max=len(centres) - 1)
        return (centres[mode] + self.mixture.std * z[:, 2:]) / self.mixture.scale


class Replay(nn.Module):
    """Gives out real images in order, whatever the latents."""

    def __init__(self, pixels: Tensor) -> None:
        super().__init__()
        self.pixels = pixels
        self.given = 0
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        chosen = torch.arange(self.given, self.given + len(z)) % len(self.pixels)
        self.given += len(z)
        return self.pixels[chosen].float() / 127.5 - 1.0


class Conditional(nn.Module):
    """Grey levels that say the label and, in the lower half, the first latent; keeps what it was given."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.unused = nn.Parameter(torch.zeros(()))
        self.given: list[tuple[Tensor, Tensor | None]] = []

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        self.given.append((z, labels))
        level = (labels if labels is not None else torch.zeros(len(z))).float() / self.num_classes
        images = level.reshape(-1, 1, 1, 1).repeat(1, 1, 8, 8)
        images[:, :, 4:] = z[:, 0].tanh().reshape(-1, 1, 1, 1)
        return images


class Untrained:
    """An untrained classifier: quick, and as good as any where only the numbers' names matter."""

    needs_labels = True

    def __init__(self, reason: str | None = None) -> None:
        self.reason = reason
        self.made = 0

    def name_on(self, data_name: str) -> str:
        return f"{data_name}_classifier"

    def check(self, images: Images) -> None:
        if self.reason:
            raise ConfigError(self.reason)

    def make(self, images: Images, say: Callable[[str], None] = print) -> FeatureNetwork:
        self.made += 1
        network = Classifier((1, 8, 8), 10, torch.Generator().manual_seed(0)).eval().requires_grad_(False)
        network.shares = torch.full((10,), 0.1, dtype=torch.float64)
        return network


def image_evaluator(
    samples: int, images: Images | None = None, features: Features | None = None, **options: object
) -> ImageEvaluator:
    images = images or Digits(held_out=450).load()
    latents = FixedLatents(size=4, seed=1, **options)
    return ImageEvaluator("digits", images, latents, samples, features or Untrained())


def mixture_evaluator(
    mixture: Ring | Grid, samples: int, seed: int = 1, **options: object
) -> MixtureEvaluator:
    return mixture.evaluator(FixedLatents(size=4, seed=seed, **options), samples, Untrained())


@pytest.mark.parametrize("mixture", [RING, Grid(side=5, spacing=2.0, std=0.05)])
def test_a_perfect_sampler_of_a_mixture_gets_full_marks(mixture: Ring | Grid) -> None:
    evaluator = mixture_evaluator(mixture, 2500)
    found = evaluator.measure(Oracle(mixture))
    assert found["modes"] == len(mixture.centres)
    assert float(str(found["high_quality"])) == pytest.approx(0.989, abs=0.006)
    assert float(str(found["reverse_kl"])) < 0.01
    assert evaluator.score(found) == pytest.approx(0.98, abs=0.02)
    assert found["samples"] == 2500
    assert found["modes_floor"] == len(mixture.centres)
    assert float(str(found["high_quality_floor"])) == pytest.approx(0.989, abs=0.006)
    assert float(str(found["reverse_kl_floor"])) == pytest.approx((len(mixture.centres) - 1) / 5000, rel=0.8)


def test_a_mixtures_score_is_quality_less_the_divergence_from_even_modes() -> None:
    evaluator = mixture_evaluator(RING, 8)
    assert evaluator.score({"high_quality": 0.9, "reverse_kl": 0.25}) == pytest.approx(0.65)


def test_a_generator_is_measured_on_the_same_latents_every_time() -> None:
    evaluator = mixture_evaluator(RING, 100)
    before = torch.get_rng_state()
    assert evaluator.measure(Oracle(RING)) == evaluator.measure(Oracle(RING))
    assert torch.equal(torch.get_rng_state(), before)
    other = mixture_evaluator(RING, 100, seed=2)
    assert evaluator.measure(Oracle(RING)) != other.measure(Oracle(RING))


def test_real_images_get_what_the_floors_say() -> None:
    images = Digits(held_out=450).load()
    features = Untrained()
    evaluator = image_evaluator(450, images, features=features)
    found = evaluator.measure(Replay(images.train))
    for name in NAMES:
        assert found[name] == pytest.approx(found[f"{name}_floor"], rel=1e-6), name
    assert found["features"] == "digits_classifier"
    assert evaluator.score(found) == pytest.approx(-float(str(found["fid"])))
    evaluator.measure(Replay(images.train))
    assert features.made == 1


def test_all_samples_are_counted_by_class_even_where_fewer_are_compared() -> None:
    images = Digits(held_out=450).load()
    found = image_evaluator(1000, images).measure(Replay(images.train))
    assert found["fid_samples"] == 450
    counts = found["class_counts"]
    assert isinstance(counts, list)
    assert len(counts) == 10
    assert sum(counts) == 1000


def test_without_labels_nothing_is_measured_and_it_says_so_by_null() -> None:
    images = Images(
        train=torch.zeros(4, 1, 8, 8, dtype=torch.uint8),
        held_out=torch.empty(0, 1, 8, 8, dtype=torch.uint8),
        labels=None,
    )
    evaluator = image_evaluator(10, images, features=ClassifierFeatures())
    found = evaluator.measure(Replay(images.train))
    assert {"fid", "fid_floor", "features", "class_counts"} <= set(found)
    assert set(found.values()) == {None}
    assert evaluator.headline == ()


@pytest.mark.parametrize(
    ("train", "labelled", "why"),
    [
        (4, True, "has none held out, and at least 2 are needed"),
        (3, True, "has 1 held out, and at least 2 are needed"),
        (1, True, "has 1 to train on, and at least 2 are needed"),
        (2, False, "has no labels to train features on (features=mobilenet needs none)"),
    ],
)
def test_what_cannot_be_measured_says_why(train: int, labelled: bool, why: str) -> None:
    pixels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    labels = torch.zeros(4, dtype=torch.int64) if labelled else None
    images = Images(train=pixels[:train], held_out=pixels[train:], labels=labels)
    evaluator = image_evaluator(10, images, features=Untrained())
    assert (evaluator.unmeasured, evaluator.features, evaluator.headline) == (why, None, ())
    assert set(evaluator.measure(Conditional(10)).values()) == {None}


def test_features_that_cannot_be_made_are_refused_even_where_nothing_is_measured() -> None:
    pixels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    images = Images(train=pixels, held_out=pixels[4:], labels=torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ConfigError, match="no weights"):
        image_evaluator(10, images, features=Untrained("no weights"))


def test_features_that_cannot_be_made_are_refused_before_anything_is_measured() -> None:
    with pytest.raises(ConfigError, match="no weights"):
        image_evaluator(10, features=Untrained("no weights"))


def test_labels_are_drawn_as_in_the_data_and_alike_every_time() -> None:
    generator = Conditional(10)
    evaluator = image_evaluator(1000, num_classes=10)
    before = torch.get_rng_state()
    evaluator.measure(generator)
    first = [torch.cat(part) for part in zip(*generator.given, strict=True)]
    generator.given.clear()
    evaluator.measure(generator)
    second = [torch.cat(part) for part in zip(*generator.given, strict=True)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    shares = torch.bincount(Digits(held_out=450).load().train_labels) / 1347
    assert (torch.bincount(first[1]) - 1000 * shares).abs().max() < 1
    assert torch.bincount(first[1][:450]).min() > 25  # in random order, so that those compared are alike too


def test_a_perfect_conditional_generator_of_rare_classes_scores_like_real_data() -> None:
    """Nine of ten images are bright on the left, one on the right; the generator draws from the very same."""

    def draw(labels: Tensor, random: torch.Generator) -> Tensor:
        pixels = 60 * torch.rand(len(labels), 1, 8, 8, generator=random)
        pixels[labels == 0, :, :, :4] += 150
        pixels[labels == 1, :, :, 4:] += 150
        return pixels.to(torch.uint8)

    class Perfect(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.random = nn.Parameter(torch.zeros(1)), torch.Generator().manual_seed(2)

        def forward(self, z: Tensor, labels: Tensor) -> Tensor:
            return normalised(draw(labels, self.random))

    random = torch.Generator().manual_seed(1)
    labels = (torch.randperm(1200, generator=random) % 10 == 0).long()
    pixels = draw(labels, random)
    images = Images(train=pixels[:600], held_out=pixels[600:], labels=labels)
    found = image_evaluator(1000, images, num_classes=2).measure(Perfect())
    skewed = image_evaluator(1000, images, num_classes=2)
    skewed.latents = replace(skewed.latents, like=None)  # evenly over the classes
    even = skewed.measure(Perfect())
    fid, floor, other = (float(str(x)) for x in (found["fid"], found["fid_floor"], even["fid"]))
    assert fid < 3 * floor
    assert other > 20 * fid


def test_a_conditional_generator_of_points_gets_labels_too() -> None:
    class Labelled(Oracle):
        def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
            assert labels is not None
            return (RING.centres[labels] + RING.std * z[:, 2:]) / RING.scale

    found = mixture_evaluator(RING, 800, num_classes=8).measure(Labelled(RING))
    assert found["modes"] == 8
    assert found["reverse_kl"] == 0.0  # a hundred of each


def test_truncated_latents_reach_the_generator_when_it_is_measured_and_drawn() -> None:
    generator = Conditional(10)
    evaluator = image_evaluator(100, truncation=0.5)
    evaluator.measure(generator)
    evaluator.draw(generator)
    assert max(z.abs().max().item() for z, _ in generator.given) < 0.75  # an arc may leave the cube a little
    assert max(z.abs().max().item() for z, _ in generator.given[:1]) <= 0.5


def frames(picture: object) -> np.ndarray:
    assert isinstance(picture, Image)
    assert encode(picture)[1] == "png"
    return picture.pixels


def test_pictures_show_a_hundred_images_paths_and_neighbours_and_the_points() -> None:
    images = Digits(held_out=450).load()
    pictures = image_evaluator(10, images).draw(Replay(images.train))
    assert set(pictures) == {"samples", "interpolations", "neighbours"}
    for picture in pictures.values():
        pixels = frames(picture)
        assert pixels.ndim == 3
        assert 300 < pixels.shape[0] < 1200
        assert 300 < pixels.shape[1] < 1200
    (picture,) = mixture_evaluator(RING, 10).draw(Oracle(RING)).values()
    assert frames(picture).shape[1:] == (832, 3)  # as wide as every diagram


@pytest.mark.parametrize(("num_classes", "rows"), [(3, [0, 1, 2]), (1000, list(range(0, 1000, 50)))])
def test_a_conditional_generator_is_drawn_with_a_row_for_each_class(
    num_classes: int, rows: list[int]
) -> None:
    generator = Conditional(num_classes)
    image_evaluator(10, num_classes=num_classes).draw(generator)
    z, labels = generator.given[0]
    assert labels.reshape(-1, 10).T.tolist() == [rows] * 10
    assert torch.equal(z.reshape(len(rows), 10, 4), z[:10].expand(len(rows), 10, 4))
    _, labels = generator.given[1]
    assert all(len(set(row.tolist())) == 1 for row in labels.reshape(10, 10))  # a path keeps its class


def test_a_copied_training_image_stands_beside_itself() -> None:
    images = Digits(held_out=450).load()
    picture = frames(image_evaluator(10, images).draw(Replay(images.train))["neighbours"])
    factor = 7  # about 480 pixels for nine images of 8
    # From the bottom: a gap, then the last row; from the left: a gap, the sample, two gaps and a break.
    row = slice(picture.shape[0] - 4 - 8 * factor, picture.shape[0] - 4)
    sample = picture[row, 4 : 4 + 8 * factor]
    found = picture[row, 4 + 8 * factor + 4 + 20 :][:, : 8 * factor]
    assert (sample == found).all()
    assert sample.std() > 0
