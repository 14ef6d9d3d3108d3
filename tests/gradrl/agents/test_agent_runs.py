"""Whole runs of every agent: what they reach, and that a resumed one is the same to the bit."""

import json

import pytest

from core.cli.job import execute
from core.cli.launch import compose_tree
from core.cli.resume import resume_run
from core.config import config_dir
from gradrl.evaluation.evaluator import Evaluator
from tests.test_resume import differences, dying

pytestmark = pytest.mark.usefixtures("blank_figures")

QUIET = ["logging.progress=false", "logging.draw_interval=1000000"]
SHORT = [
    *QUIET,
    "experiment=none",
    "num_envs=2",
    "total_steps=640",
    "evaluation.episodes=2",
    "evaluation.interval_episodes=2",
    "evaluation.num_envs=2",
    "logging.eval_interval=300",
    "logging.checkpoint_interval=100",
    "monitor.sample_interval=3",
    "schedule=linear",
]
ROLLOUTS = ["agent.num_steps=32", "normalize_observation=true"]
REPLAY = ["env=pendulum", "policy.hidden_sizes=[16]", "agent.learning_starts=100", "agent.num_steps=16"]
ALL = {
    "a2c": [*ROLLOUTS, "probe=[noise,curvature,policy_gradient]", "probe.policy_gradient.interval=4"],
    "reinforce": [
        *ROLLOUTS,
        "agent.baseline=mean",
        "probe=[noise,policy_gradient]",
        "probe.policy_gradient.interval=4",
    ],
    "vtrace": [*ROLLOUTS, "agent.policy_lag=3", "probe=[noise,curvature]", "probe.curvature.interval=4"],
    "npg": [
        *ROLLOUTS,
        "env=pendulum",
        "agent.num_critic_updates=2",
        "probe=[noise,policy_gradient]",
        "probe.policy_gradient.interval=4",
    ],
    "trpo": [
        *ROLLOUTS,
        "agent.num_critic_updates=2",
        "probe=[noise,curvature,policy_gradient]",
        "probe.curvature.interval=4",
    ],
    "ppo_kl": [*ROLLOUTS, "agent.num_epochs=2"],
    "ppo_recurrent": [*ROLLOUTS, "env=cartpole_no_velocity", "agent.num_minibatches=2", "agent.num_epochs=2"],
    "ppo_rnd": [*ROLLOUTS, "agent.num_epochs=2"],
    "ppo_noveld": ["env=taxi", "agent.num_steps=32", "agent.num_epochs=2"],
    "ddpg": [*REPLAY, "agent.noise.kind=ornstein_uhlenbeck"],
    "td3": REPLAY,
    "sac": [*REPLAY, "policy.sde=true", "policy.sde_interval=4", "probe=[noise]", "probe.noise.interval=5"],
}


@pytest.fixture(autouse=True)
def without_films(monkeypatch):
    monkeypatch.setattr(Evaluator, "draw", lambda self: {})


def tree(agent, *overrides):
    return compose_tree("rl", [f"agent={agent}", *overrides], [config_dir()])[0]


@pytest.mark.slow
@pytest.mark.parametrize("agent", ALL)
def test_a_run_that_dies_and_is_resumed_ends_the_same(agent, tmp_path):
    overrides = [*SHORT, *ALL[agent]]
    assert execute(tree(agent, *overrides), tmp_path / "whole") == 0
    with dying(5):
        execute(tree(agent, *overrides), tmp_path / "run")
    assert resume_run(tmp_path / "run", [], "rl") == 0
    assert differences(tmp_path / "whole", tmp_path / "run") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "steps", "reached"), [("a2c", 30000, 100), ("trpo", 8000, 250), ("vtrace", 8000, 60)]
)
def test_cartpole_is_balanced_several_times_longer_after_some_thousand_steps(agent, steps, reached, tmp_path):
    overrides = [
        *QUIET,
        "seed=1",
        "schedule=constant",  # a page's rate may fall to 0 over the run, which is far shorter here
        f"total_steps={steps}",
        f"logging.eval_interval={steps}",
        "evaluation.episodes=20",
    ]
    assert execute(tree(agent, *overrides), tmp_path / "run") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["eval_return_mean"] >= reached  # a random policy reaches 22
