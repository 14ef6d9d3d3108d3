"""Where the components of every layer's gradient lie among the powers of two."""

import numpy as np
import pytest
import torch
from PIL.ImageColor import getrgb

from core.draw.exponents import _cells, draw_exponents
from core.draw.layer_page import LONGEST
from core.draw.palette import LIGHT
from core.draw.viridis import viridis
from core.gradients.measure.exponents import BINS, LOWEST, ZERO
from tests.drawn import require_legible_pen

STEM = "generator.encoder.blocks.{}.attention.query.parametrizations.weight"


def spread(layers: int, low: int = -30, high: int = 2) -> torch.Tensor:
    """Counts of components between two powers of two, more of them 0 in every layer."""
    counts = torch.zeros(layers, BINS + 1, dtype=torch.int64)
    counts[:, low - LOWEST : high - LOWEST] = torch.arange(1, high - low + 1)
    counts[:, ZERO] = 40 * torch.arange(layers)
    return counts


def test_colours_are_the_roots_of_the_shares_and_nothing_has_that_of_the_page():
    found = _cells(LIGHT, np.array([[0.0, 0.01, 0.16, 0.64]]), 0.64)
    assert np.array_equal(found[0], [getrgb(LIGHT.page), *viridis(np.array([0.125, 0.5, 1.0]))])


@pytest.mark.parametrize(
    ("counts", "names"),
    [
        (spread(6), list("abcdef")),
        (spread(12, -40, 20), [STEM.format(i) for i in range(12)]),
        (spread(3, -2, -1), ["a", "b", "c"]),
        (torch.zeros(2, BINS + 1, dtype=torch.int64), ["a", "b"]),
        (torch.ones(300, BINS + 1, dtype=torch.int64), [STEM.format(i) for i in range(300)]),
    ],
)
def test_every_word_can_be_read_and_none_is_cut(counts, names):
    written = require_legible_pen(lambda: draw_exponents(counts, names, "critic"))
    assert "0" in written
    assert any(text.startswith("2") for text in written)
    assert max(len(text) for text in written if "…" in text or text in names) <= LONGEST


def test_float16_is_marked_where_its_limits_lie_within():
    both, one, none = (
        [text for text in require_legible_pen(lambda c=c: draw_exponents(c, ["a"])) if "below" in text]
        for c in (spread(1, -30, 2), spread(1, -20, 2), spread(1, -10, 2))
    )
    assert both == ["float16: rounded below 2⁻¹⁴", "0 below 2⁻²⁴"]
    assert one == both[:1]
    assert none == []


def test_a_power_stands_at_the_left_edge_of_its_bin():
    """Components of 2^-4 alone: their column begins at the number's tick."""
    counts = torch.zeros(3, BINS + 1, dtype=torch.int64)
    counts[:, -4 - LOWEST] = 1
    pixels = draw_exponents(counts, ["a", "b", "c"]).pixels
    bright = (pixels == viridis(np.array(1.0))).all(2)
    columns = np.flatnonzero(bright.sum(0) > 50)  # the key has fewer of them
    last = np.flatnonzero(bright.sum(1) > 50)[-1]
    ticks = np.flatnonzero((pixels[last + 4] == getrgb(LIGHT.faint)).all(1))
    assert np.abs(ticks - columns[0]).min() <= 1
    assert len(columns) > 0.2 * pixels.shape[1]
