"""Copies of an environment that step one after the other, with little besides their steps."""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import concatenate, iterate


class Copies(SyncVectorEnv):
    """Gymnasium's own, with a step of fewer calls.

    What a step returns is overwritten by the next one: who keeps it copies it. Infos of the copies are left
    out but for the last observations of episodes ("final_obs", an array of objects, [N]), which are what the
    copies returned and nobody else's.

    Args:
        make: makes one copy, `Replayable`: its observations are never written to again.
        num_envs: N.
        autoreset_mode: when a copy resets after an episode.
    """

    def __init__(self, make: Callable[[], gym.Env], num_envs: int, autoreset_mode: AutoresetMode) -> None:
        super().__init__([make] * num_envs, copy=False, autoreset_mode=autoreset_mode)
        self._rows = isinstance(self.single_observation_space, spaces.Box)
        self._resets_late = autoreset_mode is AutoresetMode.NEXT_STEP

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step or reset every copy; observations, rewards [N], terminated [N], truncated [N], infos."""
        final: dict[int, Any] = {}
        late = self._resets_late
        each: Iterator[Any] = (
            iter(actions) if type(actions) is np.ndarray else iterate(self.action_space, actions)
        )
        for n, (env, action) in enumerate(zip(self.envs, each, strict=True)):
            if late and self._autoreset_envs[n]:
                obs, reward, terminated, truncated = env.reset()[0], 0.0, False, False
            else:
                obs, reward, terminated, truncated, _ = env.step(action)
                if not late and (terminated or truncated):
                    final[n] = obs
                    obs = env.reset()[0]
            self._rewards[n], self._terminations[n], self._truncations[n] = reward, terminated, truncated
            if self._rows:
                self._observations[n] = obs
            else:
                self._env_obs[n] = obs
        if not self._rows:
            self._observations = concatenate(self.single_observation_space, self._env_obs, self._observations)
        self._autoreset_envs = self._terminations | self._truncations
        infos = {"final_obs": _objects(final, self.num_envs)} if final else {}
        return self._observations, self._rewards, self._terminations, self._truncations, infos


def _objects(rows: dict[int, Any], size: int) -> np.ndarray:
    """Objects at their places, [size]; None elsewhere."""
    found = np.full(size, None, dtype=object)
    for n, row in rows.items():
        found[n] = row
    return found
