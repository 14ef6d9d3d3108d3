"""Two runs on one page, and many: what differs comes first, curves lie over each other."""

import json
import re
import shutil
from pathlib import Path

import pytest

from core.config import ConfigError
from core.report.page import write_page
from scripts.report import kind_of
from tests.core.report.runs import GAN_OPTIONS, RL_CURVES, RL_OPTIONS, RL_SUMMARY, make_run, page_of

DESCENT_OPTIONS = """
_target_: core.descend.descent.DescentConfig
function: {_target_: core.descend.functions.Himmelblau}
optimizer: {_target_: torch.optim.SGD, lr: 0.01}
steps: 4000
"""
DESCENT_SUMMARY = {"status": "finished", "critical_point": "minimum", "value": 0.5, "gradient_norm": 1e-6,
                   "x": [3.0, 2.0], "hessian_eigenvalues": [25.7, 82.3]}  # fmt: skip


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return make_run(tmp_path / "first", RL_OPTIONS, RL_CURVES, RL_SUMMARY)


def rows_of(page: str, heading: str) -> list[list[str]]:
    """Cells of the table in a section."""
    section = page.split(f"<h2>{heading}</h2>")[1].split("</section>")[0]
    rows = re.findall(r"<tr>.*?</tr>", section, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_outcomes_stand_side_by_side_with_their_difference(first, tmp_path):
    summary = RL_SUMMARY | {"eval_return_mean": 389.8, "solved_at_env_steps": None, "wall_s": 330.0}
    second = make_run(tmp_path / "second", RL_OPTIONS, RL_CURVES, summary)
    rows = {row[0]: row[1:] for row in rows_of(page_of(first, second), "What was reached")}
    assert rows["mean return over 100 episodes"] == ["487 ± 21.5", "390 ± 21.5", "−97.4 (−20.0 %)"]
    assert rows["environment steps until solved"] == ["3,072", "not solved", ""]
    assert rows["environment steps a second"] == ["1,234", "1,234", "none"]
    assert rows["seconds in all"] == ["300", "330", "+30 (+10.0 %)"]


def test_an_effort_is_told_as_exactly_as_its_difference(first, tmp_path):
    runs = [
        make_run(tmp_path / name, RL_OPTIONS, RL_CURVES, RL_SUMMARY | {"wall_s": wall_s})
        for name, wall_s in (("a", 6.718), ("b", 5.296))
    ]
    rows = {row[0]: row[1:] for row in rows_of(page_of(*runs), "What was reached")}
    assert rows["seconds in all"] == ["6.72", "5.30", "−1.42 (−21.2 %)"]


def test_only_options_that_differ_are_listed(first, tmp_path):
    options = RL_OPTIONS.replace("Adam, lr: 0.001", "SGD, lr: 0.1, momentum: 0.9")
    second = make_run(tmp_path / "second", options, RL_CURVES, RL_SUMMARY)
    assert rows_of(page_of(first, second), "What differs") == [
        ["option", "A", "B"], ["optimizer", "Adam", "SGD"], ["optimizer.lr", "0.001", "0.1"],
        ["optimizer.momentum", "–", "0.9"],
    ]  # fmt: skip
    same = make_run(tmp_path / "same", RL_OPTIONS, RL_CURVES, RL_SUMMARY)
    assert "The runs do not differ in any option." in page_of(first, same)


def test_both_curves_are_in_one_chart_solid_and_dashed_and_named(first, tmp_path):
    second = make_run(tmp_path / "second", RL_OPTIONS, RL_CURVES | {"gradient/norm": 4.0}, RL_SUMMARY)
    page = page_of(first, second)
    chart = page.split('id="chart-gradient-norm"')[1].split("</figure>")[0]
    assert chart.count('class="line c1"') == chart.count('class="line c1 second"') == 1
    assert "A: norm <b>2</b>" in chart
    assert "B: norm <b>4</b>" in chart
    assert "A: after clipping" in chart  # a second reference would only clutter
    assert "B: after clipping" not in chart
    names = re.findall(r'id="([^"]+)"', page)
    assert len(names) == len(set(names))


def test_a_curve_that_one_of_them_has_is_drawn_too(first, tmp_path):
    second = make_run(tmp_path / "second", RL_OPTIONS, RL_CURVES | {"noise/norm_test": 0.5}, RL_SUMMARY)
    for a, b, name in ((first, second, "B"), (second, first, "A")):
        assert f"{name}: both <b>0.500</b>" in page_of(a, b)


def test_the_page_of_two_does_not_take_the_place_of_the_page_of_one(first, tmp_path):
    second = make_run(tmp_path / "second", RL_OPTIONS, RL_CURVES, RL_SUMMARY)
    assert write_page(first, second, kind_of).name == "report_against_second.html"
    assert not (first / "report.html").exists()
    assert not list(second.glob("*.html"))


def test_other_environments_are_allowed_with_a_notice_and_other_kinds_are_not(first, tmp_path):
    options = RL_OPTIONS.replace("Cart<b>Pole</b>-v1", "Acrobot-v1")
    second = make_run(tmp_path / "second", options, RL_CURVES, RL_SUMMARY)
    assert "Different tasks: A is on Cart&lt;b&gt;Pole&lt;/b&gt;-v1, B on Acrobot-v1" in page_of(
        first, second
    )
    gan = make_run(tmp_path / "gan", GAN_OPTIONS, {"loss/generator": 1.0}, None)
    with pytest.raises(ConfigError, match="gan is a run of another kind: GAN, not Reinforcement learning"):
        write_page(first, gan, kind_of)
    with pytest.raises(ConfigError, match="is the run itself"):
        write_page(first, first, kind_of)
    with pytest.raises(ConfigError, match=r"against=.*nowhere: there is no such directory"):
        write_page(first, tmp_path / "nowhere", kind_of)


LISTS = {
    "names": {"runs": ["b", "a"]},
    "dictionaries": {"runs": [{"directory": "b", "value": 1.0}, {"directory": "elsewhere/a"}]},
    "by name": {"versions": {"torch": "2"}, "optimizers": {"b": {"directory": "b"}, "a": {"directory": "a"}}},
    "none": {},
}


@pytest.mark.parametrize("listed", LISTS)
def test_a_directory_of_descents_gets_a_page_of_all_of_them(tmp_path, listed):
    curves = {"descent/value": 0.5, "descent/x0": 1.0, "descent/x1": 2.0, "gradient/norm": 1.0}
    for name, lr in (("a", "0.01"), ("b", "0.5")):
        run = make_run(tmp_path / name, DESCENT_OPTIONS.replace("0.01", lr), curves, DESCENT_SUMMARY)
        (run / "media" / "gradient_heat_map.png").rename(run / "media" / "descent_path.png")
    (tmp_path / "summary.json").write_text(json.dumps({"status": "finished"} | LISTS[listed]))
    (tmp_path / ".hydra").mkdir()  # holds a config.yaml, and is no run
    (tmp_path / ".hydra" / "config.yaml").write_text(DESCENT_OPTIONS)
    if listed == "none":
        shutil.rmtree(tmp_path / ".hydra")
    page = page_of(tmp_path)
    order = ["a", "b"] if listed == "none" else ["b", "a"]
    rows = rows_of(page, "What was reached")
    assert [row[0] for row in rows] == ["run", *order]
    assert rows[1][1:4] == ["finished", "minimum", "0.500"]
    rates = {"a": "0.01", "b": "0.5"}
    assert rows_of(page, "What differs")[1] == ["optimizer.lr", *(rates[name] for name in order)]
    chart = page.split('id="chart-value-of-the-function"')[1].split("</figure>")[0]
    assert chart.count('class="line c1"') == chart.count('class="line c2"') == 1
    assert page.count("<img") == 2
    assert "Coordinates: x0" in page
    with pytest.raises(ConfigError, match="holds several runs"):
        write_page(tmp_path / "a", tmp_path, kind_of)


def test_descents_under_way_are_known_by_the_options_of_their_directory(tmp_path):
    options = DESCENT_OPTIONS + "optimizers: {b: {lr: 0.1}, a: {lr: 0.2}}\n"
    parent = make_run(tmp_path / "parent", options, {}, None, points=0)
    for name in ("a", "b", "c"):
        make_run(parent / name, DESCENT_OPTIONS, {"descent/value": 0.5}, None)
    rows = rows_of(page_of(parent), "What was reached")
    assert [row[0] for row in rows] == ["run", "b", "a"]
    assert rows[1][1] == "not finished"


def test_a_run_below_another_by_chance_does_not_take_its_page(first):
    make_run(first / "nested", RL_OPTIONS, RL_CURVES, RL_SUMMARY)
    assert "487 ± 21.5" in page_of(first)
    assert "nested" not in page_of(first)


def test_facts_of_a_landscape_stand_below_their_picture(first):
    (first / "media" / "landscape").mkdir()
    shutil.copy(first / "media" / "gradient_heat_map.png", first / "media" / "landscape" / "surface.png")
    facts = {"surface": {"loss": 0.25, "x": [0, 1], "batch": "a <b>"}, "spectrum": {"trace": 3.5}}
    (first / "landscape.json").write_text(json.dumps(facts))
    section = page_of(first).split("<h2>Landscape</h2>")[1].split("</section>")[0]
    assert section.count("<img") == 1
    assert "loss <b>0.250</b> · batch <b>a &lt;b&gt;</b></p></figcaption>" in section
    assert "<p>Spectrum. trace <b>3.50</b></p>" in section
    assert "Landscape" not in page_of(make_run(first.parent / "plain", RL_OPTIONS, RL_CURVES, RL_SUMMARY))
    for damaged in ("{", "[]"):
        (first / "landscape.json").write_text(damaged)
        with pytest.raises(ConfigError, match=r"landscape\.json is damaged"):
            page_of(first)
