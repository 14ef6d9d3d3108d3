"""The tables of docs/results.md and docs/told.md are those of what docs/results/ keeps."""

import json
import math
import tomllib
from pathlib import Path

import pytest

from scripts.suites import results, told
from tests.drawn import figure_of
from tests.pages import ROOT

PAGE = ROOT / "docs" / "results.md"
TABLES = tomllib.loads((PAGE.parent / "results" / "published.toml").read_text(encoding="utf-8"))
ROWS = [row for rows in TABLES.values() for row in rows]
EXPERIMENTS = sorted({(row["experiment"], row.get("folder", row["experiment"])) for row in ROWS})


def test_every_table_is_what_the_summaries_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert results.written(page) == page, "run `make results`"


def test_a_figure_that_was_changed_by_hand_is_noticed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    changed = page.replace("| 257.8 [250.4, 265.1] |", "| 267.8 [250.4, 265.1] |")
    assert changed != page
    assert results.written(changed) == page


@pytest.mark.parametrize(("experiment", "folder"), EXPERIMENTS)
def test_a_row_has_every_seed_of_an_experiment_that_exists(experiment: str, folder: str) -> None:
    assert (ROOT / "conf" / "experiment" / "rl" / f"{experiment.split()[0]}.yaml").is_file()
    seeds = [run["seed"] for run in results.summaries(folder)]
    assert seeds == list(range(1, len(seeds) + 1))
    assert len(seeds) >= 3


@pytest.mark.parametrize(
    ("returns", "verdict"),
    [([11, 12], "above"), ([9, 12], "within"), ([8, 9], "below"), ([10, 10], "within")],
)
def test_the_verdict_is_where_the_whole_interval_lies(returns: list[float], verdict: str) -> None:
    row = {"experiment": "x", "environment": "X", "published": 10, "steps": 2000, "said": "them"}
    runs = [
        {"eval_return_mean": each, "eval_return_mean_stochastic": 0, "env_steps": 1000, "wall_s": 60}
        for each in returns
    ]
    assert results.agent_row(row, runs)[-1] == f"{verdict}, 50 % of the steps"


def test_seeds_are_told_from_other_settings_and_stand_in_the_order_of_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    (tmp_path / "x").mkdir()
    for name in ("seed10", "seed2", "seed2_lr_1e-3"):
        (tmp_path / "x" / f"{name}.json").write_text(json.dumps({"name": name}))
    assert [run["name"] for run in results.summaries("x")] == ["seed2", "seed10"]
    assert [run["name"] for run in results.summaries("x", "_lr_1e-3")] == ["seed2_lr_1e-3"]


@pytest.mark.parametrize(
    ("value", "text"), [(-140.04, "−140"), (0.949, "0.949"), (-0.0001, "0"), (3184.6, "3,185"), (1.0, "1")]
)
def test_returns_are_shown(value: float, text: str) -> None:
    assert results.shown(value) == text


def test_the_tables_of_what_the_gradient_told_are_what_was_kept() -> None:
    page = told.PAGE.read_text(encoding="utf-8")
    assert told.tables_written(page) == page, "run `make results`"


def test_a_noise_scale_that_noise_drowned_counts_as_infinite() -> None:
    kept = [{"measured": 3, "noise_scale": {"1": 8.0, "2": 2.0}}, {"measured": 2, "noise_scale": {"1": 4.0}}]
    assert told.typical(kept) == 8  # of 2, 4, 8, inf, inf
    assert told.typical([{"measured": 3, "noise_scale": {"1": 8.0}}]) == math.inf


def test_a_finding_is_counted_once_a_run() -> None:
    twice = {"findings": [{"name": "a", "severity": "note"}, {"name": "a", "severity": "note"}]}
    both = {"findings": [{"name": "b", "severity": "warning"}, {"name": "a", "severity": "note"}]}
    assert told.findings([twice, both]) == "note `a` (2), warning `b` (1)"
    assert told.findings([{"findings": []}]) == "none"


def test_the_batch_of_a_step_is_a_minibatch_of_ppo_and_a_rollout_of_trpo() -> None:
    agent = {"num_steps": 1024, "num_minibatches": 64}
    assert told.batch_size({"num_envs": 4, "agent": agent | {"clip_coef": 0.2}}) == 64
    assert told.batch_size({"num_envs": 2, "agent": agent}) == 2048


def test_the_curves_of_signal_to_noise_have_their_axes_named() -> None:
    rows = len([row for row in told.ROWS if told.variants(row)])
    panels = figure_of(told.draw).axes
    assert {panel.get_ylabel() for panel in panels[:: len(panels) // rows]} == {"signal to noise"}
    assert panels[-1].get_xlabel() == "environment steps"
