"""What a diagnosis knows of the players, in a run that goes on from a checkpoint too."""

import math

import pytest
import torch
from torch import nn

from core.diagnosis import Player, Sign
from core.gradients import GradientStep
from core.gradients.unit_health import UnitHealth
from core.run.diagnosis import Diagnosis, DiagnosisConfig


class Seen:
    """A rule that finds nothing and remembers the players that it was asked about."""

    def __init__(self) -> None:
        self.players: list[Player] = []

    def __call__(self, history, context) -> list[Sign]:
        self.players = list(context.players)
        return []


def made(weight: float, lr: float) -> tuple[Diagnosis, GradientStep, Seen]:
    """A diagnosis that has begun, of a player with four weights."""
    network, seen = nn.Linear(4, 1, bias=False), Seen()
    nn.init.constant_(network.weight, weight)
    step = GradientStep(network, torch.optim.SGD(network.parameters(), lr=lr))
    diagnosis = Diagnosis(DiagnosisConfig(unit_health=UnitHealth()), "report", {})
    diagnosis.begin("steps", 100, [step], None, rules=[seen])
    return diagnosis, step, seen


def test_a_resumed_diagnosis_knows_rate_batch_and_first_length_of_a_player():
    diagnosis, step, seen = made(weight=2.0, lr=0.25)
    (network,) = step.parameters
    step(lambda: (network.sum(), {}), samples=16)
    diagnosis.update(1)
    (whole,) = seen.players
    assert (whole.lr, whole.batch, whole.initial_norm) == (0.25, 16, pytest.approx(math.sqrt(4 * 2.0**2)))
    resumed, its_step, its_seen = made(weight=9.0, lr=0.01)  # as where lr=auto stands for another one
    its_step.load_state_dict(step.state_dict())
    resumed.load_state_dict(diagnosis.state_dict())
    resumed.update(2)  # no gradient has been taken yet
    assert its_seen.players == [whole]
