"""`gradgan.judge`: what is measured of a generator that is known to be perfect, and of one that is not."""

import math

import pytest
import torch
from torch import Tensor, nn

from core.run.media import Image
from gradgan.data import Digits, Grid, Images, Ring
from gradgan.features import Classifier
from gradgan.judge import ImageJudge, MixtureJudge
from gradgan.sampling import GAP

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


def untrained(name: str, pixels: Tensor, labels: Tensor) -> Classifier:
    assert name == "digits_classifier"
    assert len(pixels) == len(labels) == 1797
    return Classifier((1, 8, 8), 10, torch.Generator().manual_seed(0)).eval().requires_grad_(False)


@pytest.mark.parametrize("mixture", [RING, Grid(side=5, spacing=2.0, std=0.05)])
def test_a_perfect_sampler_of_a_mixture_gets_full_marks(mixture: Ring | Grid) -> None:
    judge = MixtureJudge(mixture, latent_size=4, samples=2500, seed=1)
    found = judge.measure(Oracle(mixture))
    assert found["modes"] == len(mixture.centres)
    assert float(str(found["high_quality"])) == pytest.approx(0.989, abs=0.006)
    assert float(str(found["reverse_kl"])) < 0.01
    assert judge.score(found) == pytest.approx(0.98, abs=0.02)


def test_a_generator_is_measured_on_the_same_latents_every_time() -> None:
    judge = MixtureJudge(RING, latent_size=4, samples=100, seed=1)
    before = torch.get_rng_state()
    assert judge.measure(Oracle(RING)) == judge.measure(Oracle(RING))
    assert torch.equal(torch.get_rng_state(), before)
    other = MixtureJudge(RING, latent_size=4, samples=100, seed=2)
    assert judge.measure(Oracle(RING)) != other.measure(Oracle(RING))


def test_real_images_are_as_far_from_held_out_ones_as_the_floor_says() -> None:
    images = Digits(held_out=450).load()
    judge = ImageJudge("digits", images, latent_size=4, samples=450, seed=1, classifier=untrained)
    found = judge.measure(Replay(images.train))
    assert found["fid"] == pytest.approx(found["fid_floor"], rel=1e-6)
    assert found["kid"] == pytest.approx(found["kid_floor"], rel=1e-6)
    assert found["features"] == "digits_classifier"
    assert found["precision"] is None
    assert found["recall"] is None
    assert judge.score(found) == pytest.approx(-float(str(found["fid"])))


def test_all_samples_are_counted_by_class_even_where_fewer_are_compared() -> None:
    images = Digits(held_out=450).load()
    judge = ImageJudge("digits", images, latent_size=4, samples=1000, seed=1, classifier=untrained)
    found = judge.measure(Replay(images.train))
    assert found["fid_samples"] == 450
    counts = found["class_counts"]
    assert isinstance(counts, list)
    assert len(counts) == 10
    assert sum(counts) == 1000


def test_without_labels_nothing_is_measured_and_it_says_so_by_null() -> None:
    images = Images(train=torch.zeros(4, 1, 8, 8, dtype=torch.uint8), held_out=torch.empty(0), labels=None)
    judge = ImageJudge("folder", images, latent_size=4, samples=10, seed=1)
    found = judge.measure(Replay(images.train))
    assert set(found.values()) == {None}
    assert judge.headline == ()


def test_pictures_show_a_hundred_images_and_the_points() -> None:
    images = Digits(held_out=450).load()
    judge = ImageJudge("digits", images, latent_size=4, samples=10, seed=1, classifier=untrained)
    (picture,) = judge.draw(Replay(images.train)).values()
    assert isinstance(picture, Image)
    assert picture.pixels.shape == (10 * (32 + GAP) + GAP,) * 2  # 8 pixels, four times, and a gap
    (picture,) = MixtureJudge(RING, latent_size=4, samples=10, seed=1).draw(Oracle(RING)).values()
    assert isinstance(picture, Image)
    assert picture.pixels.shape == (450, 900, 3)
