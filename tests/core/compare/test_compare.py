"""compare: statistics against slow definitions, what is one group, and that no seed is dropped."""

import csv
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.stats import mannwhitneyu, trim_mean

from core.cli.saved import lacking
from core.compare.comparison import CompareConfig, compare_runs
from core.compare.find import find_runs
from core.compare.groups import grouped
from core.compare.learning_curves import band
from core.compare.statistics import COVERAGE, estimate, improvement, interquartile_mean, interval, mean
from core.config import ConfigError
from core.run.tensorboard import Writer
from gradrl.report import SCORE
from tests.conftest import Command, assert_refused

PPO, A2C = "gradrl.agents.ppo.PPO", "gradrl.agents.a2c.A2C"


def write_run(
    folder: Path,
    seed: int,
    score: float | None,
    *,
    env="CartPole-v1",
    agent=PPO,
    status="finished",
    **options,
) -> Path:
    """A run directory as a trainer leaves it: five evaluations rising to the score."""
    run = folder / str(seed)
    run.mkdir(parents=True)
    tree = {"_target_": "gradrl.train.TrainConfig", "agent": {"_target_": agent, "gamma": 0.99}, "seed": seed}
    tree |= {"env": {"id": env}, "total_steps": 100, "device": "cpu", "probe": None, **options}
    (run / "config.yaml").write_text(yaml.safe_dump(tree | dict.fromkeys(lacking(tree))))
    steps = 100 if status == "finished" else 40
    summary = {"status": status, "seed": seed, "env": env, "env_steps": steps}
    if score is not None:
        summary["eval_return_mean"] = score
    (run / "summary.json").write_text(json.dumps(summary))
    writer = Writer(run)
    for step in range(20, steps + 1, 20):
        writer.scalars({"eval/return_mean": (400.0 if score is None else score) * step / 100}, step)
    writer.close()
    return run


def keep_summaries(folder: Path, scores: list[float]) -> Path:
    folder.mkdir(parents=True)
    for seed, score in enumerate(scores, 1):
        summary = {"status": "finished", "seed": seed, "env": "CartPole-v1", "eval_return_mean": score}
        (folder / f"seed{seed}.json").write_text(json.dumps(summary | {"env_steps": 100}))
    return folder


def slow_interval(scores: list[float], statistic) -> tuple[float, float]:
    """Percentiles of the statistic over all n^n equally likely samples with replacement."""
    samples = itertools.product(scores, repeat=len(scores))
    low, high = np.percentile([statistic(sample) for sample in samples], [2.5, 97.5])
    return float(low), float(high)


def middle_half(sample) -> float:
    cut = len(sample) // 4
    return float(np.mean(sorted(sample)[cut : len(sample) - cut]))


@pytest.mark.parametrize(("statistic", "slow"), [(mean, np.mean), (interquartile_mean, middle_half)])
@pytest.mark.parametrize("scores", [[1.0, 2.0, 3.0, 7.0, 20.0], [-3.0, 5.0, 5.0, 9.0]])
def test_an_interval_is_that_of_all_samples_with_replacement(scores, statistic, slow):
    found = estimate(scores, statistic, 20_000, 0)
    assert found.value == pytest.approx(slow(scores))
    # The percentiles of a discrete distribution jump: one neighbouring value off is the resampling's noise.
    assert found.interval == pytest.approx(slow_interval(scores, slow), abs=0.41)


def test_the_interquartile_mean_is_scipys_trimmed_mean():
    for count in (4, 5, 8, 11):
        scores = np.random.default_rng(count).normal(size=count)
        assert interquartile_mean(scores) == pytest.approx(trim_mean(scores, 0.25), rel=1e-15)


def test_the_probability_of_improvement_is_the_statistic_of_mann_and_whitney_averaged_over_tasks():
    random = np.random.default_rng(0)
    pairs = [
        (random.integers(0, 9, 7).astype(float), random.integers(2, 9, 5).astype(float)) for _ in range(3)
    ]
    shares = [mannwhitneyu(one, other).statistic / (len(one) * len(other)) for one, other in pairs]
    found = improvement(pairs, 2000, 0)
    assert found.value == pytest.approx(np.mean(shares))
    assert found.interval[0] < found.value < found.interval[1]


@pytest.mark.parametrize(
    ("one", "other", "value", "ends"),
    [
        ([5.0, 6.0], [1.0, 2.0], 1.0, (1.0, 1.0)),
        ([3.0, 3.0], [3.0, 3.0], 0.5, (0.5, 0.5)),
        ([1.0], [2.0, 3.0], 0.0, None),
    ],
)
def test_the_probability_of_improvement_at_its_edges(one, other, value, ends):
    found = improvement([(one, other)], 500, 0)
    assert (found.value, found.interval) == (value, ends)


def test_the_interval_of_the_probability_of_improvement_is_that_of_all_samples():
    one, other = [1.0, 4.0, 6.0], [2.0, 3.0, 5.0]
    every = [
        np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b])
        for a in itertools.product(one, repeat=3)
        for b in itertools.product(other, repeat=3)
    ]
    low, high = np.percentile(every, [2.5, 97.5])
    found = improvement([(one, other)], 20_000, 0)
    step = 1 / 9  # between two values that it can have
    assert found.interval == (pytest.approx(low, abs=step), pytest.approx(high, abs=step))


def test_the_numbers_go_to_a_file_and_the_better_method_is_told_over_all_tasks(command: Command, tmp_path):
    for env, shift in (("CartPole-v1", 0.0), ("Acrobot-v1", 100.0)):
        for seed in (1, 2, 3):
            write_run(tmp_path / f"ppo-{env}", seed, seed + shift, env=env)
            write_run(tmp_path / f"a2c-{env}", seed, seed + shift + 2.0, env=env, agent=A2C)
    words = (f"runs=[{tmp_path}/ppo-*,{tmp_path}/a2c-*]", "figure=null", "resamples=200")
    out = command("compare", *words, "table=n.json").out
    assert "| better than PPO | probability of improvement | tasks |" in out
    share = (2 + 0.5 + 3 + 3) / 9
    found = json.loads(Path("n.json").read_text())
    (better,) = found["probability_of_improvement"]
    assert better["probability"] == pytest.approx(share)
    assert (better["label"], better["over"], better["tasks"]) == ("A2C", "PPO", ["Acrobot-v1", "CartPole-v1"])
    assert {(g["task"], g["label"]): g["mean"] for g in found["groups"]}["Acrobot-v1", "A2C"] == 104.0
    assert command("compare", *words, "table=n.csv").status == 0
    rows = [*csv.DictReader(Path("n.csv").read_text().splitlines())]
    assert [row["scores"] for row in rows if row["label"] == "PPO"] == ["101.0 102.0 103.0", "1.0 2.0 3.0"]
    assert all(float(r["mean_low"]) <= float(r["mean"]) <= float(r["mean_high"]) for r in rows)
    outcome = command("compare", *words, "table=n.txt")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "table must be the name of a .csv or .json file" in outcome.err


def test_the_interval_of_many_seeds_is_the_normal_one():
    scores = np.random.default_rng(0).normal(10.0, 2.0, 400)
    low, high = interval(scores, mean, 20_000, 0)
    half = 1.959964 * scores.std() / 20
    assert (float(low), float(high)) == pytest.approx((scores.mean() - half, scores.mean() + half), abs=0.01)


@pytest.mark.parametrize("seeds", sorted(COVERAGE))
def test_intervals_of_few_seeds_hold_the_true_mean_as_rarely_as_is_said(seeds):
    """Of 1,000 experiments with true mean 0, resampled 1,000 times; to within three deviations, 4.7 %."""
    random = np.random.default_rng(0)
    held = 0
    for scores in random.normal(size=(1000, seeds)):
        means = scores[random.integers(0, seeds, (1000, seeds))].mean(1)
        low, high = np.percentile(means, [2.5, 97.5])
        held += low <= 0 <= high
    assert 100 * held / 1000 == pytest.approx(COVERAGE[seeds], abs=4.7)
    if seeds <= 3:
        found = estimate(scores, mean, 2000, 0)
        assert found.interval == pytest.approx((scores.min(), scores.max()))


def test_equal_scores_have_an_interval_of_no_width_and_one_score_has_none():
    assert estimate([500.0] * 5, mean, 100, 0).interval == (500.0, 500.0)
    assert estimate([3.0], interquartile_mean, 100, 0).interval is None
    assert estimate([3.0], interquartile_mean, 100, 0).value == 3.0


def test_runs_that_differ_in_seed_logging_device_and_probes_alone_are_one_group(tmp_path):
    write_run(tmp_path, 1, 10.0, probe={"noise": {"interval": 5}})
    write_run(tmp_path, 2, 20.0, device="cuda", logging={"interval": 3})
    (group,) = grouped(find_runs([str(tmp_path)], SCORE))
    assert (group.label, group.task, group.scores) == ("PPO", "CartPole-v1", [10.0, 20.0])
    assert [run.seed for run in group.runs] == [1, 2]


def test_groups_are_named_by_agent_and_by_the_options_that_tell_them_apart(tmp_path):
    for folder, options in {"a": {"num_envs": 4}, "b": {"num_envs": 8}, "c": {"agent": A2C}}.items():
        write_run(tmp_path / folder, 1, 1.0, **options)
    write_run(tmp_path / "d", 1, 1.0, env="Acrobot-v1", num_envs=2)
    groups = grouped(find_runs([str(tmp_path)], SCORE))
    assert [(g.task, g.label) for g in groups] == [
        ("CartPole-v1", "PPO num_envs=4"),
        ("CartPole-v1", "PPO num_envs=8"),
        ("CartPole-v1", "A2C"),
        ("Acrobot-v1", "PPO"),
    ]


def test_options_that_are_too_many_for_a_label_are_told_below_it(tmp_path):
    for value in (1, 2):
        write_run(tmp_path / f"set{value}", 1, 1.0, **dict.fromkeys("wxyz", value))
    groups = grouped(find_runs([str(tmp_path)], SCORE))
    assert [(g.label, g.details) for g in groups] == [
        ("PPO (set1)", "w=1, x=1, y=1, z=1"),
        ("PPO (set2)", "w=2, x=2, y=2, z=2"),
    ]


def test_the_same_seeds_under_two_names_are_compared_and_under_one_name_are_told(command: Command, tmp_path):
    for folder, score in {"before": 1.0, "after": 2.0}.items():
        for seed in (1, 2):
            write_run(tmp_path / folder, seed, score)
    folders = [str(tmp_path / "before"), str(tmp_path / "after")]
    assert [g.scores for g in grouped(find_runs(folders, SCORE))] == [[1.0, 1.0], [2.0, 2.0]]
    assert len(find_runs([*folders, folders[0] + "/*"], SCORE)) == 4  # named twice, read once
    outcome = command("compare", f"runs=[{tmp_path}]", "figure=null")
    assert "| PPO         | 4 " in outcome.out
    assert "seed 1 is there 2 times, and it is counted as often" in outcome.out


def test_a_folder_whose_name_is_a_pattern_too_is_that_folder_and_only_else_a_pattern(tmp_path):
    for folder, score in {"net[1]": 1.0, "net1": 2.0, "net2": 3.0}.items():
        write_run(tmp_path / folder, 1, score)
    scores = [
        [run.score for run in find_runs([f"{tmp_path}/{name}"], SCORE)] for name in ("net[1]", "net[2]")
    ]
    assert scores == [[1.0], [3.0]]


def test_kept_summaries_are_compared_by_their_folders_without_curves(command: Command, tmp_path):
    keep_summaries(tmp_path / "one", [1.0, 2.0, 3.0])
    keep_summaries(tmp_path / "two", [4.0, 5.0, 6.0])
    outcome = command("compare", f"runs=[{tmp_path}/one,{tmp_path}/two]", "target=4")
    assert (outcome.status, outcome.made) == (0, [])
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in outcome.out.splitlines() if "|" in line
    ]
    assert lines[0] == [
        "CartPole-v1", "seeds", "mean", "interquartile mean", "by seed", "env steps", "target 4",
    ]  # fmt: skip
    assert lines[2][:2] == ["one", "3"]
    assert lines[2][4] == "1, 2, 3"
    assert [line[-1] for line in lines[2:4]] == ["below by 1", "target within the interval"]
    whole = "With fewer than 4 seeds the interquartile mean leaves none out and is the mean."
    assert whole in outcome.out
    above = command("compare", f"runs=[{tmp_path}/two]", "target=1")
    assert "above by 3" in above.out  # the interval of three seeds goes from the lowest to the highest
    assert "only summaries are left" in outcome.out


def test_a_seed_that_failed_is_shown_and_counted_and_leaves_the_verdict_open(command: Command, tmp_path):
    for seed, score in enumerate([480.0, 500.0, None], 1):
        write_run(tmp_path / "ppo", seed, score, status="finished" if score else "failed")
    (tmp_path / "ppo" / "4").mkdir()
    (tmp_path / "ppo" / "4" / "config.yaml").write_text((tmp_path / "ppo" / "1" / "config.yaml").read_text())
    outcome = command("compare", f"runs=[{tmp_path}/ppo]", "target=475", "figure=curves/all.png")
    assert outcome.status == 0
    assert "| 2 of 4 |" in outcome.out
    assert "480, unfinished (seed 1), 500, failed (seed 3)" in outcome.out
    assert "undecided: 2 of 4 seeds without a score" in outcome.out
    assert "3 has status failed at 40 env steps; without a final score it is in no mean" in outcome.out
    assert outcome.made == ["curves"]


@pytest.mark.usefixtures("light_figures")
def test_the_figure_has_a_panel_per_environment_and_is_a_png(command: Command, tmp_path):
    for env, agent in itertools.product(("CartPole-v1", "Acrobot-v1"), (PPO, A2C)):
        for seed in (1, 2, 3):
            write_run(tmp_path / env / agent[-3:], seed, 100.0 * seed, env=env, agent=agent)
    assert command("compare", f"runs=[{tmp_path}/CartPole-v1]", "figure=one.png").status == 0
    assert command("compare", f"runs=[{tmp_path}]", "figure=two.png").made == ["one.png", "two.png"]
    one, two = (
        np.asarray(Image.open(tmp_path / "here" / f"{name}.png").convert("RGB")).astype(int)
        for name in ("one", "two")
    )
    for picture, panels in ((one, 1), (two, 2)):  # each has an axis at its left
        axes = (np.abs(picture - [0x5C, 0x68, 0x78]).sum(2) < 40).mean(0) > 0.5
        assert (np.diff(np.flatnonzero(axes), prepend=-9) > 3).sum() == panels
    assert (one[0, 0, :3] == 255).all()  # a light background
    assert len(np.unique(one[..., :3].reshape(-1, 3), axis=0)) > 50


def test_the_mean_curve_goes_on_without_a_seed_that_ended_early():
    curves = [{10: 1.0, 20: 2.0, 30: 3.0}, {11: 5.0, 20: 6.0, 30: 7.0}, {10: 0.0, 20: 1.0}]
    grid, middle, low, high = band(curves, 200, 0)
    assert grid.tolist() == [11.0, 20.0, 30.0]
    assert middle == pytest.approx([(1.1 + 5.0 + 0.1) / 3, 3.0, 5.0])
    assert (low <= middle).all()
    assert (middle <= high).all()
    alone = band([{10: 1.0, 20: 2.0}, {10: 3.0, 100: 4.0}], 200, 0)
    assert np.isnan(alone[2][-1])
    assert alone[1][-1] == 4.0


def test_evaluations_that_are_not_a_number_are_left_out_and_told(command: Command, tmp_path):
    run = write_run(tmp_path / "ppo", 1, 300.0)
    writer = Writer(run)
    writer.scalars({"eval/return_mean": math.nan}, 60)
    writer.close()
    [found] = find_runs([str(run)], SCORE)
    assert found.curve == {20: 60.0, 40: 120.0, 80: 240.0, 100: 300.0}
    told = command("compare", f"runs=[{tmp_path}/ppo]", "figure=null").out
    assert f"1 points of the curve of {run} are not numbers, and are left out." in told


def test_any_trainer_can_say_where_its_score_is(tmp_path):
    score = replace(
        SCORE, package="somebody", command="fit", runs="fits", unit="samples", entries=("accuracy",),
        curves=("test/accuracy",), task=("data",), task_options=("data.name",), method="model",
    )  # fmt: skip
    for seed, accuracy in ((1, 0.5), (2, 0.75)):
        run = tmp_path / str(seed)
        run.mkdir()
        tree = {"_target_": "somebody.fit.Config", "model": {"_target_": "somebody.models.Net"}, "seed": seed}
        (run / "config.yaml").write_text(yaml.safe_dump(tree | {"data": {"name": "irises"}}))
        summary = {"status": "finished", "accuracy": accuracy, "samples": 600}
        (run / "summary.json").write_text(json.dumps(summary))
    cfg = CompareConfig(runs=(str(tmp_path),), target=None, figure=None, table=None, resamples=100, seed=0)
    lines = compare_runs(cfg, score).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == [
        "irises", "seeds", "mean", "interquartile mean", "by seed", "samples",
    ]  # fmt: skip
    row = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    assert (row[:2], row[-2:]) == (["Net", "2"], ["0.5, 0.75", "600"])
    with pytest.raises(
        ConfigError, match="does not belong to the reinforcement-learning runs before it: compare takes one"
    ):
        compare_runs(cfg, SCORE)


def test_seeds_whose_last_steps_differ_a_little_stay_together():
    grid, middle, *_ = band([{10: 1.0, 100: 2.0}, {10: 3.0, 101: 4.0}], 200, 0)
    assert (grid[-1], middle[-1]) == (101.0, 3.0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "runs must be a list of run directories or folders of them: type runs=[DIR,...], got null"),
        (["runs=[]"], "runs must be a list of run directories"),
        (["runs=here"], "runs must be a list of strings or null, got 'here'"),
        (["runs=[nowhere]"], "runs: nowhere does not exist"),
        (["runs=[../empty]"], "runs: ../empty holds no run"),
        (["runs=[../kept]", "figure=curves.svg"], "figure must be the name of a .png file or null"),
        (["runs=[../kept]", "resamples=10"], "resamples must be an integer >= 100, got 10"),
        (["runs=[../kept]", "target=high"], "target must be a number or null, got 'high'"),
        (["runs=[../kept]", "tarjet=3"], "unknown option tarjet; did you mean target?"),
        (
            ["runs=[../kept,../other]", "target=3"],
            "target=3 is a score on one task, but runs are on CartPole-v1; A",
        ),
        (["runs=[../kept,../gan]"], "gan does not belong to the reinforcement-learning runs before it"),
        (
            ["runs=[../gan.json]"],
            "gan.json has no score: compare takes reinforcement-learning runs, GANs, watched",
        ),
        (["runs=[../broken.json]"], "broken.json is damaged"),
        (["-m", "runs=[../kept]"], "leave -m out"),
    ],
)
def test_what_cannot_be_compared_is_refused(command: Command, tmp_path, overrides, message):
    keep_summaries(tmp_path / "kept", [1.0, 2.0])
    write_run(tmp_path / "other", 1, 3.0, env="Acrobot-v1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "gan").mkdir()
    tree = {"_target_": "gradgan.train.TrainConfig", "seed": 1}
    (tmp_path / "gan" / "config.yaml").write_text(yaml.safe_dump(tree | dict.fromkeys(lacking(tree))))
    (tmp_path / "gan.json").write_text('{"status": "finished", "fid": 1.0}')
    (tmp_path / "broken.json").write_text('{"status": ')
    assert_refused(command("compare", *overrides), message)


def test_a_damaged_run_is_refused_by_name(tmp_path):
    run = write_run(tmp_path, 1, 1.0)
    (run / "summary.json").write_text("{")
    with pytest.raises(ConfigError, match=r"summary\.json is damaged"):
        find_runs([str(tmp_path)], SCORE)


def test_a_path_that_is_there_is_meant_before_any_pattern(tmp_path):
    for name, score in (("net[1]", 1.0), ("net1", 2.0)):
        write_run(tmp_path / name, 1, score)
    assert [run.path for run in find_runs([str(tmp_path / "net[1]")], SCORE)] == [tmp_path / "net[1]" / "1"]
    assert [run.path for run in find_runs([str(tmp_path / "net[0-9]")], SCORE)] == [tmp_path / "net1" / "1"]
