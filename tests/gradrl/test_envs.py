import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from gradrl.envs import EnvConfig, autoreset_mode, inspect_env, make_envs, reset_envs


def config(env_id="CartPole-v1", **options):
    defaults = {"kwargs": {}, "import_module": None, "vectorization": "auto", "autoreset": "same_step"}
    return EnvConfig(id=env_id, **defaults | options)


def test_auto_takes_the_native_version_where_there_is_one_in_numpy():
    assert isinstance(make_envs(config(), 3), CartPoleVectorEnv)
    assert isinstance(make_envs(config("Acrobot-v1"), 2), SyncVectorEnv)
    assert isinstance(make_envs(config(vectorization="sync"), 2), SyncVectorEnv)
    # A keyword that only the single version knows.
    assert isinstance(
        make_envs(config(kwargs={"render_mode": None, "max_episode_steps": 9}), 2), CartPoleVectorEnv
    )


def test_versions_in_jax_are_left_alone():
    spec = gym.spec("phys2d/CartPole-v1")
    assert "Jax" in str(spec.vector_entry_point)
    with pytest.raises(ValueError, match="no vector version in numpy; use sync or async"):
        inspect_env(config("phys2d/CartPole-v1", vectorization="native"))


def test_async_runs_every_copy_in_its_own_process():
    envs = make_envs(config("Counting-v0", vectorization="async", autoreset="next_step"), 2)
    try:
        assert isinstance(envs, AsyncVectorEnv)
        assert autoreset_mode(envs) is AutoresetMode.NEXT_STEP
        assert reset_envs(envs, [1, 2]).tolist() == [[1, 0], [2, 0]]
        assert envs.step(np.array([0, 0]))[1].tolist() == [11.0, 21.0]
    finally:
        envs.close()


def test_a_time_limit_replaces_the_registered_one_in_every_kind():
    for options in ({}, {"vectorization": "sync"}):
        envs = make_envs(config(**options), 2, max_episode_steps=1)
        reset_envs(envs, [0, 1])
        assert envs.step(np.array([0, 1]))[3].all()


def test_copies_start_from_their_own_seeds():
    obs = reset_envs(make_envs(config("Pendulum-v1"), 2), [3, 3])
    other = reset_envs(make_envs(config("Pendulum-v1"), 2), [3, 4])
    assert np.array_equal(obs[0], obs[1])
    assert np.array_equal(obs[0], other[0])
    assert not np.array_equal(obs[1], other[1])


def test_inspecting_reads_spaces_threshold_and_limit():
    info = inspect_env(config())
    assert (info.observation.size, info.action.size) == (4, 2)
    assert (info.reward_threshold, info.max_episode_steps) == (475.0, 500)
    assert inspect_env(config(kwargs={"max_episode_steps": 7})).max_episode_steps == 7
    assert inspect_env(config("Walk-v0")).max_episode_steps is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env_id": "CartPol-v1"}, r"got 'CartPol-v1'; did you mean CartPole-v1\?"),
        ({"env_id": "cartpole-v1"}, r"did you mean CartPole-v1\?"),
        ({"env_id": "qqqqqqq"}, "must be an environment that gymnasium knows, got 'qqqqqqq' "),
        ({"import_module": "no_such_package"}, "env.import_module=no_such_package cannot be imported"),
        ({"kwargs": {"colour": "red"}}, "env.id=CartPole-v1 cannot be made: TypeError: .*colour"),
        ({"env_id": "Unsupported-v0", "kwargs": {"observation": "dict"}}, "env.id=Unsupported-v0: .*is Dict"),
        ({"env_id": "Unsupported-v0", "kwargs": {"observation": "image"}}, "images of shape"),
        ({"env_id": "Unsupported-v0", "kwargs": {"action": "multi_discrete"}}, "is MultiDiscrete"),
        ({"env_id": "Unsupported-v0", "kwargs": {"action": "integers"}}, "floating point"),
        ({"env_id": "Acrobot-v1", "vectorization": "native"}, "Acrobot-v1 has no vector version in numpy"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        inspect_env(config(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("id", ""), ("vectorization", "threads"), ("autoreset", "disabled")]
)
def test_options_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        config(**{{"id": "env_id"}.get(name, name): value})
