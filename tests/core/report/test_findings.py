"""Findings on the page: told apart without colour, drawn where they were, with a command that may help."""

import json
import os
import re
from pathlib import Path

import pytest

from core.config import ConfigError
from core.report.figures import concerns
from core.report.read import read_findings
from tests.core.report.runs import RL_CURVES, RL_OPTIONS, RL_SUMMARY, make_run, page_of

VANISHING = {
    "name": "vanishing_gradient", "severity": "error", "player": "", "layer": "actor.0.weight",
    "first_step": 1000, "last_step": 3000, "active": False,
    "evidence": {"layer/actor.0.weight/gradient_norm": 1e-9, "median of the layers": 0.02},
    "what": "The gradient of <actor.0.weight> has vanished.", "cause": "Saturated units.",
    "remedy": ["policy.activation=relu", "optimizer.lr=0.001"],
}  # fmt: skip
CLIPPED = VANISHING | {
    "name": "always_clipped", "severity": "note", "layer": None, "first_step": 2000, "last_step": 4000,
    "active": True, "evidence": {"gradient/clipped": 1.0}, "remedy": [],
}  # fmt: skip


def write_findings(directory: Path, *findings: dict) -> None:
    text = json.dumps({"version": 1, "step": 4000, "findings": list(findings)})
    (directory / "findings.json").write_text(text)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = make_run(tmp_path / "run", RL_OPTIONS, RL_CURVES, RL_SUMMARY)
    (run / ".hydra").mkdir()
    overrides = ["env=cartpole", "optimizer.lr=0.1", "probe=[noise,curvature]", "hydra.run.dir=x"]
    (run / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))
    return run


def test_a_finding_is_told_with_its_evidence_its_cause_and_its_severity_in_a_word(run):
    write_findings(run, CLIPPED, VANISHING)
    page = page_of(run)
    cards = re.findall(r"<article.*?</article>", page, re.DOTALL)
    assert ["Vanishing gradient" in card for card in cards] == [True, False]  # the worst first
    for expected in (
        "■ error", "<code>actor.<wbr>0.<wbr>weight</code>", "&lt;actor.0.weight&gt; has vanished",
        "Saturated units",
        "<dt>median of the layers</dt><dd>0.0200</dd>", "1·10⁻⁹", "1,000 to 3,000</b> of 4,000", ", over",
    ):  # fmt: skip
        assert expected in cards[0]
    assert "● note" in cards[1]
    assert "; the numbers are those at 3,000</p>" in cards[0]
    assert "still present at the last check" in cards[1]
    assert "<pre" not in cards[1]
    assert "1 error, 1 note" in page


def test_evidence_has_the_name_of_the_chart_that_shows_it_alone(tmp_path):
    run = make_run(
        tmp_path / "run", RL_OPTIONS, RL_CURVES | {"gradient/cosine": 0.5, "a/lr": 1.0}, RL_SUMMARY
    )
    evidence = {
        "gradient/norm": 2.0,
        "gradient/cosine": 0.5,
        "update_ratio": 1e-3,
        "lr": 1.0,
        "no_such_curve": 1.0,
    }
    write_findings(run, VANISHING | {"evidence": evidence})
    names = re.findall(r"<dt>(.*?)</dt>", page_of(run).split('class="proof"')[1].split("</article>")[0])
    assert names == ["gradient norm", "cosine", "update ratio", "lr", "no such curve"]


def test_the_bar_of_a_finding_lies_where_it_was_on_the_axis_of_the_run(run):
    write_findings(run, VANISHING)
    assert 'style="left:25.0%;width:50.0%"' in page_of(run)  # 1000 to 3000 of 4000
    write_findings(run, VANISHING | {"first_step": 4000, "last_step": 4000})
    left, width = re.findall(r'style="left:([\d.]+)%;width:([\d.]+)%"', page_of(run))[0]
    assert float(width) >= 1
    assert float(left) + float(width) == 100


def test_the_remedy_takes_the_place_of_the_word_with_the_same_option(run):
    write_findings(run, VANISHING)
    line = "gradrl env=cartpole &#39;probe=[noise,curvature]&#39; <b>policy.activation=relu</b>"
    assert f"{line} <b>optimizer.lr=0.001</b>" in page_of(run)
    write_findings(run, VANISHING | {"remedy": ["a=$(rm)"]})
    assert "<b>&#39;a=$(rm)&#39;</b></code>" in page_of(run)


def test_a_remedy_that_chooses_another_file_of_a_group_leaves_nothing_typed_below_it(run):
    words = ["clipper=global_norm", "clipper.max_norm=3", "seed=1"]
    (run / ".hydra" / "overrides.yaml").write_text(json.dumps(words))
    write_findings(run, VANISHING | {"remedy": ["clipper=autoclip", "clipper.percentile=90"]})
    assert "gradrl seed=1 <b>clipper=autoclip</b> <b>clipper.percentile=90</b>" in page_of(run)


def test_a_finding_links_to_the_charts_of_its_evidence_and_is_marked_there(run):
    write_findings(run, VANISHING, CLIPPED)
    page = page_of(run)
    cards = re.findall(r"<article.*?</article>", page, re.DOTALL)
    assert 'href="#chart-layers-with-findings"' in cards[0]
    assert 'href="#chart-clipped"' in cards[1]
    figures = r'<figure class="card chart" id="chart-(.*?)">(.*?)</figure>'
    charts = dict(re.findall(figures, page, re.DOTALL))
    marked = {name: re.findall(r'class="mark (\w+)"', chart) for name, chart in charts.items()}
    assert marked["gradient-norm"] == marked["layers-with-findings"] == ["error"]
    assert marked["clipped"] == ["note"]
    assert "return" in marked
    assert not marked["return"]
    rect = r'<rect class="mark error" x="([\d.]+)" y="-?\d+" width="([\d.]+)"'
    places = re.findall(rect, charts["gradient-norm"])
    assert [(float(x), float(width)) for x, width in places] == [(50 + 340 / 4, 340 / 2)]


def test_a_run_without_findings_says_so_in_one_line(run):
    assert "No diagnosis was made of this run." in page_of(run)
    (run / "findings.json").write_text("")
    assert read_findings(run) is None
    write_findings(run)
    assert "The diagnosis has no findings." in page_of(run)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"findings": [', "is damaged: Expecting value"),
        ("[]", "it holds no findings"),
        ('{"findings": [{"name": "x"}]}', "'severity' is missing"),
        ('{"findings": [{"name": "x", "severity": "bad", "first_step": 1}]}', "severity bad"),
    ],
)
def test_damaged_findings_are_one_clear_line(run, text, message):
    (run / "findings.json").write_text(text)
    with pytest.raises(ConfigError, match=r"findings\.json") as error:
        page_of(run)
    assert message in str(error.value)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("nowhere")])
@pytest.mark.parametrize("name", ["findings.json", "summary.json", "landscape.json"])
def test_what_is_no_file_is_damaged_and_named(run, name, make):
    (run / name).unlink(missing_ok=True)
    make(run / name)
    with pytest.raises(ConfigError, match=f"{name} is damaged"):
        page_of(run)


@pytest.mark.parametrize(
    ("player", "layer", "evidence", "tag", "shown"),
    [
        ("", None, "gradient/clipped", "gradient/clipped", True),
        ("", None, "entropy", "policy/entropy", True),
        ("", None, "entropy", "policy/cross_entropy", False),
        ("generator", None, "cosine", "generator/gradient/cosine", True),
        ("generator", None, "cosine", "discriminator/gradient/cosine", False),
        ("generator", None, "modes", "eval/modes", True),
        ("", "a.0", "gradient_norm", "layer/a.0/gradient_norm", True),
        ("", "a.0", "gradient_norm", "layer/a.1/gradient_norm", False),
        ("", "a.0", "update_ratio", "gradient/norm", True),
        ("", None, "update_ratio", "gradient/norm", False),
        ("critic", "a.0", "dead", "critic/gradient/norm", True),
        ("critic", "a.0", "dead", "actor/gradient/norm", False),
    ],
)
def test_curves_that_a_finding_concerns(run, player, layer, evidence, tag, shown):
    write_findings(run, VANISHING | {"player": player, "layer": layer, "evidence": {evidence: 1.0}})
    findings = read_findings(run)
    assert findings
    assert concerns(findings[0], tag) is shown
