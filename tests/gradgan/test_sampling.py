"""`gradgan.sampling`: pixels, grids and pictures of points."""

import numpy as np
import torch

from gradgan.data import Ring
from gradgan.sampling import GAP, image_grid, latents, sample, scatter, to_pixels

CPU = torch.device("cpu")


def test_images_become_pixels_by_rounding_and_cutting_off() -> None:
    images = torch.tensor([-5.0, -1.0, -0.996, 0.0, 1.0, 5.0])
    assert to_pixels(images).tolist() == [0, 0, 1, 128, 255, 255]


def test_pixels_survive_the_way_to_numbers_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_pixels(pixels.float() / 127.5 - 1.0), pixels)


def test_a_grid_shows_images_row_by_row_enlarged_by_copying() -> None:
    pixels = torch.arange(4, dtype=torch.uint8).reshape(4, 1, 1, 1).expand(4, 1, 8, 8) * 60
    grid = image_grid(pixels)
    factor = 320 // 16
    assert grid.shape == (2 * (8 * factor + GAP) + GAP,) * 2
    assert grid.dtype == np.uint8
    quarters = [
        grid[a : a + 8 * factor, b : b + 8 * factor]
        for a in (GAP, 8 * factor + 2 * GAP)
        for b in (GAP, 8 * factor + 2 * GAP)
    ]
    assert [np.unique(q).tolist() for q in quarters] == [[0], [60], [120], [180]]


def test_a_grid_of_colour_images_is_in_colour_and_need_not_be_full() -> None:
    grid = image_grid(torch.full((5, 3, 32, 32), 200, dtype=torch.uint8))
    assert grid.ndim == 3
    assert grid.shape[2] == 3
    assert grid.shape[0] < grid.shape[1]  # 5 images: 3 columns, 2 rows


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


def test_points_are_drawn_even_when_some_are_not_finite() -> None:
    points = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    points[3] = float("nan")
    points[4] = float("inf")
    picture = scatter(points, Ring(num_modes=8, radius=1.0, std=0.01))
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert (picture != 255).any()
