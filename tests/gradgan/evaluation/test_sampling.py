"""`gradgan.evaluation.sampling`: latents, labels, paths between latents, pixels and their neighbours."""

import math

import pytest
import torch
from torch import Tensor, nn

from gradgan.evaluation import sampling
from gradgan.evaluation.sampling import even_labels, nearest, proportional_labels, sample, spherical
from gradgan.game.players import latents
from gradgan.images import to_pixels

CPU = torch.device("cpu")


def test_images_become_pixels_by_rounding_and_cutting_off() -> None:
    images = torch.tensor([-5.0, -1.0, -0.996, 0.0, 1.0, 5.0])
    assert to_pixels(images).tolist() == [0, 0, 1, 128, 255, 255]


def test_pixels_survive_the_way_to_numbers_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_pixels(pixels.float() / 127.5 - 1.0), pixels)


def test_samples_do_not_depend_on_how_they_are_batched() -> None:
    generator = torch.nn.Linear(3, 2)
    z = latents(1201, 3, torch.Generator().manual_seed(0), CPU)
    torch.testing.assert_close(sample(generator, z), generator(z).detach())
    assert not sample(generator, z).requires_grad


def test_latents_are_standard_normal_and_come_from_their_generator() -> None:
    before = torch.get_rng_state()
    one, two = (latents(20_000, 2, torch.Generator().manual_seed(0), CPU) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), before)
    assert one.mean().abs() < 0.02
    assert (one.std() - 1).abs() < 0.02


@pytest.mark.parametrize("truncation", [0.1, 0.5, 2.0, 50.0])
def test_truncated_latents_are_those_of_a_normal_distribution_cut_off(truncation: float) -> None:
    """Against those that are left when a normal distribution's are thrown away beyond the truncation."""
    z = latents(20_000, 2, torch.Generator().manual_seed(0), CPU, truncation=truncation)
    assert z.dtype == torch.float32
    assert z.abs().max() <= truncation
    density = math.exp(-(truncation**2) / 2) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * truncation * density / math.erf(truncation / math.sqrt(2))
    assert z.mean().item() == pytest.approx(0.0, abs=0.02 * math.sqrt(variance))
    assert z.var().item() == pytest.approx(variance, rel=0.03)
    thrown = torch.randn(400_000, generator=torch.Generator().manual_seed(1))
    kept = thrown[thrown.abs() <= truncation]
    for share in (0.1, 0.25, 0.9):
        scale = min(truncation, 1.0)
        assert z.quantile(share).item() == pytest.approx(kept.quantile(share).item(), abs=0.03 * scale)


def test_latents_without_truncation_are_torchs_own() -> None:
    expected = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(latents(5, 3, torch.Generator().manual_seed(0), CPU), expected)


def test_labels_are_even_and_shuffled() -> None:
    before = torch.get_rng_state()
    labels = even_labels(1003, 10, torch.Generator().manual_seed(0))
    assert sorted(torch.bincount(labels).tolist()) == [100] * 7 + [101] * 3
    assert labels[:10].tolist() != list(range(10))
    assert torch.equal(labels, even_labels(1003, 10, torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("counts", [[9, 1], [900, 100], [1, 0, 2], [333, 333, 334]])
@pytest.mark.parametrize("wanted", [1, 7, 1000])
def test_labels_have_the_shares_of_others_to_within_one(counts: list[int], wanted: int) -> None:
    like = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = proportional_labels(wanted, like[torch.randperm(len(like))], torch.Generator().manual_seed(0))
    exact = wanted * torch.tensor(counts) / sum(counts)
    found = torch.bincount(labels, minlength=len(counts))
    assert ((found - exact).abs() < 1).all()
    assert not found[torch.tensor(counts) == 0].any()
    again = proportional_labels(wanted, like, torch.Generator().manual_seed(0))
    assert torch.equal(labels, again)  # the order of the others does not matter
    if wanted == 1000:
        assert not torch.equal(labels, labels.sort().values)


def test_each_latent_goes_with_its_label_however_they_are_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sum(nn.Module):
        def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
            assert labels is not None
            return z[:, 0] + labels

    z, labels = latents(11, 3, torch.Generator().manual_seed(0), CPU), torch.arange(11)
    monkeypatch.setattr(sampling, "BATCH", 4)
    torch.testing.assert_close(sample(Sum(), z, labels), z[:, 0] + labels)


def test_the_way_between_latents_is_an_arc_at_constant_speed() -> None:
    start, end = (
        torch.tensor([[2.0, 0.0]], dtype=torch.float64),
        torch.tensor([[0.0, 2.0]], dtype=torch.float64),
    )
    (path,) = spherical(start, end, 4)
    angles = torch.arange(4, dtype=torch.float64) * math.pi / 6
    torch.testing.assert_close(path, 2 * torch.stack([angles.cos(), angles.sin()], dim=1))


def test_paths_begin_and_end_at_their_latents_and_keep_the_norm_of_normal_ones() -> None:
    start, end = latents(2 * 5, 100, torch.Generator().manual_seed(0), CPU).split(5)
    path = spherical(start, end, 9)
    torch.testing.assert_close(path[:, 0], start)
    torch.testing.assert_close(path[:, -1], end, atol=1e-5, rtol=1e-5)
    norms = path.norm(dim=2)
    assert (norms / 10).sub(1).abs().max() < 0.25
    assert norms[:, 4].min() > 1.2 * ((start + end) / 2).norm(dim=1).min()


@pytest.mark.parametrize("factor", [1.0, 3.0, -1.0])
def test_parallel_latents_are_joined_by_a_line_and_not_by_a_division_by_zero(factor: float) -> None:
    start = torch.tensor([[1.0, 2.0]])
    (path,) = spherical(start, factor * start, 3)
    torch.testing.assert_close(path[1], (1 + factor) / 2 * start[0], atol=1e-3, rtol=1e-3)


def test_nearest_images_are_found_across_chunks_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = torch.randint(256, (50, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = pool[[17, 3]].clone()
    images[:, 0, 0, 0] += 1
    distance = (images[:, None].double() - pool.double()).square().flatten(2).sum(dim=2)
    expected = distance.argsort(dim=1)[:, :5]
    monkeypatch.setattr(sampling, "CHUNK", 7)
    found = nearest(images, pool, 5)
    assert torch.equal(found, expected)
    assert found[:, 0].tolist() == [17, 3]
