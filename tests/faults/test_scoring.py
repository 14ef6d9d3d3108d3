"""suite=diagnosis: how a run is scored, and what counts as named, repaired and quiet."""

import pytest

from core.cli.job import check
from core.cli.launch import compose_tree
from core.config import config_dir
from scripts.suites.diagnosis import Outcome, Verdict, as_bad, first, regained, score, summary
from scripts.suites.faults import FAULTS, HEALTHY, SEEDS, SETTINGS, Fault
from tests.thinned import thinned


def finding(name: str, step: int, severity: str = "warning") -> dict:
    return {"name": name, "first_step": step, "severity": severity, "active": True, "remedy": []}


def verdict(fault: str = "f", named: str | None = "x", restored: float | None = 0.9, gone: bool = True):
    return Verdict(
        fault=fault, seed=1, named=named, at=0.1, others=(), remedy=(), gone=gone, restored=restored
    )


def test_there_are_as_many_faults_and_healthy_runs_as_are_promised():
    assert len(FAULTS) >= 24
    assert len(HEALTHY) >= 24
    assert len(SEEDS) == 3


@pytest.mark.parametrize("name", thinned(sorted(FAULTS)))
def test_every_fault_is_a_configuration_that_can_run(name):
    fault = FAULTS[name]
    setting = SETTINGS[fault.setting]
    tree, _, _ = compose_tree(setting.kind, [*setting.overrides, *fault.overrides], [config_dir()])
    check(tree)


@pytest.mark.parametrize("name", thinned(sorted(HEALTHY)))
def test_every_healthy_run_is_a_configuration_that_can_run(name):
    tree, _, _ = compose_tree(HEALTHY[name].kind, list(HEALTHY[name].overrides), [config_dir()])
    check(tree)


def test_a_fault_is_named_by_the_earliest_right_finding_within_a_fifth_of_the_run():
    fault = Fault(setting="ppo", overrides=(), finding=("a", "b"), onset=0.3)
    found = [finding("c", 0), finding("b", 500), finding("a", 450), finding("a", 501)]
    named = first(Outcome(score=None, total=1000, findings=tuple(found)), fault)
    assert named == finding("a", 450)
    late = Outcome(score=None, total=1000, findings=(finding("a", 501),))
    assert first(late, fault) is None


def test_a_score_is_regained_from_the_floor_upwards():
    assert regained(500.0, 400.0, 20.0) == pytest.approx(380 / 480)
    assert regained(-8.0, -12.0, -45.0) == pytest.approx(33 / 37)
    assert regained(None, 400.0, 20.0) is None
    assert regained(20.0, 400.0, 20.0) is None


def test_the_score_of_every_kind_of_run():
    done = {"status": "finished"}
    assert score("rl", {**done, "eval_return_mean": 3.0}) == 3.0
    assert score("gan", {**done, "modes": 6, "modes_floor": 8.0, "high_quality": 0.5}) == 0.375
    assert score("gan", {**done, "fid": 0.4, "fid_floor": 0.1}) == 0.25
    assert score("descend", {**done, "value": 1.0}) == 0.5
    assert score("rl", {"status": "failed"}) is None


def test_the_summary_counts_faults_remedies_and_alarms():
    verdicts = [
        verdict("a"),
        verdict("a", restored=0.79),
        verdict("b"),
        verdict("b", named=None, restored=None),
    ]
    lines = summary(verdicts, [(), ("saddle",), (), ()])
    assert lines[0] == "faults named: 3 of 4 (75%)"
    assert lines[1].startswith("remedies that work: 2 of 4 (50%); with every seed 0 of 2")
    assert lines[2] == "healthy runs with a warning: 1 of 4 (25%)"
    assert not verdict(gone=False).worked


@pytest.mark.parametrize(
    ("severity", "active", "holds"),
    [("warning", True, True), ("error", True, True), ("note", True, False), ("warning", False, False)],
)
def test_a_finding_is_gone_when_what_is_left_of_it_is_less_severe(severity, active, holds):
    left = finding("a", 0, severity) | {"active": active}
    assert as_bad(left, finding("a", 0)) is holds
    assert not as_bad(left, finding("b", 0))
