"""A short film of one episode, small enough for a TensorBoard page."""

import os
from collections.abc import Callable

import gymnasium as gym
import numpy as np

from core.run.media import Video
from gradrl.envs import EnvConfig, EnvInfo, find_spec
from gradrl.host import Act

WIDTH = 300  # pixels
STRIDE = 2  # every second frame
SECONDS = 8.0


class Camera:
    """Films a policy; where the environment cannot be drawn it says so once and gives nothing.

    Args:
        env: which environment.
        info: its spaces.
        seed: of the filmed episode.
        say: takes one line for the user.
    """

    def __init__(self, env: EnvConfig, info: EnvInfo, seed: int, say: Callable[[str], None]) -> None:
        self.env, self.info, self.seed, self.say = env, info, seed, say
        self.broken = False

    def film(self, act: Act) -> Video | None:
        """The beginning of an episode, at its real speed."""
        if self.broken:
            return None
        try:
            return _film(act, self.env, self.info, self.seed)
        except Exception as error:  # pygame, OpenGL and drivers raise what they like; training must go on
            self.broken = True
            self.say(
                f"no video of {self.env.id}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            )
            return None


def shrink(frame: np.ndarray, width: int = WIDTH) -> np.ndarray:
    """A frame [H, W, 3] averaged over squares of whole pixels until it is about `width` wide, uint8."""
    factor = max(1, round(frame.shape[1] / width))
    height, breadth = frame.shape[0] // factor * factor, frame.shape[1] // factor * factor
    blocks = frame[:height, :breadth].reshape(height // factor, factor, breadth // factor, factor, 3)
    return blocks.mean((1, 3)).round().astype(np.uint8)


def _film(act: Act, cfg: EnvConfig, info: EnvInfo, seed: int) -> Video:
    for kind in ("VIDEO", "AUDIO"):  # pygame would look for a screen, which drawing into arrays does not need
        os.environ.setdefault(f"SDL_{kind}DRIVER", "dummy")
    env = gym.make(find_spec(cfg), render_mode="rgb_array", disable_env_checker=True, **cfg.kwargs)
    try:
        fps = float(env.metadata.get("render_fps") or 30)
        obs, _ = env.reset(seed=seed)
        frames = []
        for step in range(int(SECONDS * fps)):
            if step % STRIDE == 0:
                frames.append(shrink(np.asarray(env.render())))
            action = act(info.observation.encode(np.asarray(obs)[None]))
            obs, _, terminated, truncated, _ = env.step(info.action.decode(action)[0])
            if terminated or truncated:
                break
    finally:
        env.close()
    return Video(np.stack(frames), fps / STRIDE)
