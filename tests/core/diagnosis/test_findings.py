"""Findings written to a file and read from it again."""

import json
import math

import pytest

from core.config import ConfigError
from core.diagnosis import Finding, Ledger, Sign
from core.diagnosis.findings import returned
from core.report.read import read_findings

FINDING = Finding(
    name="vanishing_gradient", severity="warning", player="actor", layer="0.weight", first_step=100,
    last_step=300, active=True, evidence={"ratio": 1e-6}, what="It has vanished.", cause="Too many layers.",
    remedy=("optimizer.lr=0.001",),
)  # fmt: skip


def write(directory, *findings):
    text = json.dumps({"version": 1, "step": 300, "findings": list(findings)})
    (directory / "findings.json").write_text(text)


def test_what_is_written_is_what_is_read(tmp_path):
    write(tmp_path, FINDING.as_json())
    assert read_findings(tmp_path) == (FINDING,)


def test_a_number_that_is_not_finite_is_null_in_the_file_and_nan_again(tmp_path):
    entry = {
        **FINDING.as_json(),
        "evidence": Finding(**{**vars(FINDING), "evidence": {"norm": math.inf}}).as_json()["evidence"],
    }
    assert entry["evidence"] == {"norm": None}
    write(tmp_path, entry)
    [read] = read_findings(tmp_path) or []
    assert math.isnan(read.evidence["norm"])


def test_the_worst_come_first_then_those_that_still_hold_then_the_oldest(tmp_path):
    entries = [
        {"name": "a", "severity": "note", "first_step": 1, "active": True},
        {"name": "b", "severity": "error", "first_step": 9},
        {"name": "c", "severity": "error", "first_step": 8},
        {"name": "d", "severity": "error", "first_step": 10, "active": True},
        {"name": "e", "severity": "warning", "first_step": 2},
    ]
    write(tmp_path, *entries)
    assert [finding.name for finding in read_findings(tmp_path) or ()] == ["d", "c", "b", "e", "a"]


def test_no_file_or_an_empty_one_is_no_diagnosis(tmp_path):
    assert read_findings(tmp_path) is None
    (tmp_path / "findings.json").write_text("")
    assert read_findings(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"findings": [', "is damaged: Expecting value"),
        ("[]", "it holds no findings"),
        ('{"findings": [{"name": "x"}]}', "'severity' is missing"),
        ('{"findings": [{"name": "x", "severity": "bad", "first_step": 1}]}', "severity bad"),
    ],
)
def test_damaged_findings_are_one_clear_line(tmp_path, text, message):
    (tmp_path / "findings.json").write_text(text)
    with pytest.raises(ConfigError, match=r"findings\.json") as error:
        read_findings(tmp_path)
    assert message in str(error.value)


def sign(severity="warning", patience=None, layer=None):
    return Sign(
        name="x",
        severity=severity,
        evidence={},
        what="",
        cause="",
        player="d",
        layer=layer,
        patience=patience,
    )


def states(patience, seen, own=None):
    """Whether the finding is active after each point (None = there is none), and the steps it changed at."""
    ledger, found, changes = Ledger(patience), [], []
    for step, present in enumerate(seen, 1):
        if ledger.update(step, [sign(patience=own)] if present else []):
            changes.append(step)
        found.append(ledger.findings[0].active if ledger.findings else None)
    return found, changes


@pytest.mark.parametrize(
    ("patience", "seen", "active", "changes"),
    [
        (1, [1, 0, 1], [True, False, True], [1, 2, 3]),
        (3, [1, 1, 1, 0, 0, 0], [None, None, True, True, True, False], [3, 6]),
        (3, [1, 1, 0, 1, 1, 1], [None] * 5 + [True], [6]),
        (2, [1, 1, 0, 1, 0, 0], [None, True, True, True, True, False], [2, 6]),
    ],
)
def test_a_finding_opens_and_closes_after_as_many_points_in_a_row(patience, seen, active, changes):
    assert states(patience, seen) == (active, changes)


def test_a_sign_may_have_a_patience_of_its_own_to_open_but_not_to_close():
    assert states(3, [1, 0, 0, 0], own=1) == ([True, True, True, False], [1, 4])


def test_a_finding_begins_with_the_first_point_of_its_row():
    ledger = Ledger(2)
    for step, signs in ((10, [sign()]), (20, []), (30, [sign()]), (40, [sign()])):
        ledger.update(step, signs)
    (found,) = ledger.findings
    assert (found.first_step, found.last_step) == (30, 40)


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_signs_of_one_name_and_player_the_worst_counts(order):
    signs = [sign("note", layer="a"), sign("error", layer="b"), sign("warning", layer="c")][::order]
    (found,) = Ledger(1).update(1, signs)
    assert (found.severity, found.layer) == ("error", "b")


def test_what_a_run_has_returned_from_is_over_and_does_not_make_what_comes_later_worse():
    ledger = Ledger(1)
    ledger.update(10, [Sign(name="lost", severity="error", evidence={}, what="", cause="")])
    (found,) = ledger.findings
    before = Ledger(1)
    before.load_state_dict(returned(Ledger(1).state_dict(), found))
    (kept,) = before.findings
    assert (kept.active, kept.rolled_back, kept.first_step) == (False, True, 10)
    assert Finding.from_json(json.loads(json.dumps(kept.as_json()))) == kept
    assert before.update(8, []) == []
    (again,) = before.update(9, [Sign(name="lost", severity="note", evidence={}, what="", cause="")])
    assert (again.severity, again.first_step, again.rolled_back) == ("note", 9, False)
