"""A run killed at any moment and continued is the run that was not: same parameters, same curves."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch

from core.cli.job import execute
from core.cli.launch import compose_tree
from core.cli.resume import resume_run
from core.config import config_dir
from core.run.run import Run
from core.run.tensorboard import read_scalars

pytestmark = pytest.mark.usefixtures("blank_figures")

RUNS = {
    "rl": ["total_steps=4096", "logging.checkpoint_interval=700", "logging.eval_interval=1500",
           "logging.draw_interval=2000", "evaluation.episodes=4", "evaluation.interval_episodes=4",
           "evaluation.num_envs=2", "normalize_observation=true", "normalize_reward=true",
           "logging.interval=3", "monitor.sample_interval=7", "monitor.histogram_interval=50",
           "clipper=autoclip", "optimizer.lr=auto", "probe=[noise,curvature]", "probe.noise.interval=300",
           "probe.curvature.interval=400"],
    "gan": ["data=ring", "total_images=12800", "logging.checkpoint_interval=2000", "logging.interval=7",
            "logging.eval_interval=5000", "logging.draw_interval=9000", "evaluation.samples=200",
            "monitor.sample_interval=5", "update=optimistic", "probe=curvature",
            "probe.curvature.interval=20"],
}  # fmt: skip
CLOCKS = ("wall_s", "cpu_s", "train_s", "solved_at")  # what a clock measured cannot be equal


class Killed(BaseException):
    """Stands for a signal that no handler sees."""


@contextmanager
def dying(iteration: int) -> Iterator[None]:
    """The run inside dies before it ends this iteration, counted from 0."""
    finish_step, left = Run.finish_step, iter(range(iteration))

    def finish(self, step, metrics):
        if next(left, None) is None:
            raise Killed
        finish_step(self, step, metrics)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "finish_step", finish)
        with pytest.raises(Killed):
            yield


def tree_of(name: str) -> dict:
    return compose_tree(name, RUNS[name], [config_dir()])[0]


def flatten(value: object, path: str = ""):
    if isinstance(value, dict):
        for key, child in value.items():
            yield from flatten(child, f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for i, child in enumerate(value):
            yield from flatten(child, f"{path}/{i}")
    else:
        yield path, value


def differences(first: Path, second: Path) -> list[str]:
    """Names of what is not equal to the bit in the runs' last checkpoints, snapshots and curves."""
    saved = [[d / "checkpoints" / "last.pt", *(d / "snapshots").glob("*")] for d in (first, second)]
    states = [
        dict(flatten({path.name: torch.load(path, weights_only=True) for path in paths})) for paths in saved
    ]
    curves = [
        {tag: repr(points) for tag, points in read_scalars(d).items() if not tag.startswith("time/")}
        for d in (first, second)
    ]
    found = [
        key
        for key in states[0].keys() | states[1].keys()
        if not any(word in key for word in CLOCKS) and not same(states[0].get(key), states[1].get(key))
    ]
    tags = curves[0].keys() | curves[1].keys()
    return found + [
        tag
        for tag in tags
        if not any(word in tag for word in (*CLOCKS, "per_s")) and curves[0].get(tag) != curves[1].get(tag)
    ]


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a.nan_to_num(nan=-7.25), b.nan_to_num(nan=-7.25))
    return type(a) is type(b) and repr(a) == repr(b)


@pytest.fixture(scope="module", params=sorted(RUNS))
def uninterrupted(request, tmp_path_factory) -> tuple[str, Path]:
    directory = tmp_path_factory.mktemp(request.param) / "whole"
    assert execute(tree_of(request.param), directory) == 0
    return request.param, directory


@pytest.mark.slow
@pytest.mark.parametrize(
    "deaths", [(5, 1, 4), *(pytest.param(d, marks=pytest.mark.long) for d in [(2,), (9, 5)])]
)
def test_a_run_that_dies_and_is_resumed_ends_the_same(uninterrupted, deaths, tmp_path):
    name, whole = uninterrupted
    directory = tmp_path / "run"
    for death in deaths:
        go = (
            partial(resume_run, directory, [], name)
            if directory.exists()
            else partial(execute, tree_of(name), directory)
        )
        with dying(death):
            go()
    assert resume_run(directory, [], name) == 0
    assert differences(whole, directory) == []


@pytest.mark.slow
def test_a_run_killed_by_the_system_loses_nothing(uninterrupted, tmp_path):
    name, whole = uninterrupted
    directory = tmp_path / "run"
    command = [sys.executable, "-m", f"core.scripts.train_{name}"]
    process = subprocess.Popen(
        [*command, *RUNS[name], f"hydra.run.dir={directory}"], stdout=subprocess.DEVNULL, cwd=tmp_path
    )
    deadline = time.monotonic() + 120
    while not (directory / "checkpoints" / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert resume_run(directory, [], name) == 0
    assert differences(whole, directory) == []


@pytest.mark.slow
def test_a_signal_saves_the_run_and_a_finished_run_is_left_alone(
    uninterrupted, tmp_path, monkeypatch, capsys
):
    name, whole = uninterrupted
    directory = tmp_path / "run"
    finish_step = Run.finish_step
    count = iter(range(6))

    def interrupted(self, step, metrics):
        if next(count, None) is None:
            os.kill(os.getpid(), signal.SIGTERM)
        finish_step(self, step, metrics)

    monkeypatch.setattr(Run, "finish_step", interrupted)
    assert execute(tree_of(name), directory) == 143
    assert '"status": "stopped"' in (directory / "summary.json").read_text()
    monkeypatch.setattr(Run, "finish_step", finish_step)
    assert resume_run(directory, [], name) == 0
    assert differences(whole, directory) == []
    before = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    assert resume_run(directory, [], name) is None
    assert "already finished" in capsys.readouterr().out
    assert before == {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}
