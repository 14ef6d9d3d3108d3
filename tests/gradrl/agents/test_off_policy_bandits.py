"""What DDPG, TD3 and SAC learn on bandits whose answer is known."""

import numpy as np
import pytest
import torch

from gradrl.policies.exploration_noise import NoiseConfig
from tests.gradrl.off_policy import make
from tests.gradrl.rollouts import rollout


def bandit(agent, reward, rounds, batch=64):
    """One state, one step per episode: act, be paid, learn."""
    act, obs, episode_start = (
        agent.make_actor(np.random.default_rng(0)),
        torch.zeros(2, batch, 1),
        np.ones(batch, np.bool_),
    )
    ends = torch.ones(1, batch, dtype=torch.bool)
    for _ in range(rounds):
        act.begin(batch)
        action = torch.from_numpy(act(np.zeros((batch, 1), np.float32), episode_start))[None]
        agent.update(rollout(obs, action, reward(action), terminated=ends), 0.0)
    return agent


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddpg", "td3"])
def test_a_deterministic_policy_finds_the_best_action_of_a_bandit(kind):
    agent = make(
        kind, size=1, hidden=(32, 32), lr=5e-3, learning_starts=256, batch_size=64, noise=NoiseConfig(std=0.3)
    )
    bandit(agent, lambda a: -(a - torch.tensor([0.5, -0.25])).square().sum(-1), 300)
    with torch.no_grad():
        torch.testing.assert_close(
            agent.model.actor(torch.zeros(1, 1))[0], torch.tensor([0.5, -0.25]), atol=0.1, rtol=0
        )


@pytest.mark.slow
def test_soft_actor_critic_finds_the_boltzmann_distribution_of_a_bandit_of_choices():
    rewards = torch.tensor([0.0, 0.3, 1.0])
    agent = make(
        "sac_discrete", size=1, hidden=(32,), lr=5e-3, learning_starts=256, batch_size=64, temperature=0.4
    )
    bandit(agent, lambda a: rewards[a], 300)
    with torch.no_grad():
        probabilities = agent.model.actor(torch.zeros(1, 1)).log_probs.exp()[0]
    torch.testing.assert_close(probabilities, (rewards / 0.4).softmax(-1), atol=0.01, rtol=0)


@pytest.mark.slow
def test_a_learnt_temperature_brings_the_entropy_to_its_target():
    agent = make(
        "sac", size=1, hidden=(32,), lr=1e-2, learning_starts=256, batch_size=64, target_entropy=-1.0
    )
    bandit(agent, lambda a: -4 * (a - 0.5).square().sum(-1), 500)
    obs, generator = torch.zeros(4000, 1), torch.Generator().manual_seed(0)
    with torch.no_grad():
        action, log_prob = agent.model.actor(obs).rsample_with_log_prob(generator)
    assert -log_prob.mean().item() == pytest.approx(-1.0, abs=0.15)
    torch.testing.assert_close(action.mean(0), torch.full((2,), 0.5), atol=0.1, rtol=0)
