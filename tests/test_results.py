"""The tables of docs/results.md and docs/told.md are those of what docs/results/ keeps."""

import json
import math
import re
import statistics
import tomllib
from pathlib import Path

import pytest

from core.report.read import read_run
from scripts.suites import kept, markdown, results, results_agents, results_gans, results_picture, told
from scripts.suites.results_agents import agent_row
from tests.conftest import Command
from tests.drawn import figure_of
from tests.pages import ROOT

PAGE = ROOT / "docs" / "results.md"
TABLES = tomllib.loads((PAGE.parent / "results" / "published.toml").read_text(encoding="utf-8"))
ROWS = [row for rows in TABLES.values() for row in rows]
EXPERIMENTS = sorted({(row["experiment"], row.get("folder", row["experiment"])) for row in ROWS})


def test_every_table_is_what_the_summaries_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert results.written(page, results.TABLES) == page, "run `make results`"


def test_a_figure_that_was_changed_by_hand_is_noticed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    changed = page.replace("| 257.8\u00a0[250.4", "| 267.8\u00a0[250.4")
    assert changed != page
    assert results.written(changed, results.TABLES) == page


@pytest.mark.parametrize(("experiment", "folder"), EXPERIMENTS)
def test_a_row_has_every_seed_of_an_experiment_that_exists(experiment: str, folder: str) -> None:
    assert (ROOT / "conf" / "experiment" / "rl" / f"{experiment.split()[0]}.yaml").is_file()
    seeds = [run["seed"] for run in kept.summaries(folder)]
    assert seeds == list(range(1, len(seeds) + 1))
    assert len(seeds) >= 3


@pytest.mark.parametrize(("experiment", "folder"), [each for each in EXPERIMENTS if "steps" not in each[0]])
def test_the_page_of_an_experiment_says_what_its_row_says(experiment: str, folder: str) -> None:
    page = (ROOT / "conf" / "experiment" / "rl" / f"{experiment.split()[0]}.yaml").read_text(encoding="utf-8")
    line = r"(?s)# Ours: (\S+) over (\d) seeds.*?([\d.]+) (minutes?|CPU minutes?)(?: of one thread)? a seed"
    ours = re.search(line, page)
    assert ours, "the page has no line that begins with Ours"
    runs = kept.summaries(folder)
    assert int(ours[2]) == len(runs)
    if not ours[4].startswith("CPU"):
        assert ours[3] == markdown.minutes(min(kept.figures(runs, "wall_s")))
    said = float(ours[1].rstrip(",").replace(",", ""))
    mean = statistics.fmean(kept.figures(runs, "eval_return_mean"))
    digits = len(ours[1].partition(".")[2])
    assert said == pytest.approx(mean, abs=0.51 * 10**-digits)


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
    half = ", 50 % of the steps"
    assert agent_row(row, runs)[5] == markdown.unbroken(f"{verdict}{half}")
    assert agent_row(row, runs, sampled=True)[5] == markdown.unbroken(f"{verdict}; sampled below{half}")


def test_seeds_stand_in_the_order_of_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "RESULTS", tmp_path)
    (tmp_path / "x").mkdir()
    for name in ("seed10", "seed2", "curves3"):
        (tmp_path / "x" / f"{name}.json").write_text(json.dumps({"name": name}))
    assert [run["name"] for run in kept.summaries("x")] == ["seed2", "seed10"]


@pytest.mark.parametrize(
    ("value", "text"), [(-140.04, "−140"), (0.949, "0.949"), (-0.0001, "0"), (3184.6, "3,185"), (1.0, "1")]
)
def test_returns_are_shown(value: float, text: str) -> None:
    assert markdown.shown(value) == text


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
    worse = {"findings": [{"name": "a", "severity": "warning"}]}
    assert told.findings([twice, worse]) == "note `a` (1), warning `a` (1)"
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


def test_a_run_is_kept_under_its_seed_with_the_curves_asked_for(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    command("rl", "env=cartpole", "total_steps=600", "seed=7", f"hydra.run.dir={run}")
    monkeypatch.setattr(kept, "RESULTS", tmp_path)
    kept.main(["mine", str(run), "--tags", "policy/entropy", "policy/explained_variance"])
    assert [each["seed"] for each in kept.summaries("mine")] == [7]
    (curves,) = kept.curves("mine")
    measured = read_run(run).curves
    assert set(curves) == {"policy/entropy", "policy/explained_variance"}
    for tag, curve in curves.items():
        assert curve == pytest.approx(measured[tag], rel=5e-4)


def test_only_finished_runs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kept, "RESULTS", tmp_path / "results")
    for name, status in (("done", "finished"), ("half", "stopped")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps({"status": status, "seed": 1}))
    for name in ("half", "missing"):
        with pytest.raises(SystemExit, match="2"):
            kept.main(["mine", str(tmp_path / "done"), str(tmp_path / name)])
        assert capsys.readouterr().err == f"error: {tmp_path / name} holds no finished run with a seed\n"
    with pytest.raises(SystemExit, match="2"):
        kept.main(["mine", str(tmp_path / "done"), str(tmp_path / "done")])
    assert capsys.readouterr().err == f"error: {tmp_path / 'done'} has the seed of {tmp_path / 'done'}\n"
    assert not kept.RESULTS.exists()


def test_the_order_of_baselines_is_counted_at_the_points_before_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    none, mean, learned, gae = results_agents.BASELINES
    run = {none: {1: 9.0, 2: 9.0, 4: 1.0}, mean: {1: 5.0, 2: 9.0, 4: 9.0}}
    run |= {learned: {1: 4.0, 2: 1.0, 4: 9.0}, gae: {1: 3.0, 2: 2.0, 4: 9.0}}
    monkeypatch.setattr(results_agents, "curves", lambda _: [run, run])
    monkeypatch.setattr(results_agents, "COMPARED", {"x": 2})
    header, row = results_agents.order_of_baselines()
    assert header[3:] == ["none > mean", "mean > learned", "learned > GAE"]
    assert row == ["`env=x`", "2", "4", "2", "4", "2"]


def test_points_of_baselines_are_the_first_second_fourth_and_so_on(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [10 * number for number in range(1, 8)]
    run = dict.fromkeys(results_agents.BASELINES, dict.fromkeys(steps, 1234.5))
    run[results_agents.EXPLAINED] = dict.fromkeys(steps, -0.014)
    monkeypatch.setattr(results_agents, "curves", lambda _: [run])
    rows = results_agents.baselines("x")[1:]
    assert [row[0] for row in rows] == ["10", "20", "40"]
    assert rows[0][-1] == "−0.01"


def test_nearer_is_a_smaller_distance_and_a_larger_share() -> None:
    ours = [{"fid": 1, "recall": 0.5}, {"fid": 2, "recall": 0.6}]
    theirs = [{"fid": 3, "recall": 0.5}, {"fid": 1.5, "recall": 0.4}]
    assert results_gans.nearer(ours, theirs, "fid").startswith("0.75 ")  # 1 < 3, 1 < 1.5, 2 < 3
    assert results_gans.nearer(ours, theirs, "recall").startswith("0.88 ")  # one of four pairs is a tie


def test_the_picture_has_a_line_for_every_row_at_its_distance_in_percent() -> None:
    row = {"experiment": "ppo_rnd_x", "environment": "MiniGrid-X-v0", "published": -100, "steps": 2000}
    runs = [{"eval_return_mean": each, "env_steps": 1005} for each in (-90, -70)]
    found = results_picture.row_of(row, runs, "eval_return_mean")
    assert (found.label, found.verdict) == ("RND, X-v0, 1 k", "above")
    assert found.ends == pytest.approx((20, 10, 30))
    assert found.share == pytest.approx(50.25)
    assert results_picture.row_of(row | {"published": 0}, runs, "eval_return_mean").ends is None
    panels = figure_of(results_picture.draw).axes
    for panel, name in zip(panels, results_picture.PANELS, strict=True):
        intervals = [line for line in panel.get_lines() if line.get_linewidth() == 2.2]
        assert len(intervals) == sum(bool(row["published"]) for row in TABLES[name])
        assert len(panel.get_yticklabels()) == len(TABLES[name])
        drawn = results_picture.rows_of(name)
        beyond = [place for place, row in enumerate(drawn) if row.ends is None or not inside(row.ends[0])]
        arrows = [line for line in panel.get_lines() if line.get_marker() in ("<", ">")]
        assert [float(line.get_ydata()[0]) for line in arrows] == beyond


def inside(mean: float) -> bool:
    low, high = results_picture.LIMITS
    return low < mean < high
