"""Commands called as a user would, in one process."""

import gc
import importlib
import logging
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import lru_cache

import pytest
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg

from core.cli import compose
from core.draw.figure import styled
from core.draw.palette import LIGHT, Look

SCRIPTS = {
    "rl": "train_rl",
    "gan": "train_gan",
    "descend": "descend",
    "evaluate": "evaluate",
    "export": "export",
    "compare": "compare",
    "bench": "bench",
    "report": "report",
    "tour": "tour",
    "landscape": "landscape",
    "replay": "replay",
    "runs": "runs",
    "tune": "tune",
}


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it made in the empty directory that it was called from."""

    status: int
    out: str
    err: str
    made: list[str]


Command = Callable[..., Outcome]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Nearly all that collecting makes is kept: there is no garbage to look for."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def composed_once() -> Iterator[None]:
    """The same file is parsed once and the same choices are composed once: that is half of a short test.

    OmegaConf copies what it parses, and who composes copies the tree.
    """
    load, parsed = yaml.load, {}

    def once(stream, Loader):  # noqa: N803  (yaml's own name)
        if Loader.__name__ != "OmegaConfLoader" or isinstance(stream, str) or not stream.seekable():
            return load(stream, Loader)
        begin, text = stream.tell(), stream.read()
        if text not in parsed:
            stream.seek(begin)  # not the text: an error names the file
            parsed[text] = load(stream, Loader)
        return parsed[text]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "load", once)
        patch.setattr(compose, "_compose", lru_cache(64)(compose._compose.__wrapped__))
        yield


def call(script: str, *words: str) -> int:
    """Call a script's `main` in this process; its exit status."""
    handlers = list(logging.getLogger().handlers)
    main = importlib.import_module(f"core.scripts.{script}").main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{script}.py", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    logging.getLogger().handlers[:] = handlers  # Hydra's write to a stream that ends with this test
    return int(ended.value.code or 0)


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """Call a script in this process: importing torch again for every bad override would take minutes."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def typed(name: str, *overrides: str) -> Outcome:
        capfd.readouterr()
        status = call(SCRIPTS[name], *overrides)
        captured = capfd.readouterr()
        made = sorted(path.name for path in here.iterdir())
        return Outcome(status, captured.out, captured.err, made)

    return typed


IN_BOTH = (  # modules that have the name
    "core.draw.figure",
    "core.descend.pictures.boundary",
    "core.descend.pictures.relief",
    "gradgan.measurements.field_pictures",
)


@pytest.fixture(scope="module")
def light_figures() -> Iterator[None]:
    """Figures are drawn for the light page alone, and are the dark page's too: half of the time."""

    def once(make: Callable[[Look], object]) -> tuple[object, object]:
        with styled(LIGHT):
            return (made := make(LIGHT)), made

    with pytest.MonkeyPatch.context() as patch:
        for module in IN_BOTH:
            patch.setattr(f"{module}.in_both", once)
        yield


@pytest.fixture(scope="module")
def blank_figures(light_figures: None) -> Iterator[None]:
    """Figures are made and stay blank.

    For tests that read everything of a run but its pictures, which take four fifths of a short run.
    """

    def blank(canvas: FigureCanvasAgg) -> None:
        canvas.renderer = canvas.get_renderer()
        canvas.renderer.clear()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasAgg, "draw", blank)
        yield


ODD_ENVS = """
import os
import gymnasium as gym
import numpy as np

class Odd(gym.Env):
    observation_space = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        raise RuntimeError("the motor is on fire")

class Late(Odd):
    # breaks its contract in its 21st step, where the folder it runs in holds a file `broken`
    steps = 0

    def step(self, action):
        self.steps += 1
        obs = np.zeros(4 if self.steps > 20 and os.path.exists("broken") else 3, np.float32)
        return obs, 1.0, self.steps % 8 == 0, False, {}

class Reads(Odd):
    observation_space = gym.spaces.Text(8)

class Writes(Odd):
    action_space = gym.spaces.Text(8)

for kind in (Odd, Late, Reads, Writes):
    gym.register(f"{kind.__name__}-v0", kind)
"""


@pytest.fixture
def odd_envs(tmp_path, monkeypatch) -> None:
    """A package `odd_envs` that registers environments of its own."""
    (tmp_path / "odd_envs.py").write_text(ODD_ENVS)
    monkeypatch.syspath_prepend(tmp_path)


def assert_refused(outcome: Outcome, *fragments: str) -> None:
    """One line on stderr, status 2, nothing made."""
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith("error: ")
    for fragment in fragments:
        assert fragment in outcome.err
    assert outcome.made == []
