"""What a diagnosis knows of the players, in a run that goes on from a checkpoint too."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from core.diagnosis import Player, Sign
from core.gradients import GradientStep
from core.gradients.unit_health import UnitHealth
from core.run.attempts import Attempts
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


SIGN = Sign(name="loss_is_high", severity="warning", evidence={"loss": 3.0}, what="It is high.", cause="?")


@dataclasses.dataclass(frozen=True)
class High:
    """A rule of somebody's own; `fault` says what is wrong with it."""

    limit: float = 1.0
    fault: object = None

    def __call__(self, history, context):
        loss = history.now("loss")
        if isinstance(self.fault, Exception) and loss is not None:
            raise self.fault
        if loss is not None and loss > self.limit:
            yield SIGN if self.fault is None else self.fault


@dataclasses.dataclass(frozen=True)
class Nothing:
    def __call__(self, history, context):
        return None


def asked(*rules) -> tuple[Diagnosis, list[str]]:
    """A diagnosis with rules of a user's own beside one of the trainer's, and what it says."""
    step, said = made(1.0, 0.1)[1], []
    diagnosis = Diagnosis(DiagnosisConfig(unit_health=UnitHealth(), patience=1, rules=rules), "stop", {})
    other = dataclasses.replace(SIGN, name="other", severity="note")
    trainers = lambda history, context: iter([other])  # noqa: E731
    diagnosis.begin("steps", 100, [step], None, rules=[trainers], attempt=Attempts(said.append))
    return diagnosis, said


def test_rules_of_ones_own_are_asked_beside_those_of_the_trainer():
    diagnosis, said = asked(High(limit=2.0))
    diagnosis.observe(1, {"loss": 1.5})
    assert [f.name for f in diagnosis.update(1)] == ["other"]
    diagnosis.observe(2, {"loss": 3.0})
    (found,) = diagnosis.update(2)
    assert (found.name, found.first_step, found.evidence) == ("loss_is_high", 2, {"loss": 3.0})
    assert diagnosis.ends([found]) is found
    assert said == []


def of(**changed) -> Sign:
    return dataclasses.replace(SIGN, **changed)


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (High(fault=KeyError("x")), "tests.core.run.test_diagnosis.High raised KeyError: 'x' ("),
        (Nothing(), "tests.core.run.test_diagnosis.Nothing raised TypeError"),
        (High(fault="high"), "a rule must yield core.diagnosis.Sign, got str"),
        (High(fault=of(severity="bad")), "severity of loss_is_high must be one of"),
        (
            High(fault=of(evidence={"loss": "3"})),
            "evidence of loss_is_high must be numbers by label, got str",
        ),
        (
            High(fault=of(remedy="optimizer.lr=1")),
            "remedy, kinds and explains of loss_is_high must be tuples",
        ),
        (High(fault=of(name="a|b")), "name, player, layer, what and cause of a Sign must be text"),
        (High(fault=of(what=None)), "name, player, layer, what and cause of a Sign must be text"),
        (High(fault=of(patience="3")), "patience of loss_is_high must be an integer >= 1 or None, got '3'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_rule_of_ones_own_that_fails_ends_nothing_and_is_told_of_once(rule, line):
    diagnosis, said = asked(rule, High())
    for step in (1, 2):
        diagnosis.observe(step, {"loss": 3.0})
        diagnosis.update(step)
    assert {f.name for f in diagnosis.findings} == {"other", "loss_is_high"}
    (told,) = said
    assert told.startswith(f"left out, and the training goes on: diagnosis.rules.0: {line}")
