"""What an environment returns from `reset` and `step`, right and wrong, and when it is found."""

import re
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from core.errors import ContractError
from gradrl.envs.env_state import Replayable
from gradrl.envs.make import EnvConfig, inspect_env, make_envs, try_env
from gradrl.evaluation.evaluator import EvaluationConfig, evaluate
from tests.gradrl.scripted import Scripted

BOX = spaces.Box(-1, 1, (3,), np.float32)
SEEN = np.zeros(3, np.float32)
PARTS = spaces.Dict(a=spaces.Discrete(3, start=-1), b=spaces.Tuple((BOX, spaces.MultiDiscrete([2, 3]))))
IN_PARTS = {"a": 1, "b": (SEEN, np.array([1, 2]))}


class Told(gym.Env):
    """Returns what it is told to: from `reset`, and from `step`, in its second step if `late`."""

    def __init__(self, reset=(SEEN, {}), step=(SEEN, 1.0, False, False, {}), space=BOX, late=0):
        self.observation_space, self.action_space = space, spaces.Discrete(2)
        self.told, self.late = (reset, step), late

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.told[0]

    def step(self, action):
        self.steps += 1
        return self.told[1] if self.steps > self.late else (SEEN, 1.0, False, False, {})


class NoSeed(Told):
    def reset(self):
        return super().reset()


class Masked(gym.Env):
    """Allows one action of three, another one at every step, and only that."""

    observation_space = spaces.Dict(observation=BOX, action_mask=spaces.MultiBinary(3))
    action_space = spaces.Discrete(3, start=5)

    def _seen(self):
        mask = np.zeros(3, np.int8)
        mask[self.steps % 3] = 1
        return {"observation": SEEN, "action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 1
        return self._seen(), {}

    def step(self, action):
        if action != 5 + self.steps % 3:
            raise ValueError("not allowed")
        self.steps += 1
        return self._seen(), 1.0, self.steps > 3, False, {}


for name, cls, limit in (
    ("Told", Told, None),
    ("ToldTimed", Told, 9),
    ("NoSeed", NoSeed, None),
    ("Masked", Masked, None),
):
    gym.register(f"{name}-v0", cls, max_episode_steps=limit)


def config(env_id: str, vectorization: str = "sync", **kwargs) -> EnvConfig:
    return EnvConfig(
        id=env_id, kwargs=kwargs, import_module=None, wrappers=(), train_wrappers=(),
        vectorization=vectorization, autoreset="same_step",
    )  # fmt: skip


def step(obs=SEEN, reward=1.0, terminated=False, truncated=False, info=()):
    return {"step": (obs, reward, terminated, truncated, dict(info) if info == () else info)}


STEP = "(observation, reward, terminated, truncated, info)"
TWO = "it returned an array of shape (2,)"
WRONG = [
    ({"step": (SEEN, 1.0, False, {})}, f"step() must return {STEP}, it returned 4 values"),
    ({"step": None}, f"step() must return {STEP}, it returned None"),
    ({"reset": SEEN}, "reset() must return (observation, info), it returned an array of shape (3,)"),
    ({"reset": (SEEN, None)}, "reset() must return a dict as info, it returned None"),
    (step(info=None), "step() must return a dict as info, it returned None"),
    (step(reward=None), "step() must return a number as reward, it returned None"),
    (step(reward=np.zeros(2)), f"step() must return a number as reward, {TWO}"),
    (step(terminated=np.zeros(2)), f"step() must return true or false as terminated, {TWO}"),
    (
        {"reset": (np.zeros(4, np.float32), {})},
        "reset() returned an observation of shape (4,), its space has shape (3,)",
    ),
    (step(obs=np.float32(0.5)), "step() returned an observation of shape (), its space has shape (3,)"),
    (step(obs=1j * SEEN), "step() returned an observation of complex64, its space has float32"),
    (
        {"space": spaces.Discrete(5), "reset": (-1, {})},
        "reset() returned the observation -1, outside its space: 0 to 4",
    ),
    (
        {"space": spaces.Discrete(5, start=2), "reset": (7, {})},
        "reset() returned the observation 7, outside its space: 2 to 6",
    ),
    (
        {"space": PARTS, "reset": ({"a": 0}, {})},
        "reset() returned an observation without the part 'b' of its space",
    ),
    (
        {"space": PARTS, "reset": ({**IN_PARTS, "b": (SEEN, np.array([2, 0]))}, {})},
        "reset() returned the observation['b'][1] [2, 0], outside its space: [0, 0] to [1, 2]",
    ),
]


@pytest.mark.parametrize(("told", "message"), WRONG)
@pytest.mark.parametrize(
    ("env_id", "vectorization"), [("Told-v0", "sync"), ("ToldTimed-v0", "sync"), ("ToldTimed-v0", "async")]
)
def test_what_breaks_the_contract_is_found_before_training(told, message, env_id, vectorization):
    cfg = config(env_id, vectorization, **told)
    info = inspect_env(cfg)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        try_env(cfg, info)
    assert str(caught.value) == f"env.id={env_id}: {message}"


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_what_breaks_the_contract_later_ends_an_evaluation_in_one_line(vectorization, capfd):
    cfg = config("Told-v0", vectorization, late=20, **step(reward=None))
    info = inspect_env(cfg)
    try_env(cfg, info)
    options = EvaluationConfig(
        episodes=2, interval_episodes=1, num_envs=2, max_episode_steps=99, deterministic=True
    )
    with pytest.raises(ContractError) as caught:
        evaluate(Scripted(lambda obs: np.zeros(len(obs), np.int64)), cfg, info, options, 2, 0)
    assert str(caught.value) == "env.id=Told-v0: step() must return a number as reward, it returned None"
    assert capfd.readouterr().err == ""


def test_a_reset_without_a_seed_is_named_with_the_error():
    cfg = config("NoSeed-v0")
    with pytest.raises(ValueError, match=r"^env.id=NoSeed-v0: reset\(\) raised TypeError: .*'seed'"):
        try_env(cfg, inspect_env(cfg))


@pytest.mark.parametrize(
    "reward", [2, 2.0, np.float32(2), np.array(2.0), np.array([2.0], np.float32), np.array([[2]])]
)
def test_a_reward_of_one_number_is_that_number(reward):
    envs = make_envs(config("Told-v0", **step(reward=reward)), 2)
    envs.reset(seed=0)
    assert envs.step(np.zeros(2, np.int64))[1].tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("space", "obs"),
    [
        (BOX, [0.0, 0.5, 1.0]),
        (BOX, np.zeros(3)),
        (BOX, np.zeros(3, np.int64)),
        (spaces.Discrete(3), np.int32(2)),
        (spaces.MultiBinary(2), [True, False]),
        (PARTS, {**IN_PARTS, "more": "than its space says"}),
    ],
)
def test_what_can_be_read_as_its_space_is_taken(space, obs):
    env = Replayable(Told(space=space, reset=[obs, {}], **step(obs=obs, terminated=np.bool_(True))))
    env.reset(seed=0)
    assert env.step(0)[1:] == (1.0, True, False, {})


def test_infos_of_copies_may_differ_in_shape():
    class Growing(Told):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed)[0], {"path": np.zeros(seed or 1)}

    envs = gym.vector.SyncVectorEnv([lambda: Replayable(Growing())] * 2)
    assert envs.reset(seed=[2, 3])[0].shape == (2, 3)


def test_the_trial_takes_only_actions_that_are_allowed():
    cfg = config("Masked-v0")
    try_env(cfg, inspect_env(cfg))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def broken(:", r"SyntaxError: invalid syntax \(.*own_envs.py, line 3\)"),
        ("gym.register('A-v0', None)", r"NameError: name 'gym' is not defined \(.*own_envs.py, line 3\)"),
        ("import json; json.loads('{')", r"JSONDecodeError: Expecting .* \(.*own_envs.py, line 3\)"),
        ("import not_there", r"ModuleNotFoundError: No module named 'not_there' \(.*own_envs.py, line 3\)"),
        ("raise SystemExit(3)", r"SystemExit: 3 \(.*own_envs.py, line 3\)"),
    ],
)
def test_a_module_with_an_error_of_its_own_is_named_with_the_place(source, said, tmp_path, monkeypatch):
    (tmp_path / "own_envs.py").write_text(f"# environments\n\n{source}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_envs", raising=False)
    cfg = EnvConfig(
        id="A-v0", kwargs={}, import_module="own_envs", wrappers=(), train_wrappers=(),
        vectorization="sync", autoreset="same_step",
    )  # fmt: skip
    with pytest.raises(ValueError, match=f"^env.import_module=own_envs cannot be imported: {said}$"):
        inspect_env(cfg)
