"""`init_from`: an agent begins with the weights of another."""

import json
import shutil

import pytest
import torch
from gymnasium import spaces

from core.cli.job import check, execute
from core.cli.resume import resume_run
from core.config import ConfigError
from core.run import checkpoint
from core.run.initial import take_over
from core.run.saved import read_saved
from gradrl.policy import TRAINED
from tests.gradrl.saved_runs import BOX3, make_model, write_run
from tests.gradrl.test_train import SHORT, tree

pytestmark = pytest.mark.usefixtures("blank_figures")

SEEN = ["normalize_observation=true", "normalize_reward=true", "logging.checkpoint_interval=100"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("trained") / "run"
    assert execute(tree(*SHORT, *SEEN), directory) == 0
    return directory


def state(directory, name="last"):
    return checkpoint.load(directory / "checkpoints" / f"{name}.pt")


def test_weights_and_statistics_are_taken_over_and_counters_begin_at_0(trained, tmp_path):
    before = state(trained)
    options = tree(*SHORT, *SEEN, f"init_from={trained}", "seed=5", "optimizer.lr=0", "clipper=none")
    assert execute(options, tmp_path / "new") == 0
    after = state(tmp_path / "new")
    for name, weight in before["policy"].items():
        assert torch.equal(after["policy"][name], weight)
    steps = after["run"]["step"]
    assert 300 <= steps < 300 + 2 * 16  # the budget, counted from 0, and the rest of a rollout
    for normalizer in ("observation_normalizer", "reward_normalizer"):
        assert after[normalizer]["count"] == before[normalizer]["count"] + steps


def test_without_statistics_only_weights_are_taken_over(trained, tmp_path):
    off = ["init_statistics=false", "normalize_observation=false"]
    options = tree(*SHORT, f"init_from={trained}", "optimizer.lr=0", *off, "normalize_reward=true")
    assert execute(options, tmp_path / "new") == 0
    after = state(tmp_path / "new")
    assert torch.equal(after["policy"]["actor.0.weight"], state(trained)["policy"]["actor.0.weight"])
    assert after["reward_normalizer"]["count"] == after["run"]["step"]


def test_the_run_may_be_gone_when_its_successor_is_resumed(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "old")
    options = tree(*SHORT, *SEEN, f"init_from={tmp_path / 'old'}")
    assert execute(options, tmp_path / "new") == 0
    shutil.rmtree(tmp_path / "old")
    assert resume_run(tmp_path / "new", ["total_steps=400"], "rl") == 0
    assert json.loads((tmp_path / "new" / "summary.json").read_text())["env_steps"] >= 400


def test_a_checkpoint_can_be_named(trained):
    check(tree(*SHORT, *SEEN, f"init_from={trained}/checkpoints/best.pt"))
    with pytest.raises(ConfigError, match="must be last, best or good"):
        check(tree(*SHORT, *SEEN, f"init_from={trained}/checkpoints/other.pt"))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["policy.hidden_sizes=[64]"],
            r"policy\.actor\.2\.weight is \[64, 64\] there and \[2, 64\] here.*"
            r"actor\.4\.bias is \[2\] there and missing",
        ),
        (["env=acrobot", "experiment=none"], "observation_space is .* there and .* here; action_space"),
        (["normalize_observation=false"], "trained with normalize_observation=true"),
        (["init_from=/nowhere"], "init_from=/nowhere: there is no run in /nowhere"),
    ],
)
def test_what_does_not_fit_is_listed_before_anything_is_made(trained, overrides, words):
    with pytest.raises(ConfigError, match=words) as caught:
        check(tree(*SHORT, *SEEN, f"init_from={trained}", *overrides))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", [None, 3, {}, {"actor.0.weight": "text"}, {3: torch.zeros(1)}])
def test_weights_that_are_none_are_refused_in_one_line(weights, tmp_path):
    write_run(tmp_path)
    checkpoint.save(tmp_path / "checkpoints" / "last.pt", {"policy": weights})
    model, _ = make_model("actor_critic", BOX3, spaces.Discrete(4))
    untouched = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(ConfigError, match="layers do not fit"):
        take_over({"policy": model}, read_saved(tmp_path, TRAINED), statistics=True)
    assert all(torch.equal(t, untouched[name]) for name, t in model.state_dict().items())
