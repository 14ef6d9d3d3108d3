"""`gradgan.measurements.game_pictures`: histograms of logits."""

import numpy as np
import pytest
import torch

from gradgan.measurements.game_pictures import logit_histogram
from tests.drawn import figure_of, require_legible


@pytest.mark.parametrize("held_out", [None, torch.randn(50, generator=torch.Generator().manual_seed(1))])
def test_logits_are_drawn_with_and_without_held_out_ones(held_out: torch.Tensor | None) -> None:
    train = torch.randn(50, generator=torch.Generator().manual_seed(0))
    picture = logit_histogram(train, held_out, train - 2, threshold=True).pixels
    assert picture.dtype == np.uint8
    green = (picture.astype(int) - (0x00, 0x9E, 0x73)).__abs__().sum(axis=2) < 30
    assert green.any() == (held_out is not None)


@pytest.mark.parametrize("value", [0.0, 5.0, -3e8, float("nan"), float("inf")])
def test_logits_that_are_all_alike_or_not_finite_are_drawn_too(value: float) -> None:
    alike, other = torch.full((4,), value), torch.tensor([value, 1.0])
    for fake in (other, alike):
        require_legible(figure_of(logit_histogram, alike, alike, fake, threshold=True))
