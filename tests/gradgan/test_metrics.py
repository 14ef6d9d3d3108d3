"""`gradgan.metrics`: samples made by hand, and Gaussians whose distance is known."""

import math

import pytest
import torch
from torch import Tensor, nn

from gradgan.data import Grid, Images, Ring
from gradgan.features import Classifier
from gradgan.metrics import ImageDistance, class_counts, mixture_metrics

SQUARE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


class Pixels(nn.Module):
    """The features of an image are its pixels, divided by 255."""

    num_features = 4

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1).float() / 255


def test_samples_made_by_hand_are_counted_by_hand() -> None:
    std = 0.1
    samples = torch.tensor([[0.0, 0.0], [0.2, 0.0], [1.0, 0.29], [1.0, 0.31], [0.5, 1.4], [9.0, 9.0]])
    # nearest centres: 0, 0, 1, 1, 2 or 3 (a tie, to the first), 3; within 0.3: the first three
    found = mixture_metrics(samples, SQUARE, std)
    share = [2 / 6, 2 / 6, 1 / 6, 1 / 6]
    assert found["modes"] == 2
    assert found["high_quality"] == pytest.approx(3 / 6)
    assert found["reverse_kl"] == pytest.approx(sum(p * math.log(4 * p) for p in share))


def test_one_sample_near_a_centre_makes_a_mode() -> None:
    samples = torch.cat([SQUARE[:1].repeat(99, 1), SQUARE[3:]])
    assert mixture_metrics(samples, SQUARE, 0.1)["modes"] == 2


def test_reverse_kl_is_zero_for_equal_shares_and_log_k_for_one_mode() -> None:
    assert mixture_metrics(SQUARE.repeat(5, 1), SQUARE, 0.1)["reverse_kl"] == pytest.approx(0.0, abs=1e-12)
    assert mixture_metrics(SQUARE[:1].repeat(5, 1), SQUARE, 0.1)["reverse_kl"] == pytest.approx(math.log(4))


def test_samples_that_are_not_finite_are_of_no_quality() -> None:
    found = mixture_metrics(torch.tensor([[float("nan"), 0.0], [0.0, 0.0]]), SQUARE, 0.1)
    assert found["high_quality"] == 0.5


@pytest.mark.parametrize(
    "mixture", [Ring(num_modes=8, radius=1.0, std=0.01), Grid(side=5, spacing=2.0, std=0.05)]
)
def test_the_mixture_itself_reaches_what_a_perfect_sampler_can(mixture: Ring | Grid) -> None:
    random = torch.Generator().manual_seed(0)
    centres = mixture.centres
    mode = torch.randint(len(centres), (50_000,), generator=random)
    samples = centres[mode] + mixture.std * torch.randn(50_000, 2, generator=random)
    found = mixture_metrics(samples, centres, mixture.std)
    assert found["modes"] == len(centres)
    assert found["high_quality"] == pytest.approx(1 - math.exp(-4.5), abs=0.002)
    assert found["reverse_kl"] == pytest.approx((len(centres) - 1) / 100_000, rel=0.8)


def gaussian_images(count: int, mean: float, std: float, seed: int) -> Tensor:
    noise = torch.randn(count, 1, 2, 2, generator=torch.Generator().manual_seed(seed))
    return (mean + std * noise).round().clamp(0, 255).to(torch.uint8)


def test_fid_of_two_gaussians_is_the_closed_form() -> None:
    """|mean difference|^2 + sum (s1 - s2)^2 for independent features, in units of 255."""
    images = Images(
        train=gaussian_images(20_000, 100, 20, 0), held_out=gaussian_images(20_000, 100, 20, 1), labels=None
    )
    distance = ImageDistance(images, Pixels(), 20_000)
    found = distance(gaussian_images(20_000, 120, 30, 2))
    assert found["fid"] == pytest.approx(4 * (20**2 + 10**2) / 255**2, rel=0.03)
    assert 0 < distance.floor["fid_floor"] < 1e-4
    assert abs(distance.floor["kid_floor"]) < 1e-3 < found["kid"]


def test_kid_agrees_with_its_definition_in_float64() -> None:
    real, fake = gaussian_images(60, 100, 20, 1), gaussian_images(60, 120, 30, 2)
    images = Images(train=gaussian_images(60, 100, 20, 0), held_out=real, labels=None)
    x, y = (Pixels()(images).double() for images in (real, fake))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / 4 + 1) ** 3

    off = ~torch.eye(60, dtype=torch.bool)
    expected = kernel(x, x)[off].mean() + kernel(y, y)[off].mean() - 2 * kernel(x, y).mean()
    assert ImageDistance(images, Pixels(), 60)(fake)["kid"] == pytest.approx(expected.item(), abs=1e-6)


def test_both_sides_have_the_same_number_of_images() -> None:
    images = Images(
        train=gaussian_images(50, 100, 20, 0), held_out=gaussian_images(30, 100, 20, 1), labels=None
    )
    assert ImageDistance(images, Pixels(), 1000).count == 30
    assert ImageDistance(images, Pixels(), 20).count == 20


def test_measuring_twice_gives_the_same_numbers_and_leaves_the_global_generator_alone() -> None:
    images = Images(
        train=gaussian_images(50, 100, 20, 0), held_out=gaussian_images(50, 100, 20, 1), labels=None
    )
    distance = ImageDistance(images, Pixels(), 50)
    fake = gaussian_images(50, 120, 30, 2)
    before = torch.get_rng_state()
    assert distance(fake) == distance(fake)
    assert torch.equal(torch.get_rng_state(), before)


def test_class_counts_have_a_place_for_classes_that_are_missing() -> None:
    class Brightness(Classifier):
        def classify(self, pixels: Tensor) -> Tensor:
            return (pixels.flatten(1)[:, 0] > 127).long() * 2

    pixels = torch.tensor([0, 10, 200], dtype=torch.uint8).reshape(3, 1, 1, 1)
    classifier = Brightness((1, 8, 8), 4, torch.Generator().manual_seed(0))
    assert class_counts(classifier, pixels) == [2, 0, 1, 0]
