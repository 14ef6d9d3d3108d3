"""Two small environments of our own, so that `suite=elsewhere` has tasks that nobody's thresholds know.

Importing registers them: `env.id=Cells-v0 env.import_module=core.scripts.suites.worlds`.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SIDE = 6  # cells of the grid
MOVES = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])


class Cells(gym.Env):
    """A square of cells: walk to its far corner from anywhere; only the arrival is rewarded.

    Observes both coordinates in [-1, 1]. Four actions, of which those into a wall do nothing. A step costs
    0.02, the arrival brings 1 and ends the episode.
    """

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Anywhere but in the corner."""
        super().reset(seed=seed)
        self._cell = np.array(divmod(int(self.np_random.integers(SIDE * SIDE - 1)), SIDE))
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """One cell on."""
        self._cell = np.clip(self._cell + MOVES[int(action)], 0, SIDE - 1)
        there = bool((self._cell == SIDE - 1).all())
        return self._seen(), float(there) - 0.02, there, False, {}

    def _seen(self) -> np.ndarray:
        return (2.0 * self._cell / (SIDE - 1) - 1.0).astype(np.float32)


class Mass(gym.Env):
    """A point in the plane is pushed to the origin, where it is to stay.

    Observes place and velocity; an action is a force in [-1, 1]^2. The reward is minus the distance. Never
    ends but by its time limit.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Anywhere in the square, at rest."""
        super().reset(seed=seed)
        self._place = self.np_random.uniform(-1.0, 1.0, 2)
        self._velocity = np.zeros(2)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """A tenth of a second, with friction."""
        self._velocity = 0.9 * self._velocity + 0.1 * np.clip(action, -1.0, 1.0)
        self._place = np.clip(self._place + 0.3 * self._velocity, -3.0, 3.0)
        return self._seen(), -float(np.hypot(*self._place)), False, False, {}

    def _seen(self) -> np.ndarray:
        return np.concatenate([self._place, self._velocity]).astype(np.float32)


if "Cells-v0" not in gym.registry:  # the module has two names, inside of `core` and outside
    gym.register("Cells-v0", f"{__name__}:Cells", max_episode_steps=40)
    gym.register("Mass-v0", f"{__name__}:Mass", max_episode_steps=50)
