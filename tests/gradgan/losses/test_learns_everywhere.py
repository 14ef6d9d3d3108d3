"""Which losses have a slope of the discriminator at every logit of a generated sample."""

from typing import ClassVar

import pytest
from torch import Tensor

from gradgan.losses import learns_everywhere
from gradgan.losses.hinge import Hinge
from gradgan.losses.wasserstein import Wasserstein
from scripts.suites.plants import LogOfZero
from tests.gradgan.losses.test_common_slope import LOSSES


class Clipped:
    """The Wasserstein loss of logits cut to [-8, 8]: flat on both sides."""

    generator_uses_real: ClassVar[bool] = False
    has_threshold: ClassVar[bool] = False

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return Wasserstein().discriminator(real_logits.clamp(-8, 8), fake_logits.clamp(-8, 8))

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return Wasserstein().generator(fake_logits.clamp(-8, 8))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_of_our_losses_only_hinge_is_flat(loss):
    assert learns_everywhere(loss()) == (loss is not Hinge)


def test_a_loss_of_ones_own_that_is_flat_somewhere_is_found():
    assert not learns_everywhere(Clipped())


def test_a_loss_that_counts_its_calls_is_left_as_it_was():
    loss = LogOfZero(at=1)
    learns_everywhere(loss)
    assert loss._seen == []
