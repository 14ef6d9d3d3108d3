"""An environment of your own: gymnasium's interface, registered by the module that `env.id` names.

python examples/own_env.py env.id=own_env:Corridor-v0 env.kwargs.length=12
"""

import gymnasium as gym
import numpy as np

from core.cli.command import launch


class Corridor(gym.Env):
    """A corridor that begins at a wall and ends at a door; each step costs a little."""

    observation_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length: int = 8) -> None:
        self.length = length

    def reset(self, *, seed=None, options=None):
        """Begin at a random place."""
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(self.length))
        return self.seen(), {}

    def step(self, action):
        """Go to the wall (0) or to the door (1)."""
        self.place = max(self.place + (1 if action == 1 else -1), 0)
        return self.seen(), -1.0 / self.length, self.place == self.length, False, {}

    def seen(self) -> np.ndarray:
        """How far it is from the wall, as a share."""
        return np.array([self.place / self.length], np.float32)


if __name__ == "__main__":
    launch("rl", by_id="env")
gym.register("Corridor-v0", "own_env:Corridor", max_episode_steps=100)
