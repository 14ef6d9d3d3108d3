"""A short video of one episode, small enough for a TensorBoard page."""

import math
from collections.abc import Callable

import gymnasium as gym
import numpy as np

from core.draw.media import Video
from gradrl.envs.make import EnvConfig, EnvInfo, make_env
from gradrl.envs.simulators import draw_without_screen, load_triton_first
from gradrl.policies.actor import Actor

WIDTH = 300  # pixels
MAX_FPS = 25.0  # frames a second are enough
MIN_FPS = 10.0  # and as few will do: MuJoCo without a graphics card takes 0.1 s to draw one
ATARI_FPS = 60.0  # of the console; ale-py says 30
SECONDS = 8.0


class Camera:
    """Records videos of a policy; where the environment cannot be drawn, it says so once and records none.

    Args:
        env: which environment.
        info: its spaces.
        seed: of the episode.
        say: takes one line for the user.
    """

    def __init__(self, env: EnvConfig, info: EnvInfo, seed: int, say: Callable[[str], None]) -> None:
        self.env, self.info, self.seed, self.say = env, info, seed, say
        self.broken = False

    def record(self, actor: Actor) -> Video | None:
        """The beginning of an episode, at its real speed."""
        if self.broken:
            return None
        try:
            return _record(actor, self.env, self.info, self.seed)
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
    total = np.full((height // factor, breadth // factor, 3), factor**2 // 2, np.uint32)
    for i, j in np.ndindex(factor, factor):  # a seventh of the cost of a mean over float64
        total += frame[i:height:factor, j:breadth:factor]
    return (total // factor**2).astype(np.uint8)


def frames_per_second(env: gym.Env) -> float:
    """How many of the agent's steps a second of real time holds.

    An environment's render_fps counts its own steps, of which a wrapper may take several at once.
    """
    fps, wrapper = float(env.metadata.get("render_fps") or 30), env
    while isinstance(wrapper, gym.Wrapper):
        if isinstance(wrapper, gym.wrappers.AtariPreprocessing):
            fps = ATARI_FPS / wrapper.frame_skip
        wrapper = wrapper.env
    return fps


def _record(actor: Actor, cfg: EnvConfig, info: EnvInfo, seed: int) -> Video:
    draw_without_screen()
    env = make_env(cfg, render_mode="rgb_array")
    load_triton_first()
    try:
        fps = frames_per_second(env)
        stride = max(math.ceil(fps / MAX_FPS), 2 if fps >= 2 * MIN_FPS else 1)
        obs, _ = env.reset(seed=seed)
        frames = []
        actor.begin(1)
        for step in range(int(SECONDS * fps)):
            if step % stride == 0:
                frames.append(shrink(np.asarray(env.render())))
            action = actor(info.observation.encode_one(obs)[None], np.array([step == 0]))
            obs, _, terminated, truncated, _ = env.step(info.action.decode(action)[0])
            if terminated or truncated:
                break
    finally:
        env.close()
    return Video(np.stack(frames), fps / stride)
