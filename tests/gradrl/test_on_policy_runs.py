"""Whole runs of the on-policy agents: what they reach, and that a resumed one is the same to the bit."""

import json

import pytest

from core.run.config import config_dir
from core.run.job import execute
from core.run.launch import compose_tree
from core.run.resume import resume_run
from core.run.run import Run
from gradrl.judge import Judge
from tests.test_resume import Killed, differences

QUIET = ["logging.progress=false", "logging.draw_interval=1000000"]
SHORT = [
    *QUIET,
    "recipe=none",
    "num_envs=2",
    "total_steps=640",
    "agent.num_steps=32",
    "evaluation.episodes=2",
    "evaluation.interval_episodes=2",
    "evaluation.num_envs=2",
    "logging.eval_interval=300",
    "logging.checkpoint_interval=100",
    "monitor.sample_interval=3",
    "normalize_observation=true",
    "schedule=linear",
]
ALL = {
    "a2c": ["probe=[noise,curvature,policy_gradient]", "probe.policy_gradient.interval=4"],
    "reinforce": ["agent.baseline=mean", "probe=[noise,policy_gradient]", "probe.policy_gradient.interval=4"],
    "vtrace": ["agent.policy_lag=3", "probe=[noise,curvature]", "probe.curvature.interval=4"],
    "npg": [
        "env=pendulum",
        "agent.num_critic_updates=2",
        "probe=[noise,policy_gradient]",
        "probe.policy_gradient.interval=4",
    ],
    "trpo": [
        "agent.num_critic_updates=2",
        "probe=[noise,curvature,policy_gradient]",
        "probe.curvature.interval=4",
    ],
}


@pytest.fixture(autouse=True)
def without_films(monkeypatch):
    monkeypatch.setattr(Judge, "draw", lambda self: {})


def tree(agent, *words):
    return compose_tree("rl", [f"agent={agent}", *words], [config_dir()])[0]


@pytest.mark.slow
@pytest.mark.parametrize("agent", ALL)
def test_a_run_that_dies_and_is_resumed_ends_the_same(agent, tmp_path, monkeypatch):
    words = [*SHORT, *ALL[agent]]
    assert execute(tree(agent, *words), tmp_path / "whole") == 0
    left, finish_step = iter(range(5)), Run.finish_step

    def dying(self, step, metrics):
        if next(left, None) is None:
            raise Killed
        finish_step(self, step, metrics)

    monkeypatch.setattr(Run, "finish_step", dying)
    with pytest.raises(Killed):
        execute(tree(agent, *words), tmp_path / "run")
    monkeypatch.setattr(Run, "finish_step", finish_step)
    assert resume_run(tmp_path / "run", []) == 0
    assert differences(tmp_path / "whole", tmp_path / "run") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "steps", "reached"), [("a2c", 12000, 100), ("trpo", 8000, 250), ("vtrace", 8000, 60)]
)
def test_cartpole_is_balanced_several_times_longer_after_some_thousand_steps(agent, steps, reached, tmp_path):
    words = [
        *QUIET,
        "seed=1",
        f"total_steps={steps}",
        f"logging.eval_interval={steps}",
        "evaluation.episodes=20",
    ]
    assert execute(tree(agent, *words), tmp_path / "run") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["eval_return_mean"] >= reached  # a random policy reaches 22
