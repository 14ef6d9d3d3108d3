"""`gradgan.evaluation.metrics` and its parts: samples made by hand, known Gaussians, slow loops."""

import math
from statistics import mean

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from gradgan.data.mixtures import Grid, Ring
from gradgan.evaluation import manifold
from gradgan.evaluation.distances import FeatureDistances
from gradgan.evaluation.manifold import Manifold, radii
from gradgan.evaluation.metrics import NAMES, ImageMetrics, inception_score, mixture_metrics, reverse_kl
from gradgan.features import FeatureNetwork
from gradgan.images import Images

SQUARE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


CPU = torch.device("cpu")


class Pixels(FeatureNetwork):
    """The features of an image are its pixels, divided by 255."""

    num_features = 4

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1).float() / 255


class Brightness(Pixels):
    """Says by its first pixel whether an image is of class 0, 1 or 2; class 3 never comes."""

    shares = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64)

    def logits(self, features: Tensor) -> Tensor:
        return 1000.0 * torch.nn.functional.one_hot((features[:, 0] * 2.99).long(), 4).float()


def points(count: int, num_features: int, seed: int, mean: float = 0.0, std: float = 1.0) -> Tensor:
    return mean + std * torch.randn(count, num_features, generator=torch.Generator().manual_seed(seed))


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


def test_samples_that_are_not_finite_belong_to_no_centre() -> None:
    """To the nearest, a NaN would belong to the first: half of the samples there, and all modes missing."""
    lost = torch.tensor([[math.nan, 0.0], [math.inf, 1.0], [0.0, -math.inf], [math.nan, math.nan]])
    found = mixture_metrics(torch.cat([SQUARE, lost]), SQUARE, 0.1)
    assert found["reverse_kl"] == pytest.approx(0.0, abs=1e-12)
    assert (found["high_quality"], found["samples_not_finite"]) == (0.5, 4)
    assert math.isnan(mixture_metrics(lost, SQUARE, 0.1)["reverse_kl"])
    assert "samples_not_finite" not in mixture_metrics(SQUARE, SQUARE, 0.1)


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
    return points(count, 4, seed, mean, std).reshape(-1, 1, 2, 2).round().clamp(0, 255).to(torch.uint8)


def images(count: int, held_out: int | None = None) -> Images:
    other = gaussian_images(held_out or count, 100, 20, 1)
    return Images(train=gaussian_images(count, 100, 20, 0), held_out=other, labels=None)


def test_reverse_kl_is_its_definition_and_forgives_classes_that_are_not_wanted_and_not_there() -> None:
    counts, shares = torch.tensor([3, 1, 0, 0]), torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64)
    assert reverse_kl(counts, shares) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(1.0))
    assert reverse_kl(torch.tensor([2, 1, 1, 0]), shares) == 0.0
    assert reverse_kl(torch.tensor([2, 1, 1, 1]), shares) == math.inf
    uniform = torch.full((1000,), 1e-3, dtype=torch.float64)
    assert reverse_kl(torch.eye(1000)[0].long() * 7, uniform) == pytest.approx(math.log(1000))


def test_reverse_kl_of_a_perfect_sampler_is_what_its_docstring_expects() -> None:
    uniform = torch.full((100,), 0.01, dtype=torch.float64)
    drawn = torch.randint(100, (20_000,), generator=torch.Generator().manual_seed(0))
    assert reverse_kl(torch.bincount(drawn), uniform) == pytest.approx(99 / 40_000, rel=0.3)


def test_the_inception_score_goes_from_one_to_the_number_of_classes() -> None:
    sure = 1000.0 * torch.eye(5).repeat(3, 1)
    assert inception_score(sure) == pytest.approx(5.0)
    assert inception_score(sure[:1].repeat(9, 1)) == pytest.approx(1.0)
    assert inception_score(torch.zeros(9, 5)) == pytest.approx(1.0)
    assert inception_score(
        torch.full((1, 5), -math.inf).index_fill(1, torch.tensor(2), 0.0)
    ) == pytest.approx(1)


def test_the_inception_score_is_its_definition() -> None:
    logits = points(40, 6, 0).double()
    p = logits.softmax(dim=1)
    divergences = [sum(q * math.log(q / m) for q, m in zip(row, p.mean(dim=0), strict=True)) for row in p]
    assert inception_score(logits) == pytest.approx(math.exp(sum(divergences) / 40))


def test_fid_of_two_gaussians_is_the_closed_form() -> None:
    """|mean difference|^2 + sum (s1 - s2)^2 for independent features, in units of 255."""
    data = images(20_000)
    distances = FeatureDistances(Pixels()(data.held_out))
    found = distances(Pixels()(gaussian_images(20_000, 120, 30, 2)))
    assert found["fid"] == pytest.approx(4 * (20**2 + 10**2) / 255**2, rel=0.03)
    floor = distances(Pixels()(data.train))
    assert 0 < floor["fid"] < 1e-4
    assert abs(floor["kid"]) < 1e-3 < found["kid"]


@pytest.mark.parametrize("count", [200, 6])
def test_fid_agrees_with_the_matrix_root_in_float64_also_where_covariances_have_no_full_rank(
    count: int,
) -> None:
    mixing = points(8, 8, 5)
    real, fake = points(count, 8, 0) @ mixing, points(count, 8, 1, 0.3, 1.5)
    found = FeatureDistances(real)(fake)["fid"]
    x, y = real.double().numpy(), fake.double().numpy()
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    # Tr (S_1 S_2)^(1/2) = Tr (R S_2 R)^(1/2) with R = S_1^(1/2), whose argument is symmetric.
    values, vectors = scipy.linalg.eigh(first)
    root = vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    trace = np.sqrt(scipy.linalg.eigvalsh(root @ second @ root).clip(min=0)).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * trace
    assert found == pytest.approx(expected, rel=1e-5)
    if count > 8:
        trace = np.trace(scipy.linalg.sqrtm(first @ second).real)
        expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * trace
        assert found == pytest.approx(expected, rel=1e-6)


def test_kid_agrees_with_a_slow_unbiased_estimate() -> None:
    x, y = points(30, 4, 0), points(30, 4, 1, 0.5, 1.5)

    def kernel(a: Tensor, b: Tensor) -> float:
        return (float(a.double() @ b.double()) / 4 + 1) ** 3

    pairs = [(i, j) for i in range(30) for j in range(30)]
    within = [kernel(s[i], s[j]) for s in (x, y) for i, j in pairs if i != j]
    across = [kernel(x[i], y[j]) for i, j in pairs]
    expected = sum(within) / (30 * 29) - 2 * sum(across) / 30**2
    assert FeatureDistances(x)(y)["kid"] == pytest.approx(expected, rel=1e-5)


def slow(real: Tensor, fake: Tensor) -> dict[str, float]:
    """The four shares by the words of their definitions, one pair at a time."""

    def ball(points: Tensor, i: int, k: int) -> float:
        return sorted(math.dist(points[i], other) for j, other in enumerate(points) if j != i)[k - 1]

    real_3, real_5 = ([ball(real, i, k) for i in range(len(real))] for k in (3, 5))
    fake_3 = [ball(fake, j, 3) for j in range(len(fake))]
    distance = [[math.dist(x, y) for y in fake] for x in real]
    rows, columns = range(len(real)), range(len(fake))
    return {
        "precision": mean([any(distance[i][j] <= real_3[i] for i in rows) for j in columns]),
        "recall": mean([any(distance[i][j] <= fake_3[j] for j in columns) for i in rows]),
        "density": sum(distance[i][j] <= real_5[i] for i in rows for j in columns) / (5 * len(fake)),
        "coverage": mean([any(distance[i][j] <= real_5[i] for j in columns) for i in rows]),
    }


@pytest.mark.parametrize("num_fake", [40, 25])
def test_precision_recall_density_and_coverage_agree_with_slow_loops(num_fake: int) -> None:
    real, fake = points(40, 3, 0).double(), points(num_fake, 3, 1, 0.6, 0.8).double()
    assert Manifold(real)(fake) == pytest.approx(slow(real, fake))


def test_sets_far_apart_share_nothing_and_a_copy_shares_all() -> None:
    real = points(50, 3, 0)
    assert Manifold(real)(real + 1000) == dict.fromkeys(manifold.NAMES, 0.0)
    same = Manifold(real)(real.clone())
    assert (same["precision"], same["recall"], same["coverage"]) == (1.0, 1.0, 1.0)
    # Around each of N real points lie itself and the five that make its radius.
    assert same["density"] == pytest.approx(6 / 5)


def test_a_generator_that_makes_one_real_image_over_and_over_is_precise_and_recalls_nothing() -> None:
    real = points(60, 3, 0)
    found = Manifold(real)(real[7:8].repeat(60, 1))
    assert found["precision"] == 1.0
    assert found["recall"] == pytest.approx(1 / 60)  # balls of radius 0 hold the copied image only
    nearest = torch.cdist(real, real[7:8]).squeeze(1)
    assert found["coverage"] == pytest.approx((nearest <= radii(real, (5,))[0] + 1e-6).double().mean().item())
    assert found["coverage"] == pytest.approx(0.15, abs=0.15)


def test_one_lost_mode_of_two_costs_recall_and_coverage_and_no_precision() -> None:
    left, right = points(100, 2, 0), points(100, 2, 1) + 100
    found = Manifold(torch.cat([left, right]))(torch.cat([points(100, 2, 2), points(100, 2, 3)]))
    assert found["precision"] == pytest.approx(1.0, abs=0.1)
    assert found["recall"] == pytest.approx(0.5, abs=0.05)
    assert found["coverage"] == pytest.approx(0.5, abs=0.05)


def test_another_sample_of_the_same_points_gets_what_the_docstring_expects() -> None:
    found = [Manifold(points(300, 5, 2 * seed))(points(300, 5, 2 * seed + 1)) for seed in range(10)]
    coverage = 1 - math.prod((300 - j) / (600 - j) for j in range(1, 6))
    assert np.mean([f["density"] for f in found]) == pytest.approx(1.0, abs=0.03)
    assert np.mean([f["coverage"] for f in found]) == pytest.approx(coverage, abs=0.01)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = points(50, 3, 0), points(43, 3, 1, 0.5)
    whole, whole_radii = Manifold(real)(fake), radii(real, (1, 4))
    monkeypatch.setattr(manifold, "CHUNK", 7)
    assert Manifold(real)(fake) == whole
    for part, expected in zip(radii(real, (1, 4)), whole_radii, strict=True):
        torch.testing.assert_close(part, expected)


def test_nearest_neighbours_of_copies_are_the_copies() -> None:
    twice = points(20, 64, 0).repeat(2, 1).double() + 30.0  # far from the origin, where inner products cancel
    first, second = radii(twice, (1, 2))
    assert first.max() < 1e-4 * second.min()


def test_too_few_images_for_neighbours_are_not_measured() -> None:
    assert Manifold(points(5, 3, 0))(points(9, 3, 1)) == dict.fromkeys(manifold.NAMES)
    assert Manifold(points(9, 3, 0))(points(5, 3, 1)) == dict.fromkeys(manifold.NAMES)
    assert None not in Manifold(points(6, 3, 0))(points(6, 3, 1)).values()


def test_both_sides_have_the_same_number_of_images() -> None:
    assert ImageMetrics(images(50, 30), Pixels(), 1000, CPU).count == 30
    assert ImageMetrics(images(50, 30), Pixels(), 20, CPU).count == 20


def test_the_floor_is_what_training_images_get() -> None:
    data = images(40)
    metrics = ImageMetrics(data, Brightness(), 40, CPU)
    found, _ = metrics(data.train)
    assert set(metrics.floor) == {f"{name}_floor" for name in NAMES}
    assert metrics.floor == {f"{name}_floor": value for name, value in found.items()}
    assert None not in metrics.floor.values()


def test_measuring_twice_gives_the_same_numbers_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    metrics = ImageMetrics(images(50), Pixels(), 50, CPU)
    fake = gaussian_images(50, 120, 30, 2)
    assert metrics(fake) == metrics(fake)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_needs_classes_is_none_without_them() -> None:
    found, counts = ImageMetrics(images(50), Pixels(), 50, CPU)(gaussian_images(50, 120, 30, 2))
    assert counts is None
    assert [name for name, value in found.items() if value is None] == [
        "inception_score",
        "modes",
        "reverse_kl",
    ]


def test_classes_are_counted_among_all_images_and_compared_among_those_that_are_measured() -> None:
    levels = torch.tensor([10, 10, 10, 200, 10, 250], dtype=torch.uint8).repeat_interleave(5)
    fake = gaussian_images(30, 100, 20, 2)
    fake[:, 0, 0, 0] = levels
    found, counts = ImageMetrics(images(20), Brightness(), 20, CPU)(fake)
    assert counts == [20, 0, 10, 0]  # of all 30
    assert found["modes"] == 2  # of the first 20: 15 of class 0 and 5 of class 2
    assert found["reverse_kl"] == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(1.0))
    assert found["inception_score"] == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))
