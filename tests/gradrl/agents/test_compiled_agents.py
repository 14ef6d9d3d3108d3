"""Agents under `compile=update`: the numbers of eager ones, graphs that are enough, resuming, refusals."""

import pytest
import torch

from core.cli.job import check, execute
from core.cli.launch import compose_tree
from core.cli.resume import resume_run
from core.config import ConfigError, config_dir
from core.run import compiled
from core.run.tensorboard import read_scalars
from gradrl.evaluation.evaluator import Evaluator
from tests.gradrl.agents.test_agent_runs import ALL, QUIET
from tests.test_resume import differences, dying
from tests.thinned import thinned

SHORT = [
    *QUIET,
    "experiment=none",
    "num_envs=2",
    "total_steps=320",
    "evaluation.episodes=2",
    "evaluation.num_envs=2",
    "logging.eval_interval=1000000",
    "logging.checkpoint_interval=100",
    "monitor.sample_interval=3",
    "schedule=linear",
]
PPO = ["agent.num_steps=32", "agent.num_epochs=2", "agent.clip_schedule=linear"]
AGENTS = ALL | {
    "ppo": [*PPO, "probe=[noise,curvature]", "probe.noise.interval=4", "probe.curvature.interval=4"]
}


@pytest.fixture(autouse=True)
def without_films(monkeypatch):
    monkeypatch.setattr(Evaluator, "draw", lambda self: {})


def tree(agent, *overrides):
    return compose_tree("rl", [f"agent={agent}", *SHORT, *AGENTS[agent], *overrides], [config_dir()])[0]


def parameters(directory):
    saved = torch.load(directory / "checkpoints" / "last.pt", weights_only=True)
    return saved["policy"]


@pytest.mark.slow
@pytest.mark.parametrize("agent", thinned(sorted(AGENTS.keys() - {"ppo_recurrent"}), 3, pytest.mark.long))
def test_a_compiled_run_is_the_eager_one_but_for_rounding(agent, tmp_path, monkeypatch, capsys):
    steps = []
    began = compiled.begin_compiling
    monkeypatch.setattr(
        "gradrl.train.begin_compiling", lambda mode, s, say: (steps.extend(s), began(mode, s, say))
    )
    for mode in ("off", "update"):
        assert execute(tree(agent, f"compile={mode}"), tmp_path / mode) == 0
    assert "eagerly" not in capsys.readouterr().out
    graphs = [step.compiled.graphs for step in steps if step.compiled]
    assert graphs
    assert all(1 <= len(of_step) <= 3 for of_step in graphs)
    eager, fast = parameters(tmp_path / "off"), parameters(tmp_path / "update")
    for name, value in eager.items():
        torch.testing.assert_close(fast[name], value, rtol=1e-3, atol=1e-4, msg=name)
    tags = read_scalars(tmp_path / "off").keys()
    assert tags == read_scalars(tmp_path / "update").keys()


@pytest.mark.slow
def test_a_compiled_run_that_dies_and_is_resumed_ends_the_same(tmp_path):
    options = tree("ppo", "compile=update")
    assert execute(options, tmp_path / "whole") == 0
    with dying(3):
        execute(options, tmp_path / "run")
    with pytest.raises(ConfigError, match="compile=off cannot change while resuming"):
        resume_run(tmp_path / "run", ["compile=off"], "rl")
    assert resume_run(tmp_path / "run", [], "rl") == 0
    assert differences(tmp_path / "whole", tmp_path / "run") == []


def test_another_way_of_compiling_is_refused():
    with pytest.raises(ConfigError, match="compile must be one of off, update"):
        execute(tree("ppo", "compile=all"), None)


def test_a_network_of_ones_own_is_not_compiled():
    words = ("policy.network={_target_:torch.nn.Flatten}", "compile=update")
    with pytest.raises(ConfigError, match="compile must be off with a network of one's own, got 'update'"):
        check(tree("ppo", *words))


@pytest.mark.parametrize("agent", sorted(AGENTS))
def test_every_agent_of_ours_may_be_compiled(agent):
    check(tree(agent, "compile=update"))
