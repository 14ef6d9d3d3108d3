"""Players are opponents: what raises the logits of samples lowers one loss and raises the other."""

import pytest

from gradgan.losses import common_slope
from gradgan.losses.hinge import Hinge
from gradgan.losses.least_squares import LeastSquares
from gradgan.losses.minimax import Minimax
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.losses.relativistic import Relativistic
from gradgan.losses.relativistic_average import RelativisticAverage
from gradgan.losses.wasserstein import Wasserstein
from scripts.suites.mistakes import HelpsTheOther, PushedAway, Swapped, SwappedHinge
from scripts.suites.plants import LogOfZero

LOSSES = (Hinge, LeastSquares, Minimax, NonSaturating, Relativistic, RelativisticAverage, Wasserstein)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_the_players_of_every_loss_are_opponents(loss):
    assert common_slope(loss()) == 0.0


@pytest.mark.parametrize(
    ("loss", "slope"), [(PushedAway, -1.0), (HelpsTheOther, -1.0), (Swapped, 1.0), (SwappedHinge, 1.0)]
)
def test_a_sign_that_is_turned_and_labels_that_are_exchanged_make_partners_of_them(loss, slope):
    assert common_slope(loss()) == slope


def test_a_loss_that_counts_its_calls_is_left_as_it_was():
    loss = LogOfZero(at=1)
    common_slope(loss)
    assert loss._seen == []
