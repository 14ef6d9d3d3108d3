"""The numbers of a game with one parameter each, D(x) = psi x and all samples at theta, in closed form."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from core.optim.schemes.schemes import Alternating
from gradgan.batch import Batch
from gradgan.game.game import Game
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.measurements.measurements import Measurements, MeasurementsConfig
from tests.gradgan.playing import Point, Slope, make_trainer

THETA, PSI = 0.5, 2.0
REAL, HELD_OUT = [1.0, 2.0, 3.0, 4.0], [1.5, 2.5, 1.0, 3.0]


def measured(generator: nn.Module) -> dict[str, float]:
    cfg = MeasurementsConfig(samples=4, vector_field_samples=4, eigenvalues=0, path_points=0)
    trainer = make_trainer((generator, Slope(PSI)), Game(loss=NonSaturating()), Alternating())
    real, held_out = (Batch(torch.tensor(x, dtype=torch.float64)[:, None], None) for x in (REAL, HELD_OUT))
    return Measurements(cfg, trainer, real, held_out, seed=0).measure()


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_discriminators_numbers() -> None:
    values = measured(Point(THETA))
    assert values["game/logit_gap"] == pytest.approx(PSI * (2.5 - THETA))
    # Of the gap between data and samples, what lies between data and held-out data.
    assert values["game/overfitting"] == pytest.approx((2.5 - 2.0) / (2.5 - THETA))
    assert values["game/logit_gradient"] == pytest.approx(sigmoid(-PSI * THETA))
    assert values["game/sample_gradient"] == pytest.approx(PSI * sigmoid(-PSI * THETA))


def test_the_ratio_of_the_players_gradients() -> None:
    of_generator = -PSI * sigmoid(-PSI * THETA)
    of_discriminator = sum(-x * sigmoid(-PSI * x) for x in REAL) / 4 + THETA * sigmoid(PSI * THETA)
    ratio = measured(Point(THETA))["game/gradient_ratio"]
    assert ratio == pytest.approx(abs(of_generator / of_discriminator))


def test_samples_at_one_point_have_no_diversity_and_a_known_energy_distance() -> None:
    values = measured(Point(THETA))
    assert values["game/diversity"] == 0.0
    within = sum(abs(a - b) for a, b in itertools.combinations(REAL, 2)) / 6
    assert values["game/energy_distance"] == pytest.approx(1 - within / (2 * (2.5 - THETA)))


class Spread(nn.Module):
    """Four samples, three apart from one another, that can be moved together."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.shift + 3 * torch.arange(len(z), dtype=torch.float64)[:, None]


def test_samples_three_times_as_far_apart_as_the_data_have_a_diversity_of_three() -> None:
    values = measured(Spread())
    assert values["game/diversity"] == pytest.approx(3.0)
    samples = [0.0, 3.0, 6.0, 9.0]
    between = sum(abs(a - b) for a, b in itertools.product(REAL, samples)) / 16
    within = sum(abs(a - b) for a, b in itertools.combinations(REAL, 2)) / 6
    assert values["game/energy_distance"] == pytest.approx(1 - (within + 3 * within) / (2 * between))
