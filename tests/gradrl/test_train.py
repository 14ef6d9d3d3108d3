"""The configuration, the loop as a whole, and judging a run again."""

import json

import pytest
import torch

from core.cli.job import check, execute, numbers
from core.cli.launch import compose_tree
from core.cli.resume import resume_run
from core.cli.saved import saved_options
from core.config import ConfigError, build, config_dir
from core.run.tensorboard import read_scalars
from gradrl.agents.ppo import PPOConfig
from gradrl.evaluate import evaluate_run
from gradrl.ranks import settled
from gradrl.train import random_steps

pytestmark = pytest.mark.usefixtures("blank_figures")

SHORT = [
    "total_steps=300",
    "num_envs=2",
    "agent.num_steps=16",
    "agent.num_epochs=1",
    "agent.num_minibatches=2",
    "evaluation.episodes=3",
    "evaluation.interval_episodes=2",
    "evaluation.num_envs=2",
    "logging.eval_interval=100",
    "logging.progress=false",
]


def tree(*overrides):
    return compose_tree("rl", list(overrides), [config_dir()])[0]


def names(group):
    return sorted(p.stem for p in (config_dir() / group).glob("*.yaml"))


def test_words_on_the_command_line_win_over_the_experiment():
    options = tree("agent.num_steps=64", "optimizer.lr=0.5", "num_envs=4", "schedule=cosine")
    assert options["agent"]["num_steps"] == 64
    assert options["agent"]["gae_lambda"] == 0.8
    assert options["optimizer"]["lr"] == 0.5
    assert options["num_envs"] == 4
    assert options["schedule"]["_target_"].endswith("Cosine")


def test_an_environment_by_id_has_no_experiment():
    options = tree("env=by_id", "env.id=CartPole-v1")
    assert options["agent"]["num_steps"] == PPOConfig().num_steps


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["total_steps=0"], "total_steps must be an integer >= 1, got 0"),
        (
            ["experiment=rl/td3_pendulum", "total_steps=9999"],
            "total_steps must be at least agent.learning_starts",
        ),
        (["num_envs=-1"], "num_envs must be"),
        (["seed=-3"], "seed must be"),
        (["num_threads=0"], "num_threads must be"),
        (["agent.clip_coef=2"], r"agent.clip_coef must be in \(0, 1\), got 2.0"),
        (["agent.num_minibatches=7"], "agent.num_minibatches must be a divisor of"),
        (["agent.clip_schedule=quadratic"], "agent.clip_schedule must be one of"),
        (["evaluation.episodes=0"], "evaluation.episodes must be"),
        (["policy.hidden_sizes=[0]"], "policy.hidden_sizes must be a list of integers >= 1"),
        (["policy.activation=gelu"], "policy.activation must be one of"),
        (["env=by_id"], "env.id must be"),
        (["env=by_id", "env.id=Acrobat-v1"], r"did you mean Acrobot-v1\?"),
        (["env=by_id", "env.id=Unsupported-v0", "+env.kwargs={observation: text}"], "is Text"),
        (["env.import_module=nowhere"], "env.import_module=nowhere cannot be imported"),
        (["env.vectorization=threads"], "env.vectorization must be one of"),
        (
            ["agent.num_steps=1000000000"],
            r"agent.num_steps must be smaller, got 1000000000: 119 GiB are more than",  # x 8 x 4 float32
        ),
        (
            ["agent=sac", "env=pendulum", "agent.replay_size=100000000000"],
            "agent.replay_size must be smaller",
        ),
        (["device=cuda:63"], "device=cuda:63 is not available: this machine has"),
    ],
)
def test_bad_options_end_in_one_line_before_anything_is_made(overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        check(tree(*overrides))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("total", "told"), [(20_000, False), (19_999, True), (10_000, True)])
def test_it_is_said_where_most_steps_are_random(total, told):
    cfg = build(tree("experiment=rl/td3_pendulum", f"total_steps={total}"))
    line = f"agent.learning_starts=10000: the first 10,000 of {total:,} env steps are random"
    assert [line in said for said in random_steps(cfg)] == [True] * told


def test_an_agent_that_learns_at_once_has_no_random_steps_to_tell_of():
    assert not list(random_steps(build(tree("total_steps=1"))))


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    overrides = [*SHORT, "normalize_observation=true", "normalize_reward=true", "env.vectorization=sync"]
    assert execute(tree(*overrides), directory) == 0
    return directory


def test_a_run_leaves_the_summary_that_is_promised(short_run):
    summary = json.loads((short_run / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["env_steps"] == 320  # 300 rounded up to whole rollouts of 32
    assert summary["updates"] == 20
    assert summary["eval_episodes"] == 3
    assert 8 <= summary["eval_return_mean"] <= 500
    during = [value for step, value in read_scalars(short_run)["eval/return_mean"].items() if step < 320]
    kept = torch.load(short_run / "checkpoints" / "best.pt", weights_only=True)["run"]
    assert summary["best_eval_return_mean"] == kept["best_score"] == max(during)
    assert summary["solved_at_env_steps"] is None
    assert summary["env_steps_per_s"] > 0
    assert (short_run / "media" / "agent.gif").stat().st_size > 1000


def test_a_search_is_told_before_a_run_which_numbers_it_will_leave(short_run):
    found = {**json.loads((short_run / "summary.json").read_text()), **read_scalars(short_run)}
    known = numbers(tree(*SHORT))
    assert {*known} <= found.keys()
    assert {tag for tag in found if tag.startswith("eval")} <= {*known}
    assert numbers(tree(*SHORT, "callbacks=[{_target_: core.run.callbacks.Callback}]")) is None


def test_reset_steps_of_the_native_version_are_not_counted(tmp_path):
    assert execute(tree(*SHORT), tmp_path / "native") == 0
    summary = json.loads((tmp_path / "native" / "summary.json").read_text())
    assert 300 <= summary["env_steps"] < 332


@pytest.mark.parametrize(("ranks", "taken"), [(1, "native"), (2, "sync")])
def test_a_run_keeps_the_copies_that_auto_took_for_its_number_of_ranks(tmp_path, monkeypatch, ranks, taken):
    options = tree(*SHORT, "env=cartpole", "total_steps=64", "logging.draw_interval=100000000")
    assert options["env"]["vectorization"] == "auto"
    with monkeypatch.context() as begun:
        begun.setattr("gradrl.ranks.num_ranks", lambda: ranks)
        assert execute(options, tmp_path) == 0
    assert saved_options(tmp_path)["env"]["vectorization"] == taken
    assert resume_run(tmp_path, ["total_steps=128"], "rl") == 0  # under one process, with the same copies
    assert saved_options(tmp_path)["env"]["vectorization"] == taken


def test_auto_is_kept_where_any_number_of_ranks_takes_the_same():
    options = tree("env=acrobot")
    assert settled(build(options), options) == options


def test_a_finished_run_judged_again_gives_the_final_evaluation(short_run):
    summary = json.loads((short_run / "summary.json").read_text())
    again = evaluate_run(short_run, 3, "last", True, None)
    assert again["eval_return_mean"] == summary["eval_return_mean"]
    assert again["eval_return_std"] == summary["eval_return_std"]
    other = evaluate_run(short_run, 5, "best", False, 7)
    assert other["eval_episodes"] == 5
    assert other["eval_return_min"] <= other["eval_return_mean"] <= other["eval_return_max"]


def test_judging_what_is_no_run_is_refused(short_run, tmp_path):
    with pytest.raises(ConfigError, match="no run"):
        evaluate_run(tmp_path, 1, "last", True, None)
    with pytest.raises(ConfigError, match="no checkpoint at"):
        evaluate_run(short_run, 1, "first", True, None)


def test_a_checkpoint_of_another_network_is_refused(short_run, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    config = (short_run / "config.yaml").read_text().replace("- 64", "- 32")
    (tmp_path / "config.yaml").write_text(config)
    (tmp_path / "checkpoints" / "last.pt").write_bytes((short_run / "checkpoints" / "last.pt").read_bytes())
    with pytest.raises(ConfigError, match="another network"):
        evaluate_run(tmp_path, 1, "last", True, None)


def test_checkpoints_are_read_without_running_code(short_run):
    state = torch.load(short_run / "checkpoints" / "last.pt", weights_only=True)
    assert {"policy", "collector", "generators", "observation_normalizer", "reward_normalizer", "run"} <= set(
        state
    )


@pytest.mark.slow
def test_cartpole_is_balanced_five_times_longer_after_eight_thousand_steps(tmp_path):
    overrides = [
        "seed=1",
        "total_steps=8000",
        "evaluation.episodes=20",
        "logging.progress=false",
        "logging.eval_interval=8000",
    ]
    assert execute(tree(*overrides), tmp_path / "run") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["eval_return_mean"] >= 100  # a random policy reaches 22; seeds 1 and 2 reached 126 and 138
