"""Copies against Gymnasium's SyncVectorEnv, step for step."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from gradrl.envs.copies import Copies
from gradrl.envs.env_state import Replayable

MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]
OBSERVATIONS = {
    "vector": spaces.Box(-5, 5, (3,), np.float32),
    "bytes": spaces.Box(0, 255, (2, 2), np.uint8),
    "number": spaces.Discrete(40),
    "parts": spaces.Dict({"a": spaces.Box(-5, 5, (3,), np.float64), "b": spaces.MultiBinary(4)}),
}
ACTIONS = {
    "vector": spaces.Box(-1, 1, (2,), np.float32),
    "choice": spaces.Discrete(3),
    "choices": spaces.MultiDiscrete([2, 3]),
    "parts": spaces.Dict({"turn": spaces.Box(-1, 1, (1,), np.float32), "gear": spaces.Discrete(2)}),
}


class Draws(gym.Env):
    """Everything is drawn; an episode ends by itself or by the clock, mostly after a few steps."""

    def __init__(self, observation: spaces.Space, action: spaces.Space) -> None:
        self.observation_space, self.action_space = copy.deepcopy(observation), action

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample(), {"laps": 1}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        ends = self.np_random.random(2) < 0.2
        reward = self.np_random.normal() + float(np.sum(next(iter(_numbers(action)))))
        return self.observation_space.sample(), reward, bool(ends[0]), bool(ends[1]), {"laps": 2}


def _numbers(action: Any) -> Any:
    return action.values() if isinstance(action, dict) else [action]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_copies_step_as_gymnasium_s_do(observation: str, action: str, mode: AutoresetMode) -> None:
    def make() -> gym.Env:
        return Replayable(Draws(OBSERVATIONS[observation], ACTIONS[action]))

    ours, theirs = Copies(make, 3, mode), SyncVectorEnv([make] * 3, autoreset_mode=mode)
    np.testing.assert_equal(ours.reset(seed=[3, 4, 5])[0], theirs.reset(seed=[3, 4, 5])[0])
    ours.action_space.seed(0)
    finals = 0
    for _ in range(60):
        actions = ours.action_space.sample()
        *mine, infos = ours.step(actions)
        *their, their_infos = theirs.step(actions)
        np.testing.assert_equal(mine, their)
        assert [part.dtype for part in mine[1:]] == [part.dtype for part in their[1:]]
        assert ("final_obs" in infos) == ("final_obs" in their_infos)
        if "final_obs" in infos:
            np.testing.assert_equal(list(infos["final_obs"]), list(their_infos["final_obs"]))
            finals += 1
    assert (finals > 0) == (mode is AutoresetMode.SAME_STEP)


def test_the_last_observation_of_an_episode_outlives_the_reset() -> None:
    class Buffer(Draws):
        """Writes all its observations into one array."""

        def __init__(self) -> None:
            super().__init__(OBSERVATIONS["vector"], ACTIONS["choice"])
            self.seen = np.zeros(3, np.float32)

        def reset(self, **kwargs: Any) -> Any:
            self.seen[:] = 0
            return self.seen, {}

        def step(self, action: Any) -> Any:
            self.seen += 1
            return self.seen, 0.0, False, bool(self.seen[0] == 2), {}

    envs = Copies(lambda: Replayable(Buffer()), 1, AutoresetMode.SAME_STEP)
    envs.reset(seed=[0])
    envs.step(np.zeros(1, np.int64))
    obs, _, _, truncated, infos = envs.step(np.zeros(1, np.int64))
    assert truncated.all()
    assert (infos["final_obs"][0] == 2).all()
    assert (obs == 0).all()
