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
        whose = f" ({player})" * bool(player)
        assert {p.title for p in mine} == {
            f"Gradient norm of every {what}{whose}" for what in ("layer", "weight")
        }


def test_each_network_of_an_agent_has_its_own_chart_and_biases_stay_out_of_the_overview():
    board = dashboard(AGENT, OPTIONS, [""])
    for layer, whose in {
        "actor.0": " (actor)",
        "critic.2": " (critic)",
        "body.0": "",
        "actors.0": "",
    }.items():
        for end, sections in {"weight": ["Overview", "Layers"], "bias": ["Layers"]}.items():
            tag = f"layer/{layer}.{end}/update_ratio"
            found = {h: [p.title for p in panels if p.shows([tag])] for h, panels in board.sections.items()}
            what = {"Overview": "weight", "Layers": "layer"}
            assert {h: titles for h, titles in found.items() if titles} == {
                h: [f"Update ratio of every {what[h]}{whose}"] for h in sections
            }


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
