"""`gradgan.evaluation.sample_pictures`: grids whose pixels are those of the images, and points."""

import numpy as np
import torch

from gradgan.data.mixtures import Ring
from gradgan.evaluation.sample_pictures import BREAK, GAP, GROUND, SIDE, image_grid, scatter, titled
from tests.drawn import figure_of, require_legible, texts


def test_a_grid_shows_images_row_by_row_enlarged_by_copying() -> None:
    pixels = torch.arange(4, dtype=torch.uint8).reshape(4, 1, 1, 1).expand(4, 1, 8, 8) * 60
    grid = image_grid(pixels)
    factor = SIDE // 16
    assert grid.shape == (*(2 * (8 * factor + GAP) + GAP,) * 2, 3)
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


def test_points_are_drawn_even_when_some_are_not_finite() -> None:
    points = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    points[3] = float("nan")
    points[4] = float("inf")
    picture = scatter(points, Ring(num_modes=8, radius=1.0, std=0.01).centres, 0.01).pixels
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert (picture != 255).any()


def test_a_grid_may_set_its_first_column_apart() -> None:
    pixels = torch.zeros(6, 1, 8, 8, dtype=torch.uint8)
    grid = image_grid(pixels, 3, group=1)
    wide = SIDE // 24 * 8
    assert grid.shape[1] == 3 * (wide + GAP) + GAP + BREAK
    light = (grid[GAP + 1] == GROUND).all(axis=1)
    assert light[GAP + wide : 2 * GAP + wide + BREAK].all()
    assert (~light).sum() == 3 * wide


def test_words_around_a_grid_leave_its_pixels_as_they_are() -> None:
    canvas = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    plain = titled(canvas, "a title")
    assert (plain[-120:, :200] == canvas).all()
    named = titled(
        canvas, "a title that is far too long for one line of this", rows=["0", "17"], headings=[(0.5, "x")]
    )
    assert named.shape[0] > plain.shape[0]
    assert (named[-120:, -200:] == canvas).all()
    assert (named[-120:, :-200] < 128).any()  # the names
    assert (named[:-120] < 128).any()  # the title


def test_points_that_are_not_shown_are_counted_and_every_word_can_be_read() -> None:
    points = torch.cat([torch.zeros(7, 2), torch.tensor([[50.0, 0.0], [0.0, -50.0]])])
    made = figure_of(scatter, points, torch.tensor([[0.0, 0.0], [1.0, 0.0]]), 0.5)
    require_legible(made)
    words = [text for text, *_ in texts(made)]
    assert "Crosses: true centres; 2 outside" in words
    assert "Offset from the nearest centre, in std; circle: 3; 2 outside" in words


def test_words_around_a_grid_of_many_pixels_grow_with_it() -> None:
    small, large = (np.zeros((side, side, 3), dtype=np.uint8) for side in (480, 1440))
    heights = [titled(canvas, "Samples").shape[0] - len(canvas) for canvas in (small, large)]
    assert heights[1] > 2 * heights[0]
