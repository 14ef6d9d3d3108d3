import os
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from core.cli.launch import compose_tree
from core.config import Component, build, config_dir, import_target, structure
from gradrl.envs.make import (
    EnvConfig,
    autoreset_mode,
    find_spec,
    has_native,
    inspect_env,
    make_env,
    make_envs,
    reset_envs,
)
from gradrl.envs.simulators import missing_package


def config(env_id="CartPole-v1", **options):
    defaults = {
        "kwargs": {},
        "import_module": None,
        "wrappers": (),
        "train_wrappers": (),
        "vectorization": "auto",
        "autoreset": "same_step",
    }
    return EnvConfig(id=env_id, **defaults | options)


def chosen(name):
    """The environment of conf/env/NAME.yaml."""
    tree = compose_tree("rl", [f"env={name}", "policy=mlp"], [config_dir()])[0]["env"]
    return structure(tree, EnvConfig, "env")


class Twice(gym.Wrapper):
    """Takes every action twice; pays what both paid."""

    def step(self, action):
        first = self.env.step(action)
        if first[2] or first[3]:
            return first
        obs, reward, *rest = self.env.step(action)
        return obs, reward + first[1], *rest


class Bonus(gym.RewardWrapper):
    def __init__(self, env, bonus=1.0):
        super().__init__(env)
        self.bonus = bonus

    def reward(self, reward):
        return reward + self.bonus


def wrapper(target, **options):
    if isinstance(target, str):
        return build({"_target_": target, **options}, "env.wrappers.0")
    return Component(target, options, "env.wrappers.0")


def test_auto_takes_the_native_version_where_there_is_one_in_numpy():
    assert isinstance(make_envs(config(), 3), CartPoleVectorEnv)
    assert isinstance(make_envs(config("Acrobot-v1"), 2), SyncVectorEnv)
    assert isinstance(make_envs(config(vectorization="sync"), 2), SyncVectorEnv)
    # A keyword that only the single version knows.
    assert isinstance(
        make_envs(config(kwargs={"render_mode": None, "max_episode_steps": 9}), 2), CartPoleVectorEnv
    )


def test_the_native_version_does_the_same_without_asking_its_space_about_every_action():
    ours, plain = make_envs(config(), 3), CartPoleVectorEnv(3)
    for envs in (ours, plain):
        reset_envs(envs, [5, 6, 7])
    actions = np.random.default_rng(0).integers(2, size=(300, 3))
    for action in actions:
        for a, b in zip(ours.step(action)[:4], plain.step(action)[:4], strict=True):
            assert np.array_equal(a, b)


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


def test_wrappers_go_around_each_other_the_first_innermost():
    for order, expected in (([Twice, Bonus], 3 + 1), ([Bonus, Twice], 3 + 2)):
        envs = make_envs(config("Counting-v0", wrappers=tuple(map(wrapper, order))), 1)
        reset_envs(envs, [0])
        assert envs.step(np.array([0]))[1].tolist() == [expected]


def test_training_wrappers_are_there_in_training_only_and_outside_the_others():
    cfg = config("Counting-v0", wrappers=(wrapper(Bonus),), train_wrappers=(wrapper(Bonus, bonus=0.5),))
    paid = []
    for options in ({}, {"training": True}):
        envs = make_envs(cfg, 1, **options)
        reset_envs(envs, [0])
        paid += envs.step(np.array([0]))[1].tolist()
    assert paid == [2.0, 2.5]


def test_copies_behind_wrappers_are_never_native():
    for options in ({"wrappers": (wrapper(Bonus),)}, {"train_wrappers": (wrapper(Bonus),)}):
        assert isinstance(make_envs(config(**options), 2), SyncVectorEnv)
        with pytest.raises(
            ValueError, match="native: CartPole-v1: wrappers go around single copies; use sync"
        ):
            inspect_env(config(vectorization="native", **options))


def test_inspecting_sees_the_wrapped_spaces():
    keep = wrapper("gradrl.envs.wrappers.KeepElements", columns=[0, 2])
    assert inspect_env(config(wrappers=(keep,))).observation.size == 2
    taxi = inspect_env(config("Taxi-v4", wrappers=(wrapper("gradrl.envs.wrappers.ActionMask"),))).observation
    assert (taxi.size, taxi.mask.stop - taxi.mask.start) == (506, 6)


def test_a_cap_on_wrapped_episodes_counts_the_steps_of_the_agent():
    envs = make_envs(config("Walk-v0", wrappers=(wrapper(Twice),)), 1, max_episode_steps=3)
    reset_envs(envs, [0])
    assert [envs.step(np.array([4]))[3].item() for _ in range(4)] == [False, False, True, False]


def test_only_cartpole_has_a_native_version_in_numpy():
    native = [name for name, spec in gym.registry.items() if has_native(config(name), spec)]
    assert native == ["CartPole-v0", "CartPole-v1"]


def test_the_native_version_of_atari_is_not_mistaken_for_the_game():
    pytest.importorskip("ale_py")
    cfg = config("ALE/Pong-v5", import_module="ale_py")
    assert find_spec(cfg).vector_entry_point
    assert not has_native(cfg, find_spec(cfg))


@pytest.mark.parametrize(
    ("module", "name", "size", "actions"),
    [
        (None, "cartpole_no_velocity", 2, 2),
        (None, "pendulum_no_velocity", 2, 1),
        (None, "taxi", 506, 6),
        ("Box2D", "lunarlander", 8, 4),
        ("Box2D", "bipedal_walker", 24, 4),
        ("mujoco", "halfcheetah", 17, 6),
        ("mujoco", "ant", 105, 8),
        ("minigrid", "minigrid_empty", 147, 7),
        ("minigrid", "minigrid_doorkey", 147, 7),
        ("minigrid", "minigrid_key_corridor", 147, 7),
        ("minigrid", "minigrid_multiroom", 147, 7),
        ("minigrid", "minigrid_unlock", 147, 7),
        ("minatar.gym", "minatar_breakout", 400, 3),
        ("minatar.gym", "minatar_freeway", 700, 3),
        ("ale_py", "pong", 4 * 84 * 84, 6),
        ("ale_py", "breakout", 4 * 84 * 84, 4),
    ],
)
def test_simulators_step_behind_the_wrappers_of_their_files(module, name, size, actions):
    if module:
        pytest.importorskip(module)
    cfg = chosen(name)
    info = inspect_env(cfg)
    assert (info.observation.size, info.action.size) == (size, actions)
    envs = make_envs(cfg, 2, training=True)
    obs = reset_envs(envs, [0, 1])
    for _ in range(3):
        assert info.observation.encode(obs).shape == (2, size)
        obs, reward, *_ = envs.step(envs.action_space.sample())
        assert np.isfinite(reward).all()
    envs.close()


def test_a_package_registers_its_environments_once_by_its_own_function(monkeypatch, tmp_path):
    """As MinAtar does, which nothing but such a call would bring."""
    (tmp_path / "someones_games.py").write_text(
        "import gymnasium\n\n\n"
        "def register_envs():\n"
        "    entry = 'gymnasium.envs.classic_control:CartPoleEnv'\n"
        "    gymnasium.register('Somebody/Poles-v0', entry, max_episode_steps=7)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    cfg = config("Somebody/Poles-v0", import_module="someones_games")
    try:
        with warnings.catch_warnings(action="error"):  # gymnasium warns of an id that is registered again
            assert [inspect_env(cfg).max_episode_steps for _ in range(2)] == [7, 7]
    finally:
        gym.registry.pop("Somebody/Poles-v0", None)
        sys.modules.pop("someones_games", None)


def test_minatar_is_asked_for_by_name_where_it_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "minatar", None)
    monkeypatch.setitem(sys.modules, "minatar.gym", None)
    with pytest.raises(
        ValueError, match=r"^env.id=MinAtar/Freeway-v1 needs the package minatar, which is not"
    ):
        inspect_env(chosen("minatar_freeway"))


def test_games_show_four_grey_frames_and_pay_clipped_rewards_in_training_only():
    pytest.importorskip("ale_py")
    cfg = chosen("breakout")
    info = inspect_env(cfg)
    assert info.observation.dtype == np.uint8
    assert [(part.kind, part.shape) for part in info.observation.parts] == [("image", (4, 84, 84))]
    names = []
    env = make_env(cfg, training=True)
    while isinstance(env, gym.Wrapper):
        names.append(type(env).__name__)
        env = env.env
    assert names[:5] == [
        "ClipReward", "EpisodicLife", "FrameStackObservation", "FireReset", "AtariPreprocessing"
    ]  # fmt: skip
    assert type(make_env(cfg)).__name__ == "FrameStackObservation"


def test_mujoco_is_quiet_leaves_no_log_and_still_warns_of_an_unstable_simulation(
    tmp_path, monkeypatch, capfd
):
    mujoco = pytest.importorskip("mujoco")
    monkeypatch.chdir(tmp_path)
    env = make_env(config("HalfCheetah-v5"))
    env.reset(seed=0)
    inner = env.unwrapped
    inner.data.qvel[:] = 1e30
    with pytest.warns(
        RuntimeWarning, match=r"^MuJoCo: Nan, Inf or huge value in QVEL at DOF 0. .* unstable.$"
    ):
        mujoco.mj_step(inner.model, inner.data)
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("env", "module", "line"),
    [
        ("pong", "ale_py", "env.id=ALE/Pong-v5 needs the package ale-py: pip install 'gradsight[atari]'"),
        (
            "minigrid_empty",
            "minigrid",
            "env.id=MiniGrid-Empty-8x8-v0 needs the package minigrid: pip install 'gradsight[minigrid]'",
        ),
    ],
)
def test_a_package_that_is_missing_is_named_with_the_way_to_get_it(env, module, line, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match="needs") as caught:
        inspect_env(chosen(env))
    assert str(caught.value) == line


def test_simulators_that_fail_in_their_own_words_are_understood():
    said = gym.error.DependencyNotInstalled("No module named 'mujoco'. (HINT: pip install)")
    assert missing_package(said) == "the package mujoco: pip install 'gradsight[mujoco]'"
    chained = gym.error.DependencyNotInstalled("Box2D is not installed, run `pip install swig`")
    chained.__cause__ = ModuleNotFoundError("No module named 'Box2D'", name="Box2D")
    assert missing_package(chained) == "the package box2d: pip install 'gradsight[box2d]'"
    other = ModuleNotFoundError("No module named 'robots.arm'", name="robots.arm")
    assert missing_package(other) == "the package robots, which is not installed"
    assert missing_package(ValueError("bad gravity")) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env_id": "CartPol-v1"}, r"got 'CartPol-v1'; did you mean CartPole-v1\?"),
        ({"env_id": "cartpole-v1"}, r"did you mean CartPole-v1\?"),
        ({"env_id": "qqqqqqq"}, "must be an environment that gymnasium knows, got 'qqqqqqq' "),
        ({"import_module": "no_such_package"}, "env.import_module=no_such_package cannot be imported"),
        ({"kwargs": {"colour": "red"}}, "env.id=CartPole-v1 cannot be made: TypeError: .*colour"),
        ({"env_id": "Unsupported-v0", "kwargs": {"observation": "text"}}, "env.id=Unsupported-v0: .*Text"),
        ({"env_id": "Unsupported-v0", "kwargs": {"action": "text"}}, "env.id=Unsupported-v0: .*Text"),
        ({"env_id": "Unsupported-v0", "kwargs": {"action": "integers"}}, "floating point"),
        ({"env_id": "ALE/Nowhere-v5"}, "'ALE/Nowhere-v5'; it comes with env.import_module=ale_py"),
        (
            {"wrappers": (wrapper("gradrl.envs.wrappers.KeepElements", columns=[7]),)},
            "env.wrappers.0=KeepElements does not fit CartPole-v1: ValueError: columns must be ",
        ),
        (
            {"train_wrappers": (wrapper("gymnasium.wrappers.TimeAwareObservation"),)},
            "env.train_wrappers must leave the observation_space as it is; use env.wrappers",
        ),
        (
            {"env_id": "Acrobot-v1", "vectorization": "native"},
            "Acrobot-v1: it has no vector version in numpy",
        ),
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


@pytest.mark.parametrize("target", ["gymnasium.wrappers.vector.ClipReward", "gradrl.envs.make.EnvConfig"])
def test_what_is_no_wrapper_is_refused(target):
    wrapped = Component(import_target(target, "_target_"), {}, "env.wrappers.0")
    with pytest.raises(
        ValueError, match=r"^wrappers\.0\._target_ must be a class of gymnasium.Wrapper, got "
    ):
        config(wrappers=(wrapped,))


@pytest.mark.parametrize("kind", ["Observation", "Reward"])
def test_wrappers_that_learn_give_way_to_the_option_that_is_saved_and_shared(kind):
    with pytest.raises(ValueError, match=f"use normalize_{kind.lower()}=true, got 'Normalize{kind}'$"):
        config(wrappers=(wrapper(f"gymnasium.wrappers.Normalize{kind}"),))


def test_a_grid_world_without_wrappers_is_refused_for_its_text():
    pytest.importorskip("minigrid")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"^env.id=MiniGrid-Empty-5x5-v0: .*Mission"):
            inspect_env(config("MiniGrid-Empty-5x5-v0", import_module="minigrid"))


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_an_id_may_name_its_module_as_gymnasium_has_it(odd_envs, vectorization):
    cfg = config("odd_envs:Odd-v0", vectorization=vectorization)
    assert find_spec(cfg).id == "Odd-v0"
    envs = make_envs(cfg, 2)
    assert envs.num_envs == 2
    envs.close()
