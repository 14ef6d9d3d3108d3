"""Every mistake is the fault that it says it is."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from gradgan.networks.mlp import MLP
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.policies.networks import MLPConfig
from scripts.suites import mistakes, worlds

OPTIONS = {"width": 8, "depth": 2, "slope": 0.0, "spectral_norm": False}


def played(wrapper, steps=6, **options):
    """Observations, rewards and ends of a mass that is pushed to the right."""
    env = wrapper(gym.make("Mass-v0"), **options)
    seen = [env.reset(seed=1)[0]]
    env.action_space.seed(1)
    rewards, ends = [], []
    for _ in range(steps):
        obs, reward, terminated, _, _ = env.step(np.array([1.0, 0.0], np.float32))
        seen, rewards, ends = [*seen, obs], [*rewards, reward], [*ends, terminated]
    return np.stack(seen), rewards, ends


def policy(kind):
    env = gym.make("CartPole-v1")
    spaces = Observation(env.observation_space), action_decoder(env.action_space)
    return kind(MLPConfig(hidden_sizes=(8, 8)), *spaces, torch.Generator().manual_seed(0))


def test_a_walk_to_the_corner_is_rewarded_there_and_costs_what_it_takes():
    env = worlds.Cells()
    env.reset(seed=0)
    env._cell = np.array([worlds.SIDE - 2, worlds.SIDE - 1])
    obs, reward, there, _, _ = env.step(0)
    assert (obs.tolist(), reward, there) == ([1.0, 1.0], pytest.approx(0.98), True)


def test_a_mass_goes_where_it_is_pushed():
    seen, rewards, _ = played(lambda env: env)
    assert np.all(np.diff(seen[:, 0]) > 0)
    assert rewards == pytest.approx((-np.hypot(seen[1:, 0], seen[1:, 1])).tolist(), rel=1e-6)


def test_what_is_observed_is_another_thing():
    plain = played(lambda env: env)[0]
    assert np.allclose(played(mistakes.ScaledObservation, scale=10.0)[0], 10 * plain)
    assert np.all(played(mistakes.ConstantObservation)[0] == 0.5)
    assert np.all(played(mistakes.HeldObservation)[0] == plain[0])
    noise = played(mistakes.NoiseObservation)[0]
    assert np.all(np.abs(noise) <= 1)
    assert len(np.unique(noise)) == noise.size


def test_rewards_actions_and_ends_are_others():
    assert played(mistakes.ConstantReward)[1] == [1.0] * 6
    assert not np.allclose(played(mistakes.IgnoredAction)[0], played(lambda env: env)[0])
    assert played(mistakes.CutShort, at=3)[2] == [False, False, True, True, True, True]
    env = mistakes.Unended(worlds.Cells())
    env.reset(seed=0)
    env.unwrapped._cell = np.array([worlds.SIDE - 2, worlds.SIDE - 1])
    assert env.step(0)[2] is False


def test_a_cut_critic_has_no_gradient_and_constant_weights_are_constant():
    model = policy(mistakes.CutCritic)
    distribution, value = model(torch.randn(5, 4))
    (distribution.entropy().mean() + value.sum()).backward()
    assert all(p.grad is None for p in model.critic.parameters())
    for kind, wanted in ((mistakes.Zeros, 0.0), (mistakes.Alike, 0.1)):
        weights = torch.cat([p.flatten() for n, p in policy(kind).named_parameters() if n.endswith("weight")])
        assert torch.all(weights == wanted)


def test_a_deaf_generator_makes_one_sample():
    generator = mistakes.DeafGenerator(**OPTIONS).generator(3, (2,), torch.Generator().manual_seed(0))
    samples = generator(torch.randn(20, 3))
    assert torch.all(samples == samples[0])
    healthy = MLP(**OPTIONS).generator(3, (2,), torch.Generator().manual_seed(0))
    assert len(torch.unique(healthy(torch.randn(20, 3)), dim=0)) > 1


def test_bytes_are_bytes():
    data = mistakes.ByteDigits(held_out=450)
    batch = data.stream(64, torch.Generator().manual_seed(0), torch.device("cpu")).next()
    assert batch.x.max() == 255.0
    assert batch.x.min() == 0.0


@pytest.mark.parametrize("mistake", ["shuffled", "thirty", "one_label", "bytes"])
def test_samples_to_learn_from_are_spoilt_and_others_are_not(mistake):
    spoilt, data = mistakes.MistakenDigits(mistake=mistake).load(), mistakes.DigitsMLP().load()
    assert torch.equal(spoilt.held_out_y, data.held_out_y)
    if mistake == "shuffled":
        assert torch.equal(spoilt.y.bincount(), data.y.bincount())
        assert (spoilt.y == data.y).double().mean() < 0.2
    if mistake == "thirty":
        assert len(spoilt.x) == len(spoilt.y) == 30
    if mistake == "one_label":
        assert spoilt.y.unique().tolist() == [0]
    if mistake == "bytes":
        assert spoilt.x.max() == 255.0


def test_losses_are_the_negative_and_that_of_probabilities():
    x, y = torch.zeros(4, 10, dtype=torch.float64), torch.arange(4)
    x[torch.arange(4), y] = 50.0  # sure, and right
    right = mistakes.DigitsMLP().loss(lambda z: z, x, y)
    negative = mistakes.MistakenDigits(mistake="negative").loss(lambda z: z, x + 0.0, y)
    assert negative.item() == -right.item()
    twice = mistakes.MistakenDigits(mistake="softmax").loss(lambda z: z, x, y)
    assert twice.item() == pytest.approx(np.log(np.e + 9) - 1, rel=1e-9)
