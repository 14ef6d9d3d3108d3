"""Videos of simulators: they show something, it moves, and it plays at the simulator's own speed."""

import os
import subprocess
import sys

import numpy as np
import pytest

from core.cli.launch import compose_tree
from core.config import config_dir, structure
from gradrl.envs.make import EnvConfig, inspect_env, make_env
from gradrl.envs.simulators import draw_without_screen
from gradrl.evaluation.video import Camera, frames_per_second
from tests.gradrl.scripted import Scripted


def chosen(name):
    """The environment of conf/env/NAME.yaml."""
    tree = compose_tree("rl", [f"env={name}", "policy=mlp"], [config_dir()])[0]["env"]
    return structure(tree, EnvConfig, "env")


def record(name):
    cfg, lines = chosen(name), []
    info = inspect_env(cfg)
    generator = np.random.default_rng(0)
    shape = info.action.storage(1).shape

    def act(obs):
        assert obs.shape == (1, info.observation.size)
        return generator.integers(0, 2, shape) if len(shape) == 1 else generator.normal(size=shape)

    return Camera(cfg, info, 0, lines.append).record(Scripted(act)), lines


@pytest.mark.parametrize(
    ("module", "name", "fps"),
    [
        (None, "taxi", 4.0),
        ("Box2D", "lunarlander", 50 / 3),
        ("ale_py", "pong", 15.0),
        ("minigrid", "minigrid_doorkey", 10.0),
    ],
)
def test_films_show_what_happens_at_its_real_speed(module, name, fps):
    if module:
        pytest.importorskip(module)
    video, lines = record(name)
    assert lines == []
    assert video.fps == fps
    assert video.frames.dtype == np.uint8
    assert 100 <= video.frames.shape[2] <= 400
    assert len(np.unique(video.frames[0])) > 2
    assert (video.frames[0] != video.frames[-1]).any()


@pytest.mark.slow
def test_mujoco_is_drawn_without_a_screen(monkeypatch):
    pytest.importorskip("mujoco")
    monkeypatch.setattr("gradrl.evaluation.video.SECONDS", 0.5)
    video, lines = record("halfcheetah")
    if lines and "GL" in lines[0]:
        pytest.skip(lines[0])  # a machine without OpenGL
    assert video.frames.shape == (5, 240, 240, 3)
    assert video.fps == 10.0
    assert (video.frames[0] != video.frames[-1]).mean() > 0.02


@pytest.mark.slow
def test_an_optimizer_can_be_made_after_mujoco_has_been_drawn():
    """torch's optimizers import triton, which crashed here; in a process of its own, where nobody has yet."""
    pytest.importorskip("mujoco")
    pytest.importorskip("triton")
    code = (
        "import torch; from tests.gradrl.evaluation import test_video as t; t.record('halfcheetah');"
        "torch.optim.Adam([torch.zeros(1, requires_grad=True)]); print('made')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("made\n"), done.stderr[-500:]


def test_egl_is_chosen_only_where_there_is_no_screen_and_no_choice(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    for present, chosen_before, expected in (("", None, "egl"), (":0", None, None), ("", "osmesa", "osmesa")):
        monkeypatch.setenv("DISPLAY", present)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        if chosen_before is None:
            monkeypatch.delenv("MUJOCO_GL", raising=False)
        else:
            monkeypatch.setenv("MUJOCO_GL", chosen_before)
        draw_without_screen()
        assert os.environ.get("MUJOCO_GL") == expected


def test_a_step_of_the_agent_lasts_as_long_as_its_frames():
    assert frames_per_second(make_env(chosen("cartpole"))) == 50.0
    pytest.importorskip("ale_py")
    assert frames_per_second(make_env(chosen("pong"))) == 15.0
