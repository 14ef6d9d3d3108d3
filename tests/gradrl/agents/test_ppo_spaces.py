"""PPO through environments of every kind of space: two rollouts each, from the options to the judgement."""

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from core.cli.job import execute
from core.cli.launch import compose_tree
from core.config import config_dir
from core.run.run import Run
from gradrl.evaluation.evaluator import Evaluator

pytestmark = pytest.mark.usefixtures("blank_figures")

VECTOR = spaces.Box(-1, 1, (3,))
IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
OBSERVATIONS = {
    "vector": VECTOR,
    "image": IMAGE,
    "mixed": spaces.Dict({"camera": IMAGE, "speed": VECTOR, "gears": spaces.Tuple((spaces.Discrete(3),))}),
    "masked": spaces.Dict({"speed": VECTOR, "action_mask": spaces.MultiBinary(5)}),
}
ACTIONS = {
    "choice": spaces.Discrete(5, start=2),
    "choices": spaces.MultiDiscrete([2, 3], start=[1, -1]),
    "switches": spaces.MultiBinary((2, 2)),
    "vector": spaces.Box(-2, 3, (2, 1)),
}


class Sampled(gym.Env):
    """Random observations, episodes of five steps that end in turns by themselves and by the clock.

    What an action may be is checked. A mask always forbids the first option of each choice among several, or
    one random action.
    """

    def __init__(self, observation, action):
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]
        self.kind = action

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
            self.episode = seed % 2
        self.t, self.episode = 0, self.episode + 1
        return self._observe(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        if self.mask is not None:
            chosen = [action - 2] if self.kind == "choice" else [action[0] - 1, action[1] + 3]
            assert self.mask[chosen].all()
        self.t += 1
        done, by_itself = self.t == 5, self.episode % 2 == 0
        return self._observe(), float(np.sum(action)), done and by_itself, done and not by_itself, {}

    def _observe(self):
        obs, self.mask = self.observation_space.sample(), None
        if isinstance(obs, dict) and "action_mask" in obs:
            self.mask = np.ones(5, np.int8)
            self.mask[[0, 2] if self.kind == "choices" else self.np_random.integers(5)] = 0
            obs["action_mask"] = self.mask
        return obs


if "Sampled-v0" not in gym.registry:
    gym.register("Sampled-v0", entry_point=Sampled, disable_env_checker=True)

SHORT = [
    "experiment=none",
    "total_steps=50",
    "num_envs=2",
    "agent.num_steps=16",
    "agent.num_epochs=2",
    "agent.num_minibatches=2",
    "agent.entropy_coef=0.01",
    "evaluation.episodes=2",
    "evaluation.interval_episodes=2",
    "evaluation.num_envs=2",
    "env.vectorization=sync",
    "logging.progress=false",
    "monitor.sample_interval=2",
]
CNN = ["policy=cnn", "policy.convolutions={channels: [4], kernel_sizes: [8], strides: [4], features: 8}"]
CASES = {
    "choice": ("image", "choice", CNN),
    "choices": ("vector", "choices", []),
    "switches": ("mixed", "switches", CNN),
    "vector": ("mixed", "vector", [*CNN, "normalize_observation=true", "policy.state_dependent_std=true"]),
    "masked choice": ("masked", "choice", ["env.autoreset=next_step"]),
    "masked choices": ("masked", "choices", ["normalize_observation=true"]),
    "squashed": ("vector", "vector", ["policy.squash=true"]),
}


@pytest.fixture
def metrics(monkeypatch):
    """What the updates of a run measured."""
    seen, finish_step = [], Run.finish_step

    def noting(self, step, metrics):
        seen.append({name: value.double().mean().item() for name, value in metrics.items()})
        finish_step(self, step, metrics)

    monkeypatch.setattr(Run, "finish_step", noting)
    monkeypatch.setattr(Evaluator, "draw", lambda self: {})
    return seen


def run(directory, *overrides):
    assert execute(compose_tree("rl", [*SHORT, *overrides], [config_dir()])[0], directory) == 0
    return json.loads((directory / "summary.json").read_text())


def check(summary, metrics):
    assert summary["status"] == "finished"
    assert summary["updates"] == len(metrics) * 4 == 8
    assert all(np.isfinite(value) for row in metrics for value in row.values())
    assert all(row["policy/approx_kl"] > 0 for row in metrics)  # the policy moved
    assert np.isfinite(summary["eval_return_mean"])


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_space_is_learnt_from(case, tmp_path, metrics):
    observation, action, overrides = CASES[case]
    env = ["env=by_id", "env.id=Sampled-v0", f"+env.kwargs={{observation: {observation}, action: {action}}}"]
    check(run(tmp_path / "run", *env, *overrides), metrics)
    assert all({"episode/return", "loss/value"} <= row.keys() for row in metrics)


@pytest.mark.parametrize("interval", ["null", "4"])
def test_state_dependent_exploration_is_learnt_from(interval, tmp_path, metrics):
    overrides = ["env=pendulum", "policy.sde=true", "policy.log_std=-2", f"policy.sde_interval={interval}"]
    check(run(tmp_path / "run", *overrides, "evaluation.max_episode_steps=20"), metrics)
