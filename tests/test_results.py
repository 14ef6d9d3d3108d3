"""The tables of docs/results.md are those of the summaries in docs/results/."""

import json
import tomllib
from pathlib import Path

import pytest

from scripts.suites import results
from tests.pages import ROOT

PAGE = ROOT / "docs" / "results.md"
TABLES = tomllib.loads((PAGE.parent / "results" / "published.toml").read_text(encoding="utf-8"))
EXPERIMENTS = sorted({row["experiment"] for rows in TABLES.values() for row in rows})


def test_every_table_is_what_the_summaries_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert results.written(page) == page, "run `make results`"


def test_a_figure_that_was_changed_by_hand_is_noticed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    changed = page.replace("| 257.8 [250.4, 265.1] |", "| 267.8 [250.4, 265.1] |")
    assert changed != page
    assert results.written(changed) == page


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_row_has_every_seed_of_an_experiment_that_exists(experiment: str) -> None:
    assert (ROOT / "conf" / "experiment" / "rl" / f"{experiment}.yaml").is_file()
    seeds = [run["seed"] for run in results.summaries(experiment)]
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
