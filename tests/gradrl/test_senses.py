"""What is odd about transitions: on environments of which it is known, and on numbers."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from gradrl.envs.observations import Observation
from gradrl.experience.replay import Transitions
from gradrl.experience.senses import CHANCE, odd_experience

COUNT = 1000


def transitions(obs, action, next_obs, reward=None) -> Transitions:
    count = len(obs)
    reward = torch.zeros(count) if reward is None else reward
    return Transitions(
        obs=obs, action=action, reward=reward, next_obs=next_obs, terminated=torch.zeros(count)
    )


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def walk(correlation: float, influence: float) -> Transitions:
    """A chain x' = c x + sqrt(1 - c^2) e, which actions of deviation 1 move by `influence`."""
    obs, action, noise = drawn(COUNT, 2), drawn(COUNT, 1, seed=1), drawn(COUNT, 2, seed=2)
    following = correlation * obs + math.sqrt(1 - correlation**2) * noise
    return transitions(obs, action, following + influence * action)


def test_what_is_seen_and_can_be_changed_is_not_odd():
    assert odd_experience(walk(0.9, 0.5)) == {}


def test_noise_has_no_memory_and_its_correlation_is_below_chance():
    found = odd_experience(walk(0.0, 1.0))
    assert list(found) == ["experience/memory"]
    assert found["experience/memory"] < CHANCE / math.sqrt(COUNT)


def test_actions_that_change_nothing_have_no_influence():
    seen = walk(0.9, 0.0)
    found = odd_experience(seen)
    assert list(found) == ["experience/influence"]
    changed = (seen.next_obs - seen.obs).double()
    rows = torch.cat([seen.action.double(), changed, seen.next_obs.double()], 1).T
    wanted = np.abs(np.corrcoef(rows.numpy())[0, 1:]).max()
    assert found["experience/influence"] == pytest.approx(wanted, rel=1e-6)


def test_an_action_that_only_the_reward_knows_of_has_influence():
    seen = walk(0.9, 0.0)
    assert odd_experience(transitions(seen.obs, seen.action, seen.next_obs, seen.action[:, 0])) == {}


def test_an_observation_that_no_step_changes_is_said_whatever_else():
    seen = walk(0.9, 0.5)
    assert odd_experience(transitions(seen.obs, seen.action, seen.obs)) == {"experience/unchanged": 1.0}


@pytest.mark.parametrize("count", [0, 31])
def test_nothing_is_said_of_few_transitions(count):
    seen = walk(0.0, 0.0)
    few = transitions(seen.obs[:count], seen.action[:count], seen.next_obs[:count])
    assert odd_experience(few) == {}


def test_a_policy_that_always_does_the_same_tells_nothing_of_actions():
    seen = walk(0.9, 0.0)
    assert odd_experience(transitions(seen.obs, torch.zeros(COUNT, dtype=torch.int64), seen.next_obs)) == {}


@pytest.mark.parametrize(
    "name", ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "Pendulum-v1", "FrozenLake-v1", "Blackjack-v1"]
)
def test_actions_at_random_are_felt_in_customary_environments(name):
    env = gym.make(name)
    observation = Observation(env.observation_space)
    env.action_space.seed(3)
    rows = []
    obs, _ = env.reset(seed=3)
    for _ in range(COUNT):
        action = env.action_space.sample()
        following, reward, terminated, truncated, _ = env.step(action)
        rows.append((observation.encode_one(obs), action, reward, observation.encode_one(following)))
        obs = env.reset()[0] if terminated or truncated else following
    columns = [torch.as_tensor(np.array(column)) for column in zip(*rows, strict=True)]
    seen, action, reward, following = columns
    found = odd_experience(transitions(seen.float(), action, following.float(), reward.float()))
    assert found == {}
