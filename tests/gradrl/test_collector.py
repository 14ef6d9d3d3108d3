"""The collector against a slow single environment, under both ways to begin anew."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from gradrl.collector import Collector
from gradrl.envs import EnvConfig, inspect_env, make_envs
from gradrl.normalize import ObservationNormalizer, RewardNormalizer
from gradrl.returns import generalized_advantage_estimate

GAMMA, LAMBDA = 0.9, 0.8
SEEDS = [0, 1, 2]


def config(autoreset="same_step", vectorization="sync", env_id="Counting-v0"):
    return EnvConfig(
        id=env_id, kwargs={}, import_module=None, vectorization=vectorization, autoreset=autoreset
    )


def collector(num_steps, autoreset="same_step", num_envs=3, **options):
    cfg = config(autoreset)
    info = inspect_env(cfg)
    envs = make_envs(cfg, num_envs)
    return Collector(envs, info.observation, info.action, num_steps, SEEDS[:num_envs], **options)


def act(obs):
    return (obs[:, 1] % 2).astype(np.int64)


def true_transitions(seed, count):
    """(obs, action, reward, terminated, truncated, observation it led to), by stepping one environment."""
    env = gym.make("Counting-v0")
    obs, _ = env.reset(seed=seed)
    rows = []
    for _ in range(count):
        action = int(obs[1] % 2)
        following, reward, terminated, truncated, _ = env.step(action)
        rows.append((obs, action, reward, terminated, truncated, following))
        obs = env.reset()[0] if terminated or truncated else following
    return rows


def value(obs):
    """Some function of the observation, in float64."""
    return 0.3 * obs[..., 0] - 1.7 * obs[..., 1] + 2.0


def slow_advantages(rows):
    """GAE of one environment's consecutive transitions, last first, by its definition."""
    out, running = [], 0.0
    for obs, _, reward, terminated, truncated, following in reversed(rows):
        after = 0.0 if terminated else float(value(following.astype(np.float64)))
        delta = reward + GAMMA * after - float(value(obs.astype(np.float64)))
        running = delta + (0.0 if terminated or truncated else GAMMA * LAMBDA * running)
        out.append(running)
    return out[::-1]


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
@pytest.mark.parametrize("num_steps", [1, 5, 16])
def test_transitions_and_advantages_equal_those_of_single_environments(num_steps, autoreset):
    collect = collector(num_steps, autoreset)
    used = [0, 0, 0]
    for _ in range(4):
        rollout = collect.collect(act)
        v = value(rollout.obs.double())
        final = value(rollout.final_obs.double())
        advantage = generalized_advantage_estimate(
            rollout.reward.double(),
            v[:-1],
            rollout.next_value(v, final),
            rollout.terminated,
            rollout.truncated,
            GAMMA,
            LAMBDA,
        )
        for n, seed in enumerate(SEEDS):
            keep = rollout.valid[:, n]
            count = int(keep.sum())
            rows = true_transitions(seed, used[n] + count)[used[n] :]
            used[n] += count
            obs, action, reward, terminated, truncated, _ = zip(*rows, strict=True) if rows else [()] * 6
            assert rollout.obs[:-1, n][keep].tolist() == [o.tolist() for o in obs]
            assert rollout.action[keep, n].tolist() == list(action)
            assert rollout.reward[keep, n].tolist() == list(reward)
            assert rollout.terminated[keep, n].tolist() == list(terminated)
            assert rollout.truncated[keep, n].tolist() == list(truncated)
            assert advantage[keep, n].tolist() == pytest.approx(slow_advantages(rows))
        assert rollout.num_valid == int(rollout.valid.sum())
    assert collect.env_steps == sum(used)
    assert (collect.env_steps == 4 * num_steps * 3) == (autoreset == "same_step")


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
def test_a_reset_step_has_no_reward_and_is_not_valid(autoreset):
    rollout = collector(30, autoreset).collect(act)
    done = rollout.terminated | rollout.truncated
    if autoreset == "same_step":
        assert rollout.valid.all()
        assert len(rollout.final_index) == int((rollout.truncated & ~rollout.terminated).sum())
    else:
        assert torch.equal(rollout.valid[1:], ~done[:-1])
        assert not rollout.reward[~rollout.valid].any()
        assert len(rollout.final_index) == 0


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
@pytest.mark.parametrize("num_steps", [1, 3, 16])
def test_episodes_are_counted_across_rollouts(num_steps, autoreset):
    collect = collector(num_steps, autoreset, num_envs=1)
    finished = []
    while len(finished) < 6:
        collect.collect(act)
        finished += collect.finished
        collect.finished = []
    expected, total, length = [], 0.0, 0
    for _, _, reward, terminated, truncated, _ in true_transitions(0, 60):
        total, length = total + reward, length + 1
        if terminated or truncated:
            expected.append((total, length))
            total, length = 0.0, 0
    assert finished[:6] == expected[:6]


def test_a_rollout_of_nothing_but_resets_is_passed_over():
    collect = collector(1, "next_step", num_envs=1)
    rollouts = [collect.collect(act) for _ in range(9)]
    assert [r.num_valid for r in rollouts] == [1] * 9
    assert collect.env_steps == 9


def test_draining_gives_the_mean_of_the_episodes_since_the_last_time():
    collect = collector(4, num_envs=1)
    collect.collect(act)  # episode 0: 1 + 2 + 3; episode 1: 11
    drained = collect.drain()
    assert drained["episode/return"].item() == (6 + 11) / 2
    assert drained["episode/length"].item() == (3 + 1) / 2
    assert collect.drain() == {}


def test_storage_is_reused_and_its_shape_never_changes():
    collect = collector(5)
    first, second = collect.collect(act), collect.collect(act)
    assert first.obs.data_ptr() == second.obs.data_ptr()
    assert first.reward.shape == second.reward.shape == (5, 3)
    assert first.obs.shape == (6, 3, 2)


def test_normalisation_uses_the_statistics_from_before_the_rollout_everywhere():
    plain = collector(6)
    normal = collector(6, observation_normalizer=ObservationNormalizer(2, clip=1e9))
    for _ in range(3):
        before = ObservationNormalizer(2, clip=1e9)
        before.load_state_dict(normal.observation_normalizer.state_dict())
        raw, seen = plain.collect(act), normal.collect(lambda obs: np.zeros(len(obs), np.int64))
        assert seen.obs.numpy() == pytest.approx(before(raw.obs.numpy()))
        assert seen.final_obs.numpy() == pytest.approx(before(raw.final_obs.numpy()))
    assert normal.observation_normalizer.moments.count == 3 * 18


def test_reset_steps_stay_out_of_the_reward_statistics_and_episode_returns_stay_raw():
    collect = collector(20, "next_step", reward_normalizer=RewardNormalizer(3, GAMMA))
    rollout = collect.collect(act)
    assert collect.reward_normalizer.moments.count == rollout.num_valid < 60
    assert collect.finished[0] == (11.0, 1)
    assert rollout.reward.abs().max() <= 10.0


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
def test_discrete_observations_and_shifted_actions_reach_the_environment(autoreset):
    cfg = config(autoreset, env_id="Walk-v0")
    info = inspect_env(cfg)
    collect = Collector(make_envs(cfg, 2), info.observation, info.action, 8, [0, 1])
    rollout = collect.collect(lambda obs: np.ones(len(obs), np.int64))  # always to the right
    assert rollout.obs.shape == (9, 2, 5)
    assert rollout.obs.sum(-1).eq(1).all()
    assert rollout.obs[-1].argmax(-1).tolist() == [4, 4]
