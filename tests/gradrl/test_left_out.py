"""Steps whose numbers are not finite: left out of learning and statistics, their neighbours unharmed."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from core.config import Component
from core.diagnosis import Context, History, Remedies
from gradrl.collector import Collector
from gradrl.diagnosis.rules import NonFiniteExperience
from gradrl.envs.make import EnvConfig, inspect_env, make_envs
from gradrl.experience.normalize import ObservationNormalizer, RewardNormalizer
from gradrl.experience.replay import Replay
from gradrl.returns import generalized_advantage_estimate
from tests.gradrl.scripted import Scripted

GAMMA, LAMBDA = 0.9, 0.8
LENGTH = 12  # steps of a rollout of one copy; episodes of Counting-v0 have ten here, cut off by the clock


class Spoiled(gym.Wrapper):
    """Counts its own steps from 0; at those of `rewards` and `observations` stands `number`."""

    def __init__(self, env, rewards=(), observations=(), number=float("nan")):
        super().__init__(env)
        self.rewards, self.observations, self.number = rewards, observations, number
        self.steps = -1

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        if self.steps in self.observations:
            obs = np.array([obs[0], self.number], np.float32)
        return obs, self.number if self.steps in self.rewards else reward, terminated, truncated, info


def collector(
    num_steps=LENGTH, num_envs=1, autoreset="same_step", say=print, normalizers=(None, None), **spoilt
):
    cfg = EnvConfig(
        id="Counting-v0",
        kwargs={"lengths": (10,), "kinds": ("truncated",)},
        import_module=None,
        wrappers=(Component(Spoiled, spoilt, "env.wrappers.0"),),
        train_wrappers=(),
        vectorization="sync",
        autoreset=autoreset,
    )
    info = inspect_env(replace(cfg, wrappers=()))
    envs = make_envs(cfg, num_envs)
    seeds = list(range(num_envs))
    return Collector(envs, info.observation, info.action, num_steps, seeds, *normalizers, say)


class Still(Scripted):
    """Acts always the same, and keeps what it saw."""

    def __init__(self):
        super().__init__(lambda obs: np.zeros(len(obs), np.int64))
        self.seen = []

    def __call__(self, obs, episode_start):
        self.seen.append(obs.copy())
        return super().__call__(obs, episode_start)


def value(obs):
    return 0.3 * obs[..., 0] - 1.7 * obs[..., 1] + 2.0


def advantages(rollout):
    values = value(rollout.obs.double())
    next_value = rollout.next_value(values, value(rollout.final_obs.double()))
    ends = rollout.terminated, rollout.truncated
    return generalized_advantage_estimate(
        rollout.reward.double(), values[:-1], next_value, *ends, GAMMA, LAMBDA
    )


def advantage_of(rewards, observations):
    """From the definition, of the first of some steps, which the clock cuts off behind the last."""
    values = [value(torch.tensor(obs, dtype=torch.float64)).item() for obs in observations]
    errors = [r + GAMMA * after - now for r, now, after in zip(rewards, values, values[1:], strict=False)]
    return sum((GAMMA * LAMBDA) ** k * error for k, error in enumerate(errors))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_none_is_left_out_and_its_episode_is_cut_off_in_front_of_it(number):
    """Episode 0 pays 1 + t at step t and observes (0, t)."""
    collect = collector(rewards=(5,), number=number)
    rollout = collect.collect(Still())
    collect.envs.close()
    assert rollout.valid.flatten().tolist() == [t != 5 for t in range(LENGTH)]
    assert (rollout.num_valid, collect.left_out, collect.env_steps) == (LENGTH - 1, 1, LENGTH)
    assert rollout.reward.isfinite().all()
    found = advantages(rollout).flatten()
    for t in range(5):
        expected = advantage_of(range(1 + t, 6), [(0, k) for k in range(t, 6)])
        assert found[t].item() == pytest.approx(expected)
    for t in range(6, 10):
        expected = advantage_of(range(1 + t, 11), [(0, k) for k in range(t, 11)])
        assert found[t].item() == pytest.approx(expected)


def test_an_observation_that_is_none_takes_both_of_its_steps_along():
    """Step 4 leads to it, step 5 is taken from it."""
    actor = Still()
    collect = collector(observations=(4,))
    rollout = collect.collect(actor)
    collect.envs.close()
    assert rollout.valid.flatten().tolist() == [t not in (4, 5) for t in range(LENGTH)]
    assert rollout.obs.isfinite().all()
    assert np.isfinite(actor.seen).all()
    found = advantages(rollout).flatten()
    assert found.isfinite().all()
    for t in range(4):
        expected = advantage_of(range(1 + t, 5), [(0, k) for k in range(t, 5)])
        assert found[t].item() == pytest.approx(expected)


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
def test_a_final_observation_that_is_none_takes_only_the_last_step_along(autoreset):
    """Step 9 ends the episode; under NEXT_STEP the step behind it only resets."""
    collect = collector(observations=(9,), autoreset=autoreset)
    rollout = collect.collect(Still())
    collect.envs.close()
    resets = {10} if autoreset == "next_step" else set()
    assert rollout.valid.flatten().tolist() == [t not in {9} | resets for t in range(LENGTH)]
    assert rollout.final_obs.isfinite().all()
    assert advantages(rollout).isfinite().all()
    assert collect.left_out == 1


def test_the_observation_between_two_rollouts_is_left_out_of_both_and_after_a_resumption_too():
    straight, first, second = (collector(5, observations=(4,)) for _ in range(3))
    actor = Still()
    expected = [straight.collect(actor).valid.flatten().tolist() for _ in range(2)]
    assert expected == [[True] * 4 + [False], [False] + [True] * 4]
    first.collect(actor)
    second.load_state_dict(first.state_dict())
    assert second.collect(actor).valid.flatten().tolist() == expected[1]
    assert second.left_out == straight.left_out == 2
    for each in (straight, first, second):
        each.envs.close()


def test_running_statistics_are_those_of_the_other_steps():
    """Rewards and observations of the steps that stay, in float64."""
    normalizers = ObservationNormalizer(2), RewardNormalizer(1, GAMMA)
    collect = collector(10, observations=(3,), rewards=(7,), normalizers=normalizers)
    collect.collect(Still())
    collect.envs.close()
    steps = [t for t in range(10) if t not in (3, 4, 7)]
    rows = np.array([(0.0, t) for t in steps])
    assert normalizers[0].moments.count == len(steps)
    assert normalizers[0].moments.mean == pytest.approx(rows.mean(0))
    assert normalizers[0].moments.variance == pytest.approx(rows.var(0))
    running, returns = 0.0, []
    for t in steps:
        running = GAMMA * running + 1 + t
        returns.append(running)
    assert normalizers[1].moments.variance == pytest.approx(np.var(returns))


def test_a_replay_never_holds_them():
    collect = collector(observations=(3,), rewards=(7,))
    replay = Replay(100, torch.device("cpu"))
    for _ in range(2):
        replay.add(collect.collect(Still()))
    collect.envs.close()
    assert len(replay) == 2 * LENGTH - 3
    sample = replay.sample(500, torch.Generator().manual_seed(0))
    assert all(getattr(sample, name).isfinite().all() for name in ("obs", "reward", "next_obs"))


def test_they_are_named_once_and_counted():
    lines = []
    collect = collector(rewards=(2, 15), say=lines.append)
    assert [collect.collect(Still()) and collect.drain().get("experience/left_out") for _ in range(3)] == [
        1,
        2,
        2,
    ]
    collect.envs.close()
    assert lines == [
        "a reward of copy 0 is not a finite number, near env step 12: such steps are left out of what is "
        "learnt from and of running statistics"
    ]


def test_another_copy_is_not_touched():
    plain, spoilt = (collector(num_envs=2, **options) for options in ({}, {"rewards": (5,)}))
    spoilt.envs.envs[1].set_wrapper_attr("rewards", ())
    one, other = (each.collect(Still()) for each in (plain, spoilt))
    assert torch.equal(advantages(one)[:, 1], advantages(other)[:, 1])
    assert not torch.equal(advantages(one)[:, 0], advantages(other)[:, 0])
    for each in (plain, spoilt):
        each.envs.close()


def test_where_no_step_is_finite_any_more_it_says_so():
    collect = collector(4, rewards=range(4, 100))
    for rollouts, fruitless in ((1, False), (2, True), (3, True)):
        assert (collect.collect(Still()).num_valid == 0) == fruitless
        collect.require_finite(rollouts)
    with pytest.raises(FloatingPointError, match="for 8 steps up to 12: the fault is the environment's"):
        collect.require_finite(2)
    collect.envs.close()


def signs(*points):
    history, context = (
        History(),
        Context(options={}, players=(), unit="env steps", total=1000, remedies=Remedies()),
    )
    for step, count in points:
        history.add(step, {} if count is None else {"experience/left_out": count})
    return [sign.severity for sign in NonFiniteExperience()(history, context)]


@pytest.mark.parametrize(
    ("points", "severities"),
    [
        ([(100, None)], []),
        ([(100, 2.0)], ["note"]),
        ([(100, 3.0)], ["warning"]),
        ([(100, 3.0), (200, 3.0)], []),
        ([(100, 3.0), (200, 5.0)], ["note"]),
        ([(100, 3.0), (200, 102.0)], ["warning"]),
        ([(100, 3.0), (200, 103.0)], ["error"]),
    ],
)
def test_the_finding_goes_by_the_share_since_the_last_point(points, severities):
    assert signs(*points) == severities
