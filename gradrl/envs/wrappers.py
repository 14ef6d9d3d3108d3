"""Wrappers that gymnasium.wrappers lacks; `env.wrappers` and `env.train_wrappers` apply either kind.

Rewards are left alone here, and every wrapper passes on the steps that the environment counts, so an
evaluation behind `env.wrappers` measures the environment itself.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

Info = dict[str, Any]
Step = tuple[Any, Any, bool, bool, Info]
SKIPS: dict[type, str] = {  # who takes several steps at once, and its attribute that says how many
    gym.wrappers.AtariPreprocessing: "frame_skip",
    gym.wrappers.MaxAndSkipObservation: "_skip",
    gym.wrappers.RepeatAction: "num_repeats",
}


class KeepElements(gym.ObservationWrapper):
    """Keeps some elements of a vector: without the velocities CartPole needs a recurrent policy.

    Args:
        env: observes a Box of rank 1.
        columns: which elements, in the order wanted.
    """

    def __init__(self, env: gym.Env, columns: Sequence[int]) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"columns can be kept of a vector, not of {space}")
        self.columns = np.array(columns, np.int64)
        inside = self.columns.ndim == 1 and bool(
            ((self.columns >= 0) & (self.columns < space.shape[0])).all()
        )
        if not inside or not len(columns) or len(set(columns)) < len(columns):
            raise ValueError(
                f"columns must be different integers from 0 to {space.shape[0] - 1}, got {columns}"
            )
        low, high = space.low[self.columns], space.high[self.columns]
        self.observation_space = spaces.Box(low, high, dtype=space.dtype.type)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """The elements that are kept, [len(columns)]."""
        return observation[self.columns]


class FramesAsChannels(gym.ObservationWrapper):
    """A stack of colour frames [K, H, W, C] as one image of K C channels, [K C, H, W]; oldest frame first.

    Args:
        env: observes such stacks (FrameStackObservation over colour frames).
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 4:
            raise ValueError(f"only stacks of colour frames [K, H, W, C] can be merged, not {space}")
        self.observation_space = spaces.Box(
            self.observation(space.low), self.observation(space.high), dtype=space.dtype.type
        )

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """[K, H, W, C] to [K C, H, W]."""
        frames, height, width, channels = observation.shape
        return np.moveaxis(observation, 3, 1).reshape(frames * channels, height, width)


class ActionMask(gym.Wrapper):
    """Puts the mask of allowed actions into the observation, where the policy finds it.

    Args:
        env: has Discrete actions, and either a method `action_masks()` (the convention of sb3-contrib) or an
            "action_mask" in the info of every reset and step (as Gymnasium's Taxi); at least one action must
            be allowed at any time.

    Its observations are a Dict of "observation", the environment's own, and "action_mask", [n] of 1 and 0.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        actions = env.action_space
        if not isinstance(actions, spaces.Discrete):
            raise ValueError(f"masks need Discrete actions, not {actions}")
        self.asks = env.has_wrapper_attr("action_masks")
        mask = spaces.MultiBinary(int(actions.n))
        self.observation_space = spaces.Dict({"observation": env.observation_space, "action_mask": mask})

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin an episode."""
        obs, info = self.env.reset(seed=seed, options=options)
        return self._masked(obs, info), info

    def step(self, action: Any) -> Step:
        """Take a step."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self._masked(obs, info), reward, terminated, truncated, info

    def _masked(self, obs: Any, info: Info) -> dict[str, Any]:
        if not self.asks and "action_mask" not in info:
            raise ValueError("the environment has neither action_masks() nor info['action_mask']")
        mask = self.env.get_wrapper_attr("action_masks")() if self.asks else info["action_mask"]
        return {"observation": obs, "action_mask": np.array(mask, np.int8)}  # a copy


class EpisodicLife(gym.Wrapper):
    """Ends an episode with every lost life; the game goes on in the next one. For training only.

    The last life's episode ends with the game, not where it first reports no lives.

    A reset with a seed always begins a new game; one without does so where the last step ended the game,
    and otherwise takes one step with action 0.

    Args:
        env: says how many lives are left in `info["lives"]`.

    Source: Mnih et al. 2015, "Human-level control through deep reinforcement learning", Methods.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.lives = 0
        self.game_over = True

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin an episode: a new game, or the next life."""
        if not self.game_over and seed is None:
            obs, _, terminated, truncated, info = self.env.step(0)
            if not (terminated or truncated):
                self.lives = _lives(info)
                return obs, info
        obs, info = self.env.reset(seed=seed, options=options)
        self.lives, self.game_over = _lives(info), True  # nothing has been played yet
        return obs, info

    def step(self, action: Any) -> Step:
        """Take a step."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        lives = _lives(info)
        lost = 0 < lives < self.lives  # some games go on for a few frames without a life left
        self.lives, self.game_over = lives, bool(terminated or truncated)
        return obs, reward, bool(terminated or lost), truncated, info


class FireReset(gym.Wrapper):
    """Presses FIRE where a game waits for it: after a reset, and as the first action of every further life.

    So no policy has to learn to serve, and none can stand still for ever in an evaluation. Put it inside
    EpisodicLife, whose own step after a lost life becomes the one that is replaced.

    Args:
        env: an Atari game that has the action FIRE, and `info["lives"]`.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        meanings = env.get_wrapper_attr("get_action_meanings")()
        if "FIRE" not in meanings:
            raise ValueError(f"this game has no action FIRE, only {', '.join(meanings)}")
        self.fire = meanings.index("FIRE")
        self.lives = 0
        self.waiting = False

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin a game and press FIRE."""
        self.env.reset(seed=seed, options=options)
        obs, _, terminated, truncated, info = self.env.step(self.fire)
        if terminated or truncated:
            obs, info = self.env.reset(options=options)
        self.lives, self.waiting = _lives(info), False
        return obs, info

    def step(self, action: Any) -> Step:
        """Take a step; FIRE instead of this action if the last step cost a life."""
        obs, reward, terminated, truncated, info = self.env.step(self.fire if self.waiting else action)
        self.waiting = _lives(info) < self.lives
        self.lives = _lives(info)
        return obs, reward, terminated, truncated, info


class FreshWorld(gym.Wrapper):
    """Begins every episode of a Box2D environment in a new world, as Gymnasium's LunarLander does itself.

    BipedalWalker keeps its world, whose order of contacts then depends on all episodes before (Gymnasium's
    issue 728 on GitHub): an episode played again from the same state ends differently.

    Args:
        env: a Box2D environment that builds its bodies at every reset.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        if not hasattr(env.unwrapped, "world") or not hasattr(env.unwrapped, "_destroy"):
            raise ValueError("there is no Box2D world to renew")

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin an episode in a new world."""
        inner: Any = self.env.unwrapped
        if inner.world is not None:
            inner._destroy()
            inner.world = type(inner.world)(gravity=inner.world.gravity)
        return self.env.reset(seed=seed, options=options)


class ShortSeeds(gym.Wrapper):
    """Keeps the lowest 32 bits of every seed: numpy's older generator, which MinAtar has, takes no more.

    Args:
        env: any.
    """

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin an episode."""
        return self.env.reset(seed=None if seed is None else seed % 2**32, options=options)


def _lives(info: Info) -> int:
    if "lives" not in info:
        raise ValueError("the environment does not say how many lives are left in info['lives']")
    return int(info["lives"])


def remarks(env: gym.Env, training: gym.Env) -> tuple[str, ...]:
    """What a reader of returns and steps must know of the wrappers, a sentence each without its full stop.

    Args:
        env: a copy as an evaluation sees it.
        training: one as the training sees it.
    """
    frames = 1
    for wrapper in _chain(training):
        for kind, name in SKIPS.items():
            frames *= getattr(wrapper, name) if isinstance(wrapper, kind) else 1
    found = [f"one environment step is {frames} frames"] if frames > 1 else []
    changed, everywhere = (
        [type(w).__name__ for w in _chain(e) if isinstance(w, gym.RewardWrapper)] for e in (training, env)
    )
    if changed:
        own = "evaluations have the same" if everywhere else "evaluations have the environment's own"
        found.append(f"training returns are sums of rewards changed by {' and '.join(changed)}; {own}")
    return tuple(found)


def _chain(env: gym.Env) -> Iterator[gym.Env]:
    """The wrappers of an environment, from the outermost in."""
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
