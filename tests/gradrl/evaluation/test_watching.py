"""Watching an agent: several episodes side by side, as a file, and progress where it takes long."""

import io

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from core.config import ConfigError
from core.draw.media import Video
from core.draw.mp4 import mp4
from core.run import pace
from gradrl.envs.make import EnvConfig, inspect_env
from gradrl.evaluation.evaluator import EvaluationConfig, evaluate
from gradrl.evaluation.video import play, side_by_side
from tests.gradrl.scripted import Scripted


class Colours(gym.Env):
    """Its picture is as bright as its seed says; an episode takes as many steps as the seed."""

    metadata = {"render_modes": ("human", "rgb_array"), "render_fps": 10}  # noqa: RUF012
    observation_space, action_space = gym.spaces.Box(0, 99, (1,), np.float32), gym.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.seed = seed or 3
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.zeros(1, np.float32), 1.0, self.left == 0, False, {}

    def render(self):
        return np.full((30, 40, 3), 10 * self.seed + self.left, np.uint8)


gym.register("Colours-v0", Colours)
CFG = EnvConfig(
    id="Colours-v0", kwargs={}, import_module=None, wrappers=(), train_wrappers=(),
    vectorization="sync", autoreset="same_step",
)  # fmt: skip


def actor():
    return Scripted(lambda obs: np.zeros(len(obs), np.int64))


def test_episodes_stand_side_by_side_and_the_last_frame_of_one_that_ended_stays():
    video = side_by_side(actor(), CFG, inspect_env(CFG), [2, 5, 4], 20.0)
    assert video.frames.shape == (5, 60, 80, 3)  # two rows of two, as long as the longest
    corners = video.frames[:, [0, 0, 30, 30], [0, 40, 0, 40], 0]
    assert corners[:, 0].tolist() == [22, 21, 21, 21, 21]
    assert corners[:, 1].tolist() == [55, 54, 53, 52, 51]
    assert corners[:, 2].tolist() == [44, 43, 42, 41, 41]
    assert corners[:, 3].tolist() == [0] * 5


def test_long_episodes_are_cut_off():
    assert len(side_by_side(actor(), CFG, inspect_env(CFG), [20], 0.7).frames) == 7


@pytest.mark.parametrize("show", [play, lambda *arguments: side_by_side(*arguments, 1.0)])
def test_an_environment_that_cannot_be_drawn_is_refused_in_one_line(show, monkeypatch):
    def broken(self):
        raise OSError("no screen\nat all")

    monkeypatch.setattr(Colours, "render", broken)
    with pytest.raises(ConfigError, match="no video of Colours-v0: OSError: no screen at all") as caught:
        show(actor(), CFG, inspect_env(CFG), [1])
    assert "\n" not in str(caught.value)


def test_an_mp4_holds_the_frames_at_their_speed(tmp_path):
    frames = np.zeros((12, 31, 41, 3), np.uint8)
    frames[6:] = 200
    (tmp_path / "video.mp4").write_bytes(mp4(Video(frames, 6.0)))
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "video.mp4"))
    facts = next(reader)
    read = [np.frombuffer(frame, np.uint8) for frame in reader]
    assert facts["size"] == (42, 32)
    assert facts["fps"] == 6.0
    assert [round(float(frame.mean()), -1) for frame in read] == [0] * 6 + [200] * 6


def test_a_long_evaluation_says_how_far_it_is(monkeypatch):
    monkeypatch.setattr(pace, "QUIET_S", 0.0)
    lines = []
    options = EvaluationConfig(
        episodes=4, interval_episodes=1, num_envs=2, max_episode_steps=100, deterministic=True
    )
    evaluate(actor(), CFG, inspect_env(CFG), options, 4, 0, lines.append)
    assert lines[-1].startswith("evaluation: 4 of 4 episodes, ")


@pytest.mark.slow
def test_evaluate_writes_a_video_that_the_report_shows(command, tmp_path):
    directory = tmp_path / "run"
    short = ["total_steps=256", "num_envs=2", "agent.num_steps=32", "agent.num_minibatches=2"]
    quick = ["evaluation.episodes=2", "evaluation.interval_episodes=2", "logging.progress=false"]
    trained = command("rl", "agent=ppo", "env=cartpole", *short, *quick, f"hydra.run.dir={directory}")
    assert trained.status == 0
    outcome = command("evaluate", f"run={directory}", "episodes=2", "render=gif")
    assert outcome.status == 0, outcome.err
    gif = Image.open(io.BytesIO((directory / "media" / "evaluation.gif").read_bytes()))
    assert gif.n_frames > 1
    assert gif.width == 2 * 300
    assert command("report", f"run={directory}").status == 0
    assert "evaluation" in (directory / "report.html").read_text()
