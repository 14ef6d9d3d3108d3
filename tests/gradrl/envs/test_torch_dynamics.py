"""Batched dynamics against gymnasium's own environments: from equal states, step for step, in float64."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from gradrl.envs.torch_dynamics import (
    Acrobot,
    CartPole,
    MountainCar,
    MountainCarContinuous,
    Pendulum,
)

STEPS, COPIES = 500, 6
CASES = {  # id, options, and copies that begin where something special happens
    "cartpole": ("CartPole-v1", CartPole, {}, [(2.39, 1.0, 0.0, 0.0), (-2.39, -1.0, 0.0, 0.0)]),
    "cartpole_falling": ("CartPole-v1", CartPole, {"sutton_barto_reward": True}, [(0.0, 0.0, 0.2, 1.0)]),
    "acrobot": ("Acrobot-v1", Acrobot, {}, [(3.1, -3.1, 12.0, 28.0), (-3.1, 3.1, -12.5, -28.2)]),
    "pendulum": ("Pendulum-v1", Pendulum, {}, [(math.pi, 8.0), (-math.pi, -8.0), (50.0, 7.9)]),
    "pendulum_on_the_moon": ("Pendulum-v1", Pendulum, {"g": 1.62}, []),
    "mountain_car": ("MountainCar-v0", MountainCar, {}, [(-1.19, -0.07), (0.49, 0.07), (0.5, 0.0)]),
    "mountain_car_with_speed": ("MountainCar-v0", MountainCar, {"goal_velocity": 0.05}, [(0.46, 0.06)]),
    "continuous": (
        "MountainCarContinuous-v0", MountainCarContinuous, {}, [(-1.19, -0.07), (0.44, 0.07), (0.45, 0.0)]
    ),
    "continuous_with_speed": (
        "MountainCarContinuous-v0", MountainCarContinuous, {"goal_velocity": 0.05}, [(0.42, 0.06)]
    ),
}  # fmt: skip
FLOAT32 = "MountainCarContinuous-v0"  # gymnasium rounds its state


def begun(dynamics, borders, generator):
    """Starts, the first of them at the borders, float64, [k, N]."""
    drawn = torch.rand(dynamics.draws, COPIES, generator=generator, dtype=torch.float64)
    state = dynamics.start(drawn).double()
    for n, border in enumerate(borders):
        state[:, n] = torch.tensor(border, dtype=torch.float64)
    return state


def drawn_actions(space, generator, dtype):
    if isinstance(space, gym.spaces.Discrete):
        return torch.randint(int(space.n), (COPIES,), generator=generator)
    wide = 2.5 * torch.rand(COPIES, 1, generator=generator, dtype=dtype) - 1.25  # beyond the bounds too
    return wide * float(space.high[0])


def stepped(env, state, action):
    """One copy's step of gymnasium's own environment: state, observation, reward, terminated."""
    env.state, env.steps_beyond_terminated = np.array(state), None
    obs, reward, terminated, truncated, _ = env.step(action)
    assert not truncated
    return np.array(env.state), obs, reward, terminated


@pytest.mark.parametrize("name", CASES)
def test_every_step_is_gymnasiums(name):
    env_id, kind, options, borders = CASES[name]
    env, dynamics = gym.make(env_id, **options).unwrapped, kind(**options)
    env.reset(seed=0)
    generator = torch.Generator().manual_seed(1)
    state, ours, wanted = begun(dynamics, borders, generator), [], []
    for _ in range(STEPS):
        action = drawn_actions(env.action_space, generator, torch.float64)
        following, reward, terminated = dynamics.step(state, action)
        numbers = (following.T if env_id != FLOAT32 else following.T.float()).numpy()
        ours.append((numbers, dynamics.observe(following).numpy(), reward.numpy(), terminated.numpy()))
        wanted += [stepped(env, state[:, n].numpy(), action[n].numpy()) for n in range(COPIES)]
        state = torch.where(terminated, begun(dynamics, borders, generator), following)
    state, obs, reward, terminated = map(np.concatenate, zip(*ours, strict=True))
    theirs = [np.array(column) for column in zip(*wanted, strict=True)]
    np.testing.assert_allclose(state, theirs[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(obs, theirs[1], rtol=0, atol=2e-6)  # one bit of float32
    np.testing.assert_allclose(reward, theirs[2], rtol=0, atol=1e-12)
    assert np.array_equal(terminated, theirs[3])
    assert terminated.any() == (env_id != "Pendulum-v1")
