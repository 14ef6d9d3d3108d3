"""The page of TensorBoard is the report's charts: what a tag belongs to, and what is said of it."""

import re

import pytest

from core.descend.report import DESCENT
from core.report.charts import GRADIENTS
from core.report.dashboard import dashboard
from core.watch.report import WATCHED
from gradgan.report import GAN
from gradrl.report import AGENT

KINDS = {"rl": (AGENT, [""]), "gan": (GAN, ["generator", "discriminator"]), "descend": (DESCENT, [""]),
         "watch": (WATCHED, ["a.b", "c"])}  # fmt: skip
CLASSES = {"agent": "PPO", "data": "Digits", "optimizer": "Adam", "function": "Beale"}
OPTIONS = {"_target_": "a.B", "env": {"id": "CartPole-v1"}, "script": "mine.py"} | {
    option: {"_target_": f"a.{name}"} for option, name in CLASSES.items()
}


@pytest.mark.parametrize("name", KINDS)
def test_every_curve_of_the_reports_charts_has_a_panel_that_names_it_alone(name):
    kind, players = KINDS[name]
    board = dashboard(kind, OPTIONS, players)
    assert list(board.sections)[:4] == ["Overview", "Learning", "Gradients", "Layers"]
    panels = [panel for section in board.sections.values() for panel in section]
    charts = [
        *kind.outcome,
        *kind.gradients,
        *kind.losses,
        *(c for topic in kind.topics for c in topic.charts),
    ]
    for chart in charts:
        for line in chart.lines:
            assert any(p.title == chart.title and p.shows([line.tag]) for p in panels), line.tag
    for section in board.sections.values():
        assert len({panel.title for panel in section}) == len(section)
    for player in players:
        start = f"{player}/" if player else ""
        for chart in GRADIENTS:
            assert any(p.title == chart.title and p.shows([start + chart.lines[0].tag]) for p in panels)
        mine = [p for p in panels if p.shows([f"{start}layer/0.weight/gradient_norm"])]
        assert {p.title for p in mine} == {"Gradient norm of every layer" + f" ({player})" * bool(player)}


@pytest.mark.parametrize("name", KINDS)
def test_the_card_says_nothing_of_how_the_report_draws(name):
    kind, players = KINDS[name]
    board = dashboard(kind, OPTIONS, players)
    for section in board.sections.values():
        for panel in section:
            assert re.fullmatch(r"[A-Z][^{}]*\.", panel.caption), panel
            assert not re.search(r"\bband\b|[Dd]otted|Logarithmic", panel.caption), panel


def test_metrics_have_the_names_of_their_charts():
    names = dashboard(AGENT, OPTIONS, [""]).names
    assert names["eval/return_mean"] == "Return, evaluation"
    assert names["episode/length"] == "Episode length"
