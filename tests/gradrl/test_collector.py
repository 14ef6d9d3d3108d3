"""The collector against a slow single environment, under both kinds of autoreset."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from core.config import Component
from gradrl.collector import Collector
from gradrl.envs.make import EnvConfig, inspect_env, make_envs
from gradrl.experience.normalize import ObservationNormalizer, RewardNormalizer
from gradrl.returns import generalized_advantage_estimate
from tests.gradrl.scripted import Scripted

GAMMA, LAMBDA = 0.9, 0.8
SEEDS = [0, 1, 2]


def config(autoreset="same_step", vectorization="sync", env_id="Counting-v0", **kwargs):
    return EnvConfig(
        id=env_id,
        kwargs=kwargs,
        import_module=None,
        wrappers=(),
        train_wrappers=(),
        vectorization=vectorization,
        autoreset=autoreset,
    )


def collector(num_steps, autoreset="same_step", num_envs=3, vectorization="sync", **options):
    cfg = config(autoreset, vectorization)
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


def slow_advantages(rows, value=value):
    """GAE of one environment's consecutive transitions, last first, by its definition."""
    out, running = [], 0.0
    for obs, _, reward, terminated, truncated, following in reversed(rows):
        after = 0.0 if terminated else float(value(following.astype(np.float64)))
        delta = reward + GAMMA * after - float(value(obs.astype(np.float64)))
        running = delta + (0.0 if terminated or truncated else GAMMA * LAMBDA * running)
        out.append(running)
    return out[::-1]


def advantages(rollout, value):
    """GAE as the agents compute it, in float64, [T, N]."""
    v = value(rollout.obs.double())
    after = rollout.next_value(v, value(rollout.final_obs.double()))
    reward, ends = rollout.reward.double(), (rollout.terminated, rollout.truncated)
    return generalized_advantage_estimate(reward, v[:-1], after, *ends, GAMMA, LAMBDA)


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
@pytest.mark.parametrize("num_steps", [1, 5, 16])
def test_transitions_and_advantages_equal_those_of_single_environments(num_steps, autoreset, vectorization):
    collect = collector(num_steps, autoreset, vectorization=vectorization)
    used = [0, 0, 0]
    for _ in range(4):
        rollout = collect.collect(Scripted(act))
        advantage = advantages(rollout, value)
        for n, seed in enumerate(SEEDS):
            keep = rollout.valid[:, n]
            count = int(keep.sum())
            rows = true_transitions(seed, used[n] + count)[used[n] :]
            used[n] += count
            obs, action, reward, terminated, truncated, led_to = zip(*rows, strict=True) if rows else [()] * 6
            assert rollout.obs[:-1, n][keep].tolist() == [o.tolist() for o in obs]
            assert rollout.next_obs[keep, n].tolist() == [o.tolist() for o in led_to]
            assert rollout.action[keep, n].tolist() == list(action)
            assert rollout.reward[keep, n].tolist() == list(reward)
            assert rollout.terminated[keep, n].tolist() == list(terminated)
            assert rollout.truncated[keep, n].tolist() == list(truncated)
            assert advantage[keep, n].tolist() == pytest.approx(slow_advantages(rows))
        assert rollout.num_valid == int(rollout.valid.sum())
    assert collect.env_steps == sum(used)
    assert (collect.env_steps == 4 * num_steps * 3) == (autoreset == "same_step")
    collect.envs.close()


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
def test_observations_of_parts_lead_to_their_own_final_ones(autoreset, vectorization):
    cfg = config(autoreset, vectorization, "CountingInParts-v0")
    info = inspect_env(cfg)
    collect = Collector(make_envs(cfg, 3), info.observation, info.action, 16, SEEDS)
    rollout = collect.collect(Scripted(lambda rows: rows[:, :5].argmax(1) % 2))

    def plain(rows):
        """Of (t one-hot, e) as (e, t)."""
        assert rows[:, :5].sum(1).tolist() == [1.0] * len(rows)
        return torch.stack([rows[:, 5], rows[:, :5].argmax(1)], 1).tolist()

    for n, seed in enumerate(SEEDS):
        keep = rollout.valid[:, n]
        obs, action, *_, led_to = zip(*true_transitions(seed, int(keep.sum())), strict=True)
        assert plain(rollout.obs[:-1, n][keep]) == [o.tolist() for o in obs]
        assert rollout.action[keep, n].tolist() == list(action)
        assert plain(rollout.next_obs[keep, n]) == [o.tolist() for o in led_to]
    collect.envs.close()


def test_native_transitions_and_advantages_equal_those_of_single_environments():
    """Every observation is put into a single CartPole, which must go on as the native one did."""
    limit, num_envs = 12, 4
    cfg = config(vectorization="native", env_id="CartPole-v1", max_episode_steps=limit)
    info = inspect_env(cfg)
    collect = Collector(make_envs(cfg, num_envs), info.observation, info.action, 50, [0] * num_envs)
    single = gym.make("CartPole-v1").unwrapped
    pushes = np.array([0, 1, 0, 1])  # those that push one way fall over before the limit
    actor = Scripted(lambda obs: np.where([True, True, False, False], pushes, (obs[:, 2] > 0).astype(int)))
    lengths, steps, terminations, truncations, done = np.zeros(num_envs, int), 0, 0, 0, 0

    def value(obs):
        return 0.5 * obs[..., 0] - 0.2 * obs[..., 1] + 3.0 * obs[..., 2] + 0.7 * obs[..., 3]

    for _ in range(3):
        rollout = collect.collect(actor)
        advantage = advantages(rollout, value)
        for n in range(num_envs):
            rows = []
            for t in np.flatnonzero(rollout.valid[:, n]):
                single.reset()
                obs = rollout.obs[t, n].double().numpy()
                single.state, single.steps_beyond_terminated = obs, None
                following, reward, terminated, _, _ = single.step(int(rollout.action[t, n]))
                lengths[n] += 1
                assert rollout.obs[t + 1, n].tolist() == pytest.approx(following.tolist(), abs=1e-5)
                assert rollout.reward[t, n] == reward
                assert rollout.terminated[t, n] == terminated
                assert rollout.truncated[t, n] == (lengths[n] == limit)
                terminations += terminated
                truncations += lengths[n] == limit
                if terminated or lengths[n] == limit:
                    lengths[n], done = 0, done + 1
                rows.append((obs, None, reward, terminated, lengths[n] == 0, following))
            steps += len(rows)
            kept = advantage[rollout.valid[:, n], n].tolist()
            assert kept == pytest.approx(slow_advantages(rows, value), abs=1e-4)
    assert min(terminations, truncations) > 10
    resets = done - int((rollout.terminated | rollout.truncated)[-1].sum())  # the last are still to come
    assert collect.env_steps == steps == 3 * 50 * num_envs - resets


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
def test_a_reset_step_has_no_reward_and_is_not_valid(autoreset):
    rollout = collector(30, autoreset).collect(Scripted(act))
    done = rollout.terminated | rollout.truncated
    if autoreset == "same_step":
        assert rollout.valid.all()
        assert len(rollout.final_index) == int((rollout.truncated & ~rollout.terminated).sum())
        assert len(rollout.terminal_index) == int(rollout.terminated.sum())
    else:
        assert torch.equal(rollout.valid[1:], ~done[:-1])
        assert not rollout.reward[~rollout.valid].any()
        assert len(rollout.final_index) == len(rollout.terminal_index) == 0


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
@pytest.mark.parametrize("num_steps", [1, 3, 16])
def test_episodes_are_counted_across_rollouts(num_steps, autoreset):
    collect = collector(num_steps, autoreset, num_envs=1)
    finished = []
    while len(finished) < 6:
        collect.collect(Scripted(act))
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
    rollouts = [collect.collect(Scripted(act)) for _ in range(9)]
    assert [r.num_valid for r in rollouts] == [1] * 9
    assert collect.env_steps == 9


def test_draining_gives_the_episodes_since_the_last_time():
    collect = collector(4, num_envs=1)
    collect.collect(Scripted(act))  # episode 0: 1 + 2 + 3; episode 1: 11
    drained = collect.drain()
    assert drained["episode/return"].tolist() == [6, 11]
    assert drained["episode/length"].tolist() == [3, 1]
    assert collect.drain() == {}


@pytest.mark.parametrize("reward", [-1e18, np.inf, np.nan])
def test_one_bad_reward_spoils_the_return_of_its_own_episode_only(reward):
    """Rewards 1; the bad one stands at step 4 of copy 0; episodes have two steps."""
    collect = collector(3, num_envs=2)
    done = np.array([[0, 0], [1, 1], [0, 0]] * 2, bool)
    done[3:] = ~done[3:] & np.array([[1, 1], [0, 0], [1, 1]], bool)
    rewards = np.ones((6, 2), np.float32)
    rewards[3, 0] = reward
    for half in (slice(0, 3), slice(3, 6), slice(0, 3)):
        collect.reward[:] = rewards[half]
        collect._count_episodes(done[half], np.ones((3, 2), np.bool_))
    returns = [total for total, _ in collect.finished]
    expected = [2.0, 2.0, 1.0 + rewards[3, 0], 2.0, 2.0, 2.0, 2.0, 2.0]
    assert returns == pytest.approx(expected, nan_ok=True)
    assert [length for _, length in collect.finished] == [2] * 8


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
@pytest.mark.parametrize(
    "wrappers", [(), (Component(gym.wrappers.FrameStackObservation, {"stack_size": 3}, "env.wrappers.0"),)]
)
def test_an_environment_with_one_buffer_leaves_every_observation_as_it_was(
    wrappers, autoreset, vectorization
):
    """Episodes count 0, 1, ... 5 and are cut off there; a stack holds the last three, the first repeated."""
    cfg = replace(config(autoreset, vectorization, "OneBuffer-v0"), wrappers=wrappers)
    info = inspect_env(cfg)
    collect = Collector(make_envs(cfg, 2), info.observation, info.action, 12, [1, 2])
    rollout = collect.collect(Scripted(lambda obs: np.zeros(len(obs), np.int64)))
    collect.envs.close()
    back = [0] if not wrappers else [2, 1, 0]
    for n in range(2):
        steps = rollout.valid[:, n].nonzero().flatten().tolist()
        for i, t in enumerate(steps):
            before, after = ([max(k - b, 0) for b in back] for k in (i % 5, i % 5 + 1))
            assert rollout.obs[t, n].tolist() == before
            assert rollout.next_obs[t, n].tolist() == after
            assert bool(rollout.truncated[t, n]) == (i % 5 == 4)


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_observations_are_normalised_before_they_are_rounded_to_float32(dtype):
    """Seconds since 1970: all 32 are different numbers, which float32 holds as one."""
    cfg = config(env_id="Clock-v0", dtype=dtype)
    info = inspect_env(cfg)
    normalizer = ObservationNormalizer(1)
    collect = Collector(make_envs(cfg, 1), info.observation, info.action, 31, [0], normalizer)
    still = Scripted(lambda obs: np.zeros(len(obs), np.int64))
    collect.collect(still)
    rollout = collect.collect(still)
    collect.envs.close()
    assert rollout.obs.dtype == torch.float32
    seconds = 1.7e9 + np.arange(31, 63)
    first = 1.7e9 + np.arange(31)  # what the statistics were taken from
    expected = (seconds - first.mean()) / np.sqrt(first.var() + 1e-8)
    assert rollout.obs.flatten().numpy() == pytest.approx(expected, rel=1e-5)


def test_without_normalisation_observations_are_float32():
    cfg = config(env_id="Clock-v0", dtype=np.float64)
    info = inspect_env(cfg)
    collect = Collector(make_envs(cfg, 1), info.observation, info.action, 3, [0])
    seen = Scripted(lambda obs: np.zeros(len(obs), np.int64))
    assert collect.collect(seen).obs.dtype == torch.float32


def test_a_mask_that_allows_nothing_is_said_once_where_an_action_was_taken():
    """The mask of step 2 is empty; episodes have four steps, and the last observation's mask is empty too."""
    cfg = config(env_id="NoWayOut-v0")
    info = inspect_env(cfg)
    lines = []
    collect = Collector(make_envs(cfg, 2), info.observation, info.action, 8, [0, 1], say=lines.append)
    for _ in range(2):
        collect.collect(Scripted(lambda obs: np.zeros(len(obs), np.int64)))
    assert lines == ["action_mask allows no action at 4 of 16 steps of a rollout: any action is taken there"]


def test_storage_is_reused_and_its_shape_never_changes():
    collect = collector(5)
    first, second = collect.collect(Scripted(act)), collect.collect(Scripted(act))
    assert first.obs.data_ptr() == second.obs.data_ptr()
    assert first.reward.shape == second.reward.shape == (5, 3)
    assert first.obs.shape == (6, 3, 2)


def test_normalisation_uses_the_statistics_from_before_the_rollout_everywhere():
    plain = collector(6)
    normal = collector(6, observation_normalizer=ObservationNormalizer(2, clip=1e9))
    for _ in range(3):
        before = ObservationNormalizer(2, clip=1e9)
        before.load_state_dict(normal.observation_normalizer.state_dict())
        raw, seen = (
            plain.collect(Scripted(act)),
            normal.collect(Scripted(lambda obs: np.zeros(len(obs), np.int64))),
        )
        assert seen.obs.numpy() == pytest.approx(before(raw.obs.numpy()))
        assert seen.final_obs.numpy() == pytest.approx(before(raw.final_obs.numpy()))
        assert seen.terminal_obs.numpy() == pytest.approx(before(raw.terminal_obs.numpy()))
    assert normal.observation_normalizer.moments.count == 3 * 18


def test_reset_steps_stay_out_of_the_reward_statistics_and_episode_returns_stay_raw():
    collect = collector(20, "next_step", reward_normalizer=RewardNormalizer(3, GAMMA))
    rollout = collect.collect(Scripted(act))
    assert collect.reward_normalizer.moments.count == rollout.num_valid < 60
    assert collect.finished[0] == (11.0, 1)
    assert rollout.reward.abs().max() <= 10.0


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
def test_discrete_observations_and_shifted_actions_reach_the_environment(autoreset):
    cfg = config(autoreset, env_id="Walk-v0")
    info = inspect_env(cfg)
    collect = Collector(make_envs(cfg, 2), info.observation, info.action, 8, [0, 1])
    rollout = collect.collect(Scripted(lambda obs: np.ones(len(obs), np.int64)))  # always to the right
    assert rollout.obs.shape == (9, 2, 5)
    assert rollout.obs.sum(-1).eq(1).all()
    assert rollout.obs[-1].argmax(-1).tolist() == [4, 4]
