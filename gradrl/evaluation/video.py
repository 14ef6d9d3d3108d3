"""A short video of one episode, small enough for a TensorBoard page."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator

from core.config import ConfigError
from core.draw.media import Video
from gradrl.envs.make import EnvConfig, EnvInfo, find_spec, make_env
from gradrl.envs.simulators import draw_without_screen, load_triton_first
from gradrl.policies.actor import Actor

WIDTH = 300  # pixels
MAX_FPS = 20.0  # frames a second are enough
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
        if not may_be_drawn(self.env):
            self.broken = True
            self.say(f"no video of {self.env.id}: it has no render mode")
            return None
        try:
            return _record(actor, self.env, self.info, self.seed, SECONDS)
        except Exception as error:  # pygame, OpenGL and drivers raise what they like; training must go on
            self.broken = True
            self.say(_undrawn(self.env, error))
            return None


def may_be_drawn(cfg: EnvConfig) -> bool:
    """Whether the class of an environment names a render mode; one without metadata may have some."""
    entry = find_spec(cfg).entry_point
    metadata = getattr(load_env_creator(entry) if isinstance(entry, str) else entry, "metadata", {})
    return metadata.get("render_modes") != []


def side_by_side(actor: Actor, cfg: EnvConfig, info: EnvInfo, seeds: Sequence[int], seconds: float) -> Video:
    """One episode for each seed, at its real speed, in a square of pictures; the last frame of one that has
    ended stays.

    Args:
        actor: chooses actions from encoded observations.
        cfg: which environment.
        info: its spaces.
        seeds: of the episodes, at least one.
        seconds: after which they are cut off.

    Raises:
        ConfigError: the environment cannot be drawn; one line.
    """
    try:
        videos = [_record(actor, cfg, info, seed, seconds) for seed in seeds]
    except Exception as error:  # pygame, OpenGL and drivers raise what they like
        raise ConfigError(_undrawn(cfg, error)) from error
    length, columns = max(len(video.frames) for video in videos), math.ceil(math.sqrt(len(videos)))
    padded = [
        np.pad(v.frames, ((0, length - len(v.frames)), (0, 0), (0, 0), (0, 0)), mode="edge") for v in videos
    ]
    padded += [np.zeros_like(padded[0])] * (-len(padded) % columns)
    rows = [np.concatenate(padded[i : i + columns], 2) for i in range(0, len(padded), columns)]
    return Video(np.concatenate(rows, 1), videos[0].fps)


def play(actor: Actor, cfg: EnvConfig, info: EnvInfo, seeds: Sequence[int]) -> None:
    """Show episodes, one after the other, in a window of the environment's own.

    Raises:
        ConfigError: there is no window to show them in; one line.
    """
    try:
        env = make_env(cfg, render_mode="human")
        try:
            for seed in seeds:
                for _ in _episode(actor, env, info, seed):
                    env.render()
        finally:
            env.close()
    except Exception as error:  # as above
        raise ConfigError(_undrawn(cfg, error)) from error


def _undrawn(cfg: EnvConfig, error: Exception) -> str:
    return f"no video of {cfg.id}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def shrink(frame: np.ndarray, width: int = WIDTH) -> np.ndarray:
    """A frame [H, W, 3] averaged over squares of whole pixels until it is about `width` wide, uint8.

    Raises:
        TypeError: the frame has numbers that are not integers.
    """
    from PIL import Image

    if np.issubdtype(frame.dtype, np.integer):
        frame = frame.astype(np.uint8, copy=False)
    factor = max(1, round(frame.shape[1] / width))
    height, breadth = frame.shape[0] // factor, frame.shape[1] // factor
    columns_first = frame.transpose(1, 0, 2)
    if columns_first.flags.c_contiguous:  # as pygame has it in memory: turning the small picture is cheaper
        small = np.asarray(Image.fromarray(columns_first).reduce(factor)).transpose(1, 0, 2)
    else:
        small = np.asarray(Image.fromarray(frame).reduce(factor))
    return small[:height, :breadth]


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


def _record(actor: Actor, cfg: EnvConfig, info: EnvInfo, seed: int, seconds: float) -> Video:
    draw_without_screen()
    env = make_env(cfg, render_mode="rgb_array")
    load_triton_first()
    try:
        fps = frames_per_second(env)
        stride = max(math.ceil(fps / MAX_FPS), 2 if fps >= 2 * MIN_FPS else 1)
        steps = itertools.islice(_episode(actor, env, info, seed), int(seconds * fps))
        frames = [shrink(np.asarray(env.render())) for step in steps if step % stride == 0]
    finally:
        env.close()
    return Video(np.stack(frames), fps / stride)


def _episode(actor: Actor, env: gym.Env, info: EnvInfo, seed: int) -> Iterator[int]:
    """Play an episode; before every step its number, from 0."""
    obs, _ = env.reset(seed=seed)
    actor.begin(1)
    for step in itertools.count():
        yield step
        action = actor(info.observation.encode_one(obs)[None], np.array([step == 0]))
        obs, _, terminated, truncated, _ = env.step(info.action.decode(action)[0])
        if terminated or truncated:
            return
