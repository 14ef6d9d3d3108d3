"""Wrappers against environments whose every number is known, and against the simulators they are made for."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from gradrl.envs.wrappers import (
    ActionMask,
    EpisodicLife,
    FireReset,
    FramesAsChannels,
    FreshWorld,
    KeepElements,
    ShortSeeds,
    remarks,
)


class Game(gym.Env):
    """Three lives of four steps each, then a step to the end; observes (game, step) and logs its actions."""

    observation_space = spaces.Box(0, 100, (2,), np.float32)
    action_space = spaces.Discrete(3)

    def __init__(self, meanings=("NOOP", "FIRE", "LEFT")):
        self.meanings = list(meanings)
        self.game, self.t, self.log = 0, 0, []

    def get_action_meanings(self):
        return self.meanings

    def outcome(self):
        return np.array([self.game, self.t], np.float32), {"lives": 3 - self.t // 4}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.game, self.t = self.game + 1, 0
        return self.outcome()

    def step(self, action):
        self.t += 1
        self.log.append(int(action))
        obs, info = self.outcome()
        return obs, 1.0, self.t >= 12, False, info


class Masked(gym.Env):
    """Allows action t mod 3 only, and says so in one of two ways."""

    observation_space = spaces.Discrete(9)
    action_space = spaces.Discrete(3)

    def __init__(self, by_method):
        self.t = 0
        if by_method:
            self.action_masks = lambda: np.arange(3) == self.t % 3
        self.by_method = by_method

    def info(self):
        return {} if self.by_method else {"action_mask": (np.arange(3) == self.t % 3).astype(np.int8)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.t, self.info()

    def step(self, action):
        assert action == self.t % 3
        self.t += 1
        return self.t, 0.0, False, False, self.info()


class Fixed(gym.Env):
    """One observation for ever."""

    action_space = spaces.Discrete(2)

    def __init__(self, obs, space):
        self.obs, self.observation_space = obs, space

    def reset(self, *, seed=None, options=None):
        return self.obs, {}


def test_columns_keep_their_values_and_bounds_in_the_order_asked_for():
    env = KeepElements(gym.make("CartPole-v1"), columns=(2, 0))
    full, _ = gym.make("CartPole-v1").reset(seed=3)
    kept, _ = env.reset(seed=3)
    assert kept.tolist() == [full[2], full[0]]
    assert env.observation_space.high.tolist() == pytest.approx([0.41887903, 4.8])
    assert env.observation_space.contains(kept)


@pytest.mark.parametrize("columns", [(0, 4), (-1,), (), (1, 1)])
def test_columns_that_are_not_there_are_refused(columns):
    with pytest.raises(ValueError, match="columns must be different integers from 0 to 3, got"):
        KeepElements(gym.make("CartPole-v1"), columns)


def test_colour_frames_become_channels_the_oldest_first():
    space = spaces.Box(0, 255, (2, 4, 5, 3), np.uint8)
    obs = np.arange(120, dtype=np.uint8).reshape(2, 4, 5, 3)
    env = FramesAsChannels(Fixed(obs, space))
    merged, _ = env.reset()
    assert merged.shape == env.observation_space.shape == (6, 4, 5)
    assert (merged.dtype, env.observation_space.dtype) == (np.uint8, np.uint8)
    for frame in range(2):
        for channel in range(3):
            assert np.array_equal(merged[3 * frame + channel], obs[frame, :, :, channel])


@pytest.mark.parametrize("by_method", [True, False])
def test_the_mask_of_this_moment_stands_beside_the_observation(by_method):
    env = ActionMask(Masked(by_method))
    obs, _ = env.reset()
    for t in range(5):
        assert env.observation_space.contains(obs)
        assert obs["observation"] == t
        assert obs["action_mask"].tolist() == [int(t % 3 == a) for a in range(3)]
        obs = env.step(t % 3)[0]


def test_a_mask_stays_as_it_was_when_its_environment_writes_the_next_one():
    inner = Masked(by_method=True)
    buffer = np.array([1, 0, 0], np.int8)
    inner.action_masks = lambda: buffer
    obs, _ = ActionMask(inner).reset()
    buffer[:] = [0, 1, 0]
    assert obs["action_mask"].tolist() == [1, 0, 0]


def test_a_mask_that_nobody_gives_is_missed():
    with pytest.raises(ValueError, match=r"neither action_masks\(\) nor info"):
        ActionMask(gym.make("CartPole-v1")).reset()
    with pytest.raises(ValueError, match="masks need Discrete actions"):
        ActionMask(gym.make("Pendulum-v1"))


def test_masks_of_taxi_forbid_exactly_what_does_nothing():
    env = ActionMask(gym.make("Taxi-v4"))
    inner = env.unwrapped
    env.reset(seed=0)
    for state in range(0, 500, 7):
        inner.s = state
        mask = inner.action_mask(state)
        moves = [inner.P[state][a][0][1] != state for a in range(4)]
        assert mask[:4].tolist() == [int(m) for m in moves]


def play(env, steps, seed=0):
    """(obs, terminated) of every step, resetting without a seed; a reset stands as its observation alone."""
    seen = [env.reset(seed=seed)[0].tolist()]
    for _ in range(steps):
        obs, _, terminated, truncated, _ = env.step(2)
        seen.append((obs.tolist(), terminated))
        if terminated or truncated:
            seen.append(env.reset()[0].tolist())
    return seen


def test_a_lost_life_ends_an_episode_and_the_game_goes_on():
    seen = play(EpisodicLife(Game()), 10)
    assert seen == [
        [1, 0], ([1, 1], False), ([1, 2], False), ([1, 3], False), ([1, 4], True),
        [1, 5], ([1, 6], False), ([1, 7], False), ([1, 8], True),
        [1, 9], ([1, 10], False), ([1, 11], False), ([1, 12], True),
        [2, 0],
    ]  # fmt: skip


def test_a_game_that_ends_after_its_last_life_has_no_episode_in_between():
    game = Game()
    inner = game.step

    def step(action):  # one frame more without a life, as some games show it
        obs, reward, _, truncated, info = inner(action)
        return obs, reward, game.t >= 13, truncated, info

    game.step = step
    seen = play(EpisodicLife(game), 11)
    assert seen[-4:] == [([1, 11], False), ([1, 12], False), ([1, 13], True), [2, 0]]
    assert sum(entry[1] for entry in seen if isinstance(entry, tuple)) == 3  # as many as lives


def test_a_reset_with_a_seed_always_begins_a_new_game():
    env = EpisodicLife(Game())
    play(env, 4)
    assert env.reset(seed=1)[0].tolist() == [2, 0]
    assert env.reset()[0].tolist() == [3, 0]  # nothing was played in between
    env.step(0)
    assert env.reset()[0].tolist() == [3, 2]


def test_fire_is_pressed_at_the_start_of_every_life_and_nowhere_else():
    game = Game()
    env = FireReset(game)
    assert env.reset()[0].tolist() == [1, 1]
    for _ in range(11):
        env.step(2)
    assert game.log == [1, 2, 2, 2, 1, 2, 2, 2, 1, 2, 2, 2]
    assert env.reset()[0].tolist() == [2, 1]


def test_inside_episodic_life_no_action_of_the_policy_is_replaced():
    game = Game()
    play(EpisodicLife(FireReset(game)), 9)
    assert game.log == [1, 2, 2, 2, 1, 2, 2, 2, 1, 2, 2, 2, 1]


def test_games_without_fire_or_lives_are_refused():
    with pytest.raises(ValueError, match="has no action FIRE, only NOOP, LEFT"):
        FireReset(Game(("NOOP", "LEFT")))
    with pytest.raises(ValueError, match="how many lives are left"):
        EpisodicLife(gym.make("CartPole-v1")).reset()


def test_seeds_are_cut_to_32_bits_and_what_has_no_seed_stays_without():
    seeds = []

    class Seeded(Fixed):
        def reset(self, *, seed=None, options=None):
            seeds.append(seed)
            return super().reset(seed=seed, options=options)

    env = ShortSeeds(Seeded(0, spaces.Discrete(1)))
    for seed in (None, 7, 2**32 - 1, 2**32, 5 * 2**32 + 3):
        env.reset(seed=seed)
    assert seeds == [None, 7, 2**32 - 1, 0, 3]


def test_in_a_fresh_world_an_episode_does_not_depend_on_those_before():
    pytest.importorskip("Box2D")

    def episode(earlier):
        env = FreshWorld(gym.make("BipedalWalker-v3"))
        rng = np.random.default_rng(0)
        for seed in range(earlier):
            env.reset(seed=seed)
            for _ in range(60):
                env.step(rng.uniform(-1, 1, 4).astype(np.float32))
        actions = np.random.default_rng(1).uniform(-1, 1, (200, 4)).astype(np.float32)
        env.reset(seed=7)
        return np.array([env.step(action)[0] for action in actions])

    assert np.array_equal(episode(0), episode(3))
    with pytest.raises(ValueError, match="no Box2D world"):
        FreshWorld(gym.make("CartPole-v1"))


@pytest.mark.parametrize(
    ("wrap", "wrap_training", "expected"),
    [
        (lambda env: env, lambda env: env, []),
        (lambda env: gym.wrappers.MaxAndSkipObservation(env, 4), lambda env: env, ["is 4 frames"]),
        (
            lambda env: gym.wrappers.RepeatAction(gym.wrappers.MaxAndSkipObservation(env, 2), 3),
            lambda env: env,
            ["is 6 frames"],
        ),
        (
            lambda env: env,
            lambda env: gym.wrappers.ClipReward(env, -1, 1),
            ["rewards changed by ClipReward; evaluations have the environment's own"],
        ),
        (
            lambda env: gym.wrappers.TransformReward(env, lambda reward: reward / 8),
            lambda env: gym.wrappers.ClipReward(env, -1, 1),
            ["rewards changed by ClipReward and TransformReward; evaluations have the same"],
        ),
    ],
)
def test_what_steps_and_returns_count_is_said(wrap, wrap_training, expected):
    env = wrap(gym.make("Acrobot-v1"))
    found = remarks(env, wrap_training(env))
    assert len(found) == len(expected)
    assert all(line.endswith(end) for line, end in zip(found, expected, strict=True))
