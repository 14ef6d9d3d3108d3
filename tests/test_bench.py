"""bench: which options a suite has, its summary, and one short run."""

import importlib
import sys

import pytest

from scripts.suites import rl
from tests.conftest import Command, assert_refused


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["suite=vae"],
            "suite must be one of gradients, rl, gan, diagnosis, elsewhere, real_faults, got 'vae'",
        ),
        (["suite=rl", "models=[5k]"], "models must be left out: suite=rl does not use it, got ['5k']"),
        (["total_steps=600"], "total_steps must be left out: suite=gradients does not use it, got 600"),
        (["suite=rl", "total_steps=100"], "total_steps must be an integer >= 512 or null, got 100"),
        (["rounds=2"], "rounds must be an integer >= 3 or null, got 2"),
        (["models=[6k]"], "models must be some of 5k, 90k, 1M, resnet18, got '6k'"),
    ],
)
def test_an_option_that_cannot_be_is_refused(command: Command, overrides, message):
    assert_refused(command("bench", *overrides), message)


def test_the_summary_has_medians_quartiles_and_the_ratio_of_the_pairs():
    speeds = {"gradrl": [30.0, 10.0, 20.0], "stable-baselines3": [10.0, 5.0, 5.0]}
    rounds = [{name: rl.Result(column[i], 400.0 + i) for name, column in speeds.items()} for i in range(3)]
    lines = rl.summary(rounds)
    assert [line.split()[0] for line in lines[1:]] == ["gradrl", "stable-baselines3", "gradrl"]
    assert "20 [15, 25]" in lines[1]
    assert "401 [400, 402]" in lines[1]
    assert "3.00 [2.50, 3.50]" in lines[3]
    assert len(rl.summary([{"gradrl": round_["gradrl"]} for round_ in rounds])) == 2


@pytest.mark.slow
def test_without_stable_baselines3_our_figure_stands_alone(command: Command, monkeypatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)  # as if it were not installed
    suite = importlib.import_module("core.scripts.suites.rl")
    monkeypatch.setattr(suite, "OVERRIDES", [*suite.OVERRIDES, "evaluation.episodes=2"])
    outcome = command("bench", "suite=rl", "rounds=3", "total_steps=512")
    assert outcome.status == 0
    assert "stable-baselines3 is not installed" in outcome.out
    assert outcome.out.count("steps/s") == 3
    assert "ratio" not in outcome.out
    assert outcome.made == []
