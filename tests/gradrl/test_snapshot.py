"""Saving environments in mid-episode: what follows must be bit-identical."""

import io

import gymnasium as gym
import numpy as np
import pytest
import torch

from gradrl.collector import Collector
from gradrl.envs import EnvConfig, inspect_env, make_envs, reset_envs
from gradrl.snapshot import NoSnapshots, snapshots


def config(env_id, vectorization="auto", autoreset="same_step", kwargs=None):
    return EnvConfig(
        id=env_id, kwargs=kwargs or {}, import_module=None, vectorization=vectorization, autoreset=autoreset
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
            first.collect(act)
        second.load_state_dict(through_a_file(first.state_dict()))
        ours, theirs = policy(first, 1), policy(second, 1)
        for _ in range(4):
            a = first.collect(ours)
            b = second.collect(theirs)
            for name in ("obs", "reward", "terminated", "truncated", "valid", "final_obs", "final_index"):
                assert torch.equal(getattr(a, name), getattr(b, name)), name
            drained, expected = second.drain(), first.drain()
            assert drained == expected
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
        assert torch.equal(first.collect(ours).obs, second.collect(theirs).obs)


def test_an_environment_with_hidden_memory_is_recognised_and_begins_anew():
    lines = []
    cfg = config(
        "Counting-v0", kwargs={"lengths": (5,), "kinds": ("truncated",)}
    )  # its episode number is hidden
    first, second = make(cfg, [0, 1]), make(cfg, [0, 1], say=lines.append)
    act = policy(first, 0)
    first.collect(act)
    second.load_state_dict(through_a_file(first.state_dict()))
    assert lines == ["this environment cannot be resumed exactly: 2 of 2 copies begin a new episode"]
    assert second.env_steps == first.env_steps
    assert second.obs[-1][:, 1].tolist() == [0.0, 0.0]
    assert not second.episode_length.any()


def test_a_vector_environment_that_cannot_be_saved_starts_fresh():
    envs = make_envs(config("Pendulum-v1"), 2)
    reset_envs(envs, [0, 1])
    obs, lost = NoSnapshots(envs).restore(NoSnapshots(envs).save())
    assert obs.shape == (2, 3)
    assert lost == [0, 1]


def test_each_kind_of_vector_environment_has_its_own_way():
    kinds = [type(snapshots(make_envs(config("CartPole-v1", v), 1))).__name__ for v in ("native", "sync")]
    assert kinds == ["CartPoleSnapshots", "ReplaySnapshots"]

    class Other(gym.vector.VectorEnv):
        pass

    assert isinstance(snapshots(Other()), NoSnapshots)
