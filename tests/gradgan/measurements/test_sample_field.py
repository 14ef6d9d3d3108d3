"""The field that generated points feel, in closed form, and its pictures."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.form import require_form
from core.optim.schemes.schemes import Alternating
from gradgan.batch import Batch
from gradgan.game.game import Game
from gradgan.losses import Loss
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.losses.wasserstein import Wasserstein
from gradgan.measurements.field_pictures import HOLD, draw_field, draw_field_video
from gradgan.measurements.sample_field import FRAMES, GRID, REACH, SampleField
from tests.drawn import figure_of, require_legible, texts
from tests.gradgan.playing import make_trainer

SLOPE = torch.tensor([3.0, -1.0])


class Shift(nn.Module):
    """Moves its latents by a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor([0.5, 0.0]))

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        return z + self.by


class Plane(nn.Module):
    """D(x) = slope . x"""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(SLOPE.clone())

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        return x @ self.slope


def field(loss: Loss) -> SampleField:
    trainer = make_trainer((Shift(), Plane()), Game(loss=loss), Alternating())
    random = torch.Generator().manual_seed(0)
    real = Batch(torch.tensor([[1.0, 0.0], [0.0, -2.0], [0.5, 0.5]]), None)
    return SampleField(trainer, real, torch.randn(3, 2, generator=random))


def test_points_are_pushed_down_the_gradient_of_their_own_loss() -> None:
    """L_i = softplus(-D(x_i)), so -dL_i/dx_i = sigmoid(-D(x_i)) slope."""
    made = field(NonSaturating())
    (moment,) = made.moments()
    torch.testing.assert_close(moment.points, made.z + torch.tensor([0.5, 0.0]))
    expected = torch.sigmoid(-(moment.points @ SLOPE))[:, None] * SLOPE
    torch.testing.assert_close(moment.push, expected)
    assert moment.updates == 0


def test_the_surface_is_the_discriminators_and_lies_the_right_way_round() -> None:
    made = field(NonSaturating())
    (moment,) = made.moments()
    assert float(made.line[-1]) == pytest.approx(REACH * 2.0)
    x, y = np.meshgrid(made.line.numpy(), made.line.numpy())
    np.testing.assert_allclose(moment.logits.numpy(), 3 * x - y, rtol=1e-4, atol=1e-5)
    assert moment.logits.shape == (GRID, GRID)


def test_where_only_differences_count_the_middle_between_real_and_generated_is_0() -> None:
    made = field(Wasserstein())
    (moment,) = made.moments()
    torch.testing.assert_close(moment.push, SLOPE.expand(3, 2))  # L_i = -D(x_i)
    middle = (made.real.x.mean(0) + moment.points.mean(0)) @ SLOPE / 2
    assert float(moment.logits[GRID // 2, GRID // 2]) == pytest.approx(-float(middle), abs=1e-5)


def test_moments_are_kept_once_thinned_and_continued() -> None:
    made, again = field(NonSaturating()), field(NonSaturating())
    made.record()
    assert len(made.moments()) == 1  # nothing has been updated
    for i in range(1, 3 * FRAMES):
        made.trainer.discriminator_updates = i
        made.record()
    updates = [moment.updates for moment in made.moments()]
    assert len(updates) <= FRAMES + 1
    assert (updates[0], updates[-1]) == (0, 3 * FRAMES - 1)
    require_form(made.state_dict(), again.state_form())
    again.load_state_dict(made.state_dict())
    assert [moment.updates for moment in again.moments()] == updates


def test_the_picture_can_be_read_and_counts_what_it_does_not_show() -> None:
    made = field(NonSaturating())
    with torch.no_grad():
        made.trainer.generator.by.add_(100.0)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    made.trainer.discriminator_updates = 1234
    made.record()
    drawn = figure_of(draw_field, made.moments(), made.line, made.real.x)
    require_legible(drawn)
    (title,) = [text for text, *_ in texts(drawn) if "updates" in text]
    assert title.startswith("1,234 updates, median gradient ")
    assert title.endswith("; 3 of 3 points outside")
    video = draw_field_video(made.moments(), made.line, made.real.x)
    assert len(video.frames) == 2 + HOLD
    assert video.dark is not None
    assert video.dark.shape == video.frames.shape
    assert (video.frames[0] != video.frames[1]).any()
    assert (video.frames[1] == video.frames[-1]).all()


def test_a_gradient_of_0_everywhere_is_drawn_without_arrows() -> None:
    made = field(NonSaturating())
    with torch.no_grad():
        made.trainer.discriminator.slope.zero_()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    made.trainer.discriminator_updates = 1
    made.record()
    (last,) = made.moments()[-1:]
    assert not last.push.any()
    assert math.isfinite(float(figure_of(draw_field, [last], made.line, made.real.x).bbox.width))
