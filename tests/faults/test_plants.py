"""Every plant is the fault that it says it is."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from gradgan.losses.nonsaturating import NonSaturating
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.policies.networks import MLPConfig
from scripts.suites import plants


def policy(kind: type, **options):
    env = gym.make("CartPole-v1")
    spaces = Observation(env.observation_space), action_decoder(env.action_space)
    return kind(MLPConfig(hidden_sizes=(8, 8), **options), *spaces, torch.Generator().manual_seed(0))


def loss_of(model) -> torch.Tensor:
    obs = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
    distribution, value = model(obs)
    return distribution.entropy().mean() + value.square().mean()


def test_a_scaled_reward_is_the_reward_times_the_scale():
    env = plants.ScaledReward(gym.make("CartPole-v1"), scale=1e4)
    env.reset(seed=0)
    assert env.step(0)[1] == 1e4


def test_a_broken_reward_is_right_until_its_step_and_never_after():
    env = plants.BrokenReward(gym.make("CartPole-v1"), at=2)
    env.reset(seed=0)
    rewards = [env.step(0)[1] for _ in range(4)]
    assert rewards[:2] == [1.0, 1.0]
    assert np.isnan(rewards[2:]).all()


def test_dead_units_give_the_same_output_for_every_observation():
    model = policy(plants.DeadUnits, activation="relu")
    hidden = model.actor[1](model.actor[0](torch.randn(100, 4)))
    assert hidden.abs().max() == 0.0


def test_saturated_units_are_at_the_end_of_their_tanh():
    model = policy(plants.SaturatedUnits)
    hidden = model.actor[1](model.actor[0](torch.randn(200, 4)))
    assert (hidden.abs() > 0.97).float().mean() > 0.95


def test_a_detached_critic_has_no_gradient_but_in_its_last_layer():
    model = policy(plants.DetachedCritic)
    loss_of(model).backward()
    assert [p.grad is None for p in model.critic.parameters()] == [True] * 4 + [False] * 2
    assert all(p.grad is not None for p in model.actor.parameters())


def test_a_frozen_actor_does_not_train_its_first_layer():
    model = policy(plants.FrozenActor)
    assert [p.requires_grad for p in model.actor.parameters()] == [False] * 2 + [True] * 4


def test_gradients_in_half_precision_lose_what_is_small_and_keep_what_is_not():
    network = plants.HalfGradients(width=4, depth=1, slope=0.0, spectral_norm=False)
    generator = network.generator(2, (2,), torch.Generator().manual_seed(0))
    z = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    for scale, lost in ((1.0, False), (1e-11, True)):
        generator.zero_grad()
        (generator(z).sum() * scale).backward()
        total = sum(p.grad.abs().sum().item() for p in generator.parameters())
        assert (total == 0.0) == lost


def test_an_averaged_loss_is_the_share_of_the_healthy_one():
    real, fake = torch.tensor([0.5, -1.0]), torch.tensor([0.1, 2.0])
    healthy, planted = NonSaturating(), plants.Averaged(share=1e-3)
    assert planted.generator(fake).item() == pytest.approx(1e-3 * healthy.generator(fake).item())
    wanted = 1e-3 * healthy.discriminator(real, fake).item()
    assert planted.discriminator(real, fake).item() == pytest.approx(wanted)


def test_the_logarithm_of_zero_comes_after_its_update():
    planted = plants.LogOfZero(at=2)
    real, fake = torch.ones(2, requires_grad=True), torch.zeros(2)
    assert [planted.discriminator(real, fake).isfinite().item() for _ in range(3)] == [True, True, False]
