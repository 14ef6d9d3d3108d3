"""Saving environments in mid-episode: what follows must be bit-identical."""

import io

import gymnasium as gym
import numpy as np
import pytest
import torch

from core.config import build
from gradrl.collector import Collector
from gradrl.envs.env_state import NoEnvState, Replayable, _equal, env_state
from gradrl.envs.make import EnvConfig, inspect_env, make_envs, reset_envs
from tests.gradrl.scripted import Scripted
from tests.thinned import thinned


def config(env_id, vectorization="auto", autoreset="same_step", kwargs=None, module=None, wrappers=()):
    """Wrappers are given as (dotted name, options)."""
    built = [build({"_target_": name, **options}, "env.wrappers.0") for name, options in wrappers]
    return EnvConfig(
        id=env_id,
        kwargs=kwargs or {},
        import_module=module,
        wrappers=tuple(built),
        train_wrappers=(),
        vectorization=vectorization,
        autoreset=autoreset,
    )


def through_a_file(state):
    """As a checkpoint does it: no code is unpickled."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def make(cfg, seeds, say=print):
    info = inspect_env(cfg)
    return Collector(make_envs(cfg, len(seeds)), info.observation, info.action, 23, seeds, say=say)


def policy(collector, seed):
    """Random actions, the same for two collectors with the same seed."""
    generator = np.random.default_rng(seed)
    template = collector.action[0]
    if template.dtype == np.int64:
        return lambda obs: generator.integers(0, collector.envs.single_action_space.n, len(obs))
    return lambda obs: generator.normal(size=template.shape).astype(np.float32)


@pytest.mark.parametrize(
    "cfg",
    [
        config("CartPole-v1"),
        config("CartPole-v1", "sync"),
        config("CartPole-v1", "sync", "next_step"),
        config("CartPole-v1", "async", "next_step"),
        config("Acrobot-v1", kwargs={"max_episode_steps": 20}),
        config("Acrobot-v1", "sync", "next_step", {"max_episode_steps": 23}),  # saved exactly at an end
        config("Pendulum-v1"),
        config("Walk-v0"),
    ],
    ids=str,
)
def test_a_restored_collector_continues_bit_for_bit(cfg):
    first, second = make(cfg, [1, 2, 3]), make(cfg, [7, 8, 9])
    try:
        act = policy(first, 0)
        for _ in range(3):
            first.collect(Scripted(act))
        second.load_state_dict(through_a_file(first.state_dict()))
        ours, theirs = policy(first, 1), policy(second, 1)
        for _ in range(4):
            a = first.collect(Scripted(ours))
            b = second.collect(Scripted(theirs))
            for name in (
                "obs",
                "reward",
                "terminated",
                "truncated",
                "valid",
                "final_obs",
                "final_index",
                "terminal_obs",
                "terminal_index",
                "episode_start",
            ):
                assert torch.equal(getattr(a, name), getattr(b, name)), name
            drained, expected = second.drain(), first.drain()
            assert {tag: x.tolist() for tag, x in drained.items()} == {
                tag: x.tolist() for tag, x in expected.items()
            }
        assert first.env_steps == second.env_steps
    finally:
        first.envs.close()
        second.envs.close()


def test_saving_changes_nothing():
    cfg = config("Pendulum-v1")
    first, second = make(cfg, [1, 2]), make(cfg, [1, 2])
    ours, theirs = policy(first, 0), policy(second, 0)
    for _ in range(3):
        first.state_dict()
        assert torch.equal(first.collect(Scripted(ours)).obs, second.collect(Scripted(theirs)).obs)


def test_an_environment_with_hidden_memory_is_recognised_and_begins_anew():
    lines = []
    cfg = config(
        "Counting-v0", kwargs={"lengths": (5,), "kinds": ("truncated",)}
    )  # its episode number is hidden
    first, second = make(cfg, [0, 1]), make(cfg, [0, 1], say=lines.append)
    act = policy(first, 0)
    first.collect(Scripted(act))
    second.load_state_dict(through_a_file(first.state_dict()))
    assert lines == ["this environment cannot be resumed exactly: 2 of 2 copies begin a new episode"]
    assert second.env_steps == first.env_steps
    assert second.obs[-1][:, 1].tolist() == [0.0, 0.0]
    assert not second.episode_length.any()


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_an_episode_too_long_for_a_checkpoint_is_left_out_and_said_once(vectorization, monkeypatch):
    """46 actions of 8 bytes are too many: copy 0 ends after 40 steps and has 6, copy 1 never ends."""
    monkeypatch.setattr("gradrl.envs.env_state.RECORD_BYTES", 45 * 8)
    said, resumed = [], []
    cfg = config("Counting-v0", vectorization, kwargs={"lengths": (40, 10**6), "kinds": ("truncated",) * 2})
    first, second = make(cfg, [0, 1], said.append), make(cfg, [0, 1], resumed.append)
    try:
        act = policy(first, 0)
        for _ in range(2):
            first.collect(Scripted(act))
            saved = through_a_file(first.state_dict())
        assert [episode is None for episode in saved["envs"]] == [False, True]
        assert len(saved["envs"][0]["actions"]["array"]) == 6
        first.state_dict()
        assert len(said) == 1
        assert "too long to be kept" in said[0]
        second.load_state_dict(saved)
        assert resumed == ["this environment cannot be resumed exactly: 1 of 2 copies begin a new episode"]
        assert second.episode_length.tolist() == [6, 0]
        assert second.obs[-1][1, 1] == 0.0  # the first observation of an episode
        second.collect(Scripted(act))
        assert second.episode_length.tolist() == [6 + 23, 23]
        assert None not in second.state_dict()["envs"]
    finally:
        first.envs.close()
        second.envs.close()


def test_a_vector_environment_that_cannot_be_saved_starts_fresh():
    envs = make_envs(config("Pendulum-v1"), 2)
    reset_envs(envs, [0, 1])
    obs, lost = NoEnvState(envs).restore(NoEnvState(envs).save())
    assert obs.shape == (2, 3)
    assert lost == [0, 1]


def test_each_kind_of_vector_environment_has_its_own_way():
    kinds = [type(env_state(make_envs(config("CartPole-v1", v), 1))).__name__ for v in ("native", "sync")]
    assert kinds == ["CartPoleEnvState", "ReplayedEnvState"]

    class Other(gym.vector.VectorEnv):
        pass

    assert isinstance(env_state(Other()), NoEnvState)


ATARI = (
    ("gymnasium.wrappers.AtariPreprocessing", {}),
    ("gradrl.envs.wrappers.FireReset", {}),
    ("gymnasium.wrappers.FrameStackObservation", {"stack_size": 4}),
    ("gradrl.envs.wrappers.EpisodicLife", {}),
)
SIMULATED = {  # what must be there, the environment, steps before and after the restart
    "tuple": (None, config("Blackjack-v1", kwargs={"natural": True}), 40),
    "mask": (
        None,
        config("Taxi-v4", "sync", "next_step", wrappers=[("gradrl.envs.wrappers.ActionMask", {})]),
        230,
    ),
    "lunar": ("Box2D", config("LunarLander-v3", autoreset="next_step"), 150),
    "walker": ("Box2D", config("BipedalWalker-v3", wrappers=[("gradrl.envs.wrappers.FreshWorld", {})]), 200),
    "cheetah": ("mujoco", config("HalfCheetah-v5", kwargs={"max_episode_steps": 60}), 100),
    "async": ("mujoco", config("Ant-v5", "async"), 100),
    "grid": (
        "minigrid",
        config(
            "MiniGrid-DoorKey-5x5-v0",
            kwargs={"max_steps": 60},
            module="minigrid",
            wrappers=[("gymnasium.wrappers.FilterObservation", {"filter_keys": ["image", "direction"]})],
        ),
        100,
    ),
    "sticky": (
        "ale_py",
        config(
            "ALE/Freeway-v5",
            kwargs={"repeat_action_probability": 0.5, "obs_type": "ram", "max_num_frames_per_episode": 100},
            module="ale_py",
        ),
        40,
    ),
    "atari": (
        "ale_py",
        config(
            "ALE/Breakout-v5",
            kwargs={"frameskip": 1, "repeat_action_probability": 0.0},
            module="ale_py",
            wrappers=ATARI,
        ),
        60,
    ),
}


def walk(envs, steps, seed):
    """Everything that so many steps of random actions bring about, and how many episodes end."""
    envs.action_space.seed(seed)
    seen, ends = [], 0
    for _ in range(steps):
        obs, reward, terminated, truncated, _ = envs.step(envs.action_space.sample())
        seen.append((obs, reward, terminated, truncated))
        ends += int((terminated | truncated).sum())
    return seen, ends


@pytest.mark.parametrize("name", thinned(SIMULATED, 2))
def test_simulators_and_observations_of_parts_continue_bit_for_bit(name):
    module, cfg, steps = SIMULATED[name]
    if module:
        pytest.importorskip(module)
    first, second = make_envs(cfg, 2, training=True), make_envs(cfg, 2, training=True)
    try:
        reset_envs(first, [1, 2])
        reset_envs(second, [3, 4])
        (before, ends), _ = walk(first, steps, 0), walk(second, 7, 9)
        assert ends > 0  # so the present episode did not begin with a seed
        obs, lost = env_state(second).restore(through_a_file({"all": env_state(first).save()})["all"])
        assert lost == []
        assert _equal(obs, before[-1][0])
        assert _equal(walk(second, steps, 1)[0], walk(first, steps, 1)[0])
    finally:
        first.close()
        second.close()


def test_equality_of_observations_looks_into_their_parts():
    obs = {"a": np.array([1.0, np.nan]), "b": (np.array([2]), "word")}
    assert _equal(obs, {"a": np.array([1.0, np.nan]), "b": [np.array([2]), "word"]})
    assert not _equal(obs, {"a": np.array([1.0, np.nan]), "b": [np.array([3]), "word"]})
    assert not _equal(obs, {"a": np.array([1.0, 0.0]), "b": [np.array([2]), "word"]})
    assert not _equal(obs, {"a": obs["a"]})
    assert not _equal((1, 2), (1,))


def test_what_a_generator_was_before_a_seed_is_no_part_of_the_state():
    saved = []
    for before in (1, 2):  # as in two processes, whose generators begin anywhere
        env = Replayable(gym.make("Pendulum-v1"))
        env.unwrapped.np_random = np.random.default_rng(before)
        env.reset(seed=7)
        env.step(np.zeros(1, np.float32))
        saved.append(env.episode)
    assert repr(saved[0]) == repr(saved[1])
    other = Replayable(gym.make("Pendulum-v1"))
    other.reset(seed=9)
    other.episode = saved[0]
    assert other.exact
