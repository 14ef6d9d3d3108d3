"""What agents that learn from a replay do in the environment: random actions first, noise later."""

import numpy as np
import pytest
import torch

from gradrl.policies.exploration_noise import NoiseConfig
from tests.gradrl.off_policy import KINDS, experience, filled, make


@pytest.mark.parametrize("kind", KINDS)
def test_exploration_is_uniform_until_learning_starts_and_then_the_policys(kind):
    agent = make(kind, learning_starts=30, **({"noise": NoiseConfig(std=0.0)} if "sac" not in kind else {}))
    act = agent.make_actor(np.random.default_rng(0))
    obs, episode_start = np.zeros((3000, 3), np.float32), np.zeros(3000, np.bool_)
    act.begin(3000)
    action = act(obs, episode_start)
    if kind == "sac_discrete":
        assert np.bincount(action) == pytest.approx([1000] * 3, abs=100)
    else:
        assert action.dtype == np.float32
        counts, _ = np.histogram(action, bins=4, range=(-1, 1))
        assert counts == pytest.approx([1500] * 4, abs=150)
    agent.observe(experience(kind, 0, t=20))
    act.begin(3000)
    if "sac" not in kind:
        with torch.no_grad():
            expected = agent.model.actor(torch.zeros(1, 3)).numpy()
        np.testing.assert_allclose(act(obs, episode_start), np.repeat(expected, 3000, 0), atol=1e-6)


def test_without_a_random_start_the_first_rollout_is_the_policys_own():
    agent = make("td3", learning_starts=0, noise=NoiseConfig(std=0.0))
    act = agent.make_actor(np.random.default_rng(0))
    act.begin(5)
    with torch.no_grad():
        expected = agent.model.actor(torch.zeros(1, 3)).numpy()
    found = act(np.zeros((5, 3), np.float32), np.zeros(5, np.bool_))
    np.testing.assert_allclose(found, np.repeat(expected, 5, 0), atol=1e-6)
    assert agent.learner.warming_up  # there is nothing to learn from yet


def test_state_dependent_exploration_spreads_the_policy_as_its_variance_says():
    agent = make("sac", network={"sde": True, "log_std": -1.0})
    assert "log_std" in agent.actor_step.names
    obs, episode_start = np.full((20_000, 3), 0.3, np.float32), np.zeros(20_000, np.bool_)
    act = agent.model.make_actor(np.random.default_rng(0))
    act.begin(len(obs))
    action = act(obs, episode_start)
    np.testing.assert_array_equal(action, act(obs, episode_start))  # one draw: the same state, the same noise
    with torch.no_grad():
        gaussian = agent.model.actor(torch.from_numpy(obs[:1])).gaussian
    u = np.arctanh(action.astype(np.float64))
    np.testing.assert_allclose(u.mean(0), gaussian.mean[0], atol=0.02)
    np.testing.assert_allclose(u.std(0), gaussian.log_std[0].exp(), rtol=0.02)
    best = agent.model.make_actor(np.random.default_rng(0), deterministic=True)
    best.begin(len(obs))
    np.testing.assert_allclose(best(obs, episode_start)[0], gaussian.mean[0].tanh(), atol=1e-6)


def test_noise_is_added_and_clipped_to_the_box():
    agent = filled("ddpg", noise=NoiseConfig(std=0.7))
    act = agent.make_actor(np.random.default_rng(0))
    act.begin(4000)
    action = act(np.zeros((4000, 3), np.float32), np.zeros(4000, np.bool_))
    with torch.no_grad():
        centre = agent.model.actor(torch.zeros(1, 3)).numpy()
    assert np.abs(action).max() == 1.0
    np.testing.assert_allclose(np.median(action, 0), centre[0], atol=0.05)
