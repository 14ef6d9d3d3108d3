"""A tiny environment whose every number is known, registered as Counting-v0."""

import gymnasium as gym
import numpy as np


class Counting(gym.Env):
    """Episode e lasts `lengths[e % len]` steps, ends as `kinds[e % len]`, and pays 1 + t + 10 e at step t, or
    NaN where `e % len` is one of `unpaid`.

    It observes (e, t). The seed of a reset chooses the episode it begins with.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(
        self,
        lengths=(3, 1, 4, 2),
        kinds=("terminated", "truncated", "truncated", "terminated"),
        unpaid=(),
    ):
        self.lengths, self.kinds, self.unpaid = lengths, kinds, unpaid
        self.episode, self.t = -1, 0

    def _obs(self):
        return np.array([self.episode, self.t], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode = self.episode + 1 if seed is None else seed % 7
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        reward = 1.0 + self.t + 10.0 * self.episode
        self.t += 1
        which = self.episode % len(self.lengths)
        reward = np.nan if which in self.unpaid else reward
        done = self.t >= self.lengths[which]
        terminated, truncated = (done and self.kinds[which] == kind for kind in ("terminated", "truncated"))
        return self._obs(), reward, terminated, truncated, {}


class CountingInParts(Counting):
    """The same, but observes {"clock": (t among 5,), "episode": [e]}."""

    observation_space = gym.spaces.Dict({
        "clock": gym.spaces.Tuple((gym.spaces.Discrete(5),)),
        "episode": gym.spaces.Box(-np.inf, np.inf, (1,), np.float32),
    })  # fmt: skip

    def _obs(self):
        return {"clock": (self.t,), "episode": np.array([self.episode], np.float32)}


class Walk(gym.Env):
    """Endless random walk in one dimension, with a Discrete observation: no time limit."""

    observation_space = gym.spaces.Discrete(5, start=1)
    action_space = gym.spaces.Discrete(2, start=3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(1, 6))
        return self.place, {}

    def step(self, action):
        assert action in (3, 4)
        self.place = int(np.clip(self.place + (1 if action == 4 else -1), 1, 5))
        return self.place, 1.0, False, False, {}


class Unsupported(gym.Env):
    """Spaces chosen by keyword."""

    def __init__(self, observation="box", action="discrete"):
        kinds = {
            "box": gym.spaces.Box(-1, 1, (3,)),
            "discrete": gym.spaces.Discrete(3),
            "dict": gym.spaces.Dict({"a": gym.spaces.Discrete(2)}),
            "tuple": gym.spaces.Tuple((gym.spaces.Discrete(2),)),
            "multi_discrete": gym.spaces.MultiDiscrete([2, 3]),
            "multi_binary": gym.spaces.MultiBinary(2),
            "text": gym.spaces.Text(3),
            "image": gym.spaces.Box(0, 255, (64, 64, 3), np.uint8),
            "integers": gym.spaces.Box(0, 5, (2,), np.int64),
        }
        self.observation_space, self.action_space = kinds[observation], kinds[action]


class OneBuffer(gym.Env):
    """Counts its steps, in one array that it hands out again and again; cut off at 5."""

    observation_space, action_space = gym.spaces.Box(0, 5, (1,), np.float32), gym.spaces.Discrete(2)

    def __init__(self):
        self.buffer = np.zeros(1, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.buffer[:] = 0
        return self.buffer, {}

    def step(self, action):
        self.buffer += 1
        return self.buffer, 1.0, False, bool(self.buffer[0] >= 5), {}


class Clock(gym.Env):
    """Observes the seconds since 1970, one more with every step."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, dtype=np.float64):
        self.observation_space = gym.spaces.Box(0, 2e9, (1,), dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seconds = 1_700_000_000
        return np.array([self.seconds], self.observation_space.dtype), {}

    def step(self, action):
        self.seconds += 1
        return np.array([self.seconds], self.observation_space.dtype), 1.0, False, False, {}


class NoWayOut(gym.Env):
    """Four steps; the masks of the third and of the last observation allow nothing."""

    action_space = gym.spaces.Discrete(2)
    observation_space = gym.spaces.Dict(
        {"step": gym.spaces.Discrete(5), "action_mask": gym.spaces.MultiBinary(2)}
    )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.obs(), {}

    def step(self, action):
        self.count += 1
        return self.obs(), 1.0, self.count == 4, False, {}

    def obs(self):
        allowed = 0 if self.count in (2, 4) else 1
        return {"step": self.count, "action_mask": np.full(2, allowed, np.int8)}


ENVIRONMENTS = {
    "NoWayOut-v0": NoWayOut,
    "OneBuffer-v0": OneBuffer,
    "Clock-v0": Clock,
    "Counting-v0": Counting,
    "CountingInParts-v0": CountingInParts,
    "Walk-v0": Walk,
    "Unsupported-v0": Unsupported,
}
for name, cls in ENVIRONMENTS.items():
    if name not in gym.registry:
        gym.register(name, entry_point=cls, disable_env_checker=True)
