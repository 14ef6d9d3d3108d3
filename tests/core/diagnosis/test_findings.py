"""Findings written to a file and read from it again."""

import json
import math

import pytest

from core.config import ConfigError
from core.diagnosis import Finding
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
