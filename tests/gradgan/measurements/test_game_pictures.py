"""`gradgan.measurements.game_pictures`: histograms of logits."""

import numpy as np
import pytest
import torch

from core.curvature.arnoldi import ComplexRitz
from gradgan.measurements.game_pictures import eigenvalue_picture, logit_histogram, path_picture
from gradgan.measurements.vector_field import Path
from tests.drawn import figure_of, require_legible, require_whole, texts


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


def test_every_word_of_the_pictures_can_be_read_and_lines_are_whole() -> None:
    random = torch.Generator().manual_seed(0)
    values = torch.randn(8, generator=random, dtype=torch.complex128)
    for scale in (1.0, 1e6):
        ritz = ComplexRitz(values * torch.tensor([scale] + 7 * [1.0]), torch.tensor([0.0, 9.0] * 4))
        require_legible(figure_of(eigenvalue_picture, ritz))
    path = Path(torch.linspace(0, 1.5, 9), torch.linspace(-1, 1, 9), torch.logspace(-3, 3, 9))
    made = figure_of(path_picture, path)
    require_legible(made)
    require_whole(made)


@pytest.mark.parametrize(
    ("threshold", "said"), [(True, "above 0 the sample is"), (False, "only differences")]
)
def test_what_a_logit_means_is_said_as_the_loss_has_it(threshold: bool, said: str) -> None:
    made = figure_of(logit_histogram, torch.randn(9), None, torch.randn(9), threshold=threshold)
    assert [text for text, *_ in texts(made) if said in text]
