"""The run's own behaviour, on a training loop of three lines."""

import collections
import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from core.draw.media import Image
from core.errors import ContractError, DiskError, MemoryShortageError
from core.gradients import GradientStep
from core.gradients.unit_health import UnitHealth
from core.run import run as run_module
from core.run.config import RunConfig
from core.run.diagnosis import Diagnosis, DiagnosisConfig
from core.run.directory import already_finished
from core.run.evaluation import Evaluation
from core.run.run import Run
from core.run.run_state import rescue
from core.run.tensorboard import read_scalars

pytestmark = pytest.mark.usefixtures("blank_figures")

CFG = RunConfig(interval=2, eval_interval=30, draw_interval=40, checkpoint_interval=50, progress=False)


class Loop:
    """Fits a line; one iteration is ten units of the x-axis."""

    def __init__(
        self,
        directory: Path,
        total: int,
        scores: tuple[float, ...] = (1.0, 3.0, 2.0),
        diagnosis: Diagnosis | None = None,
    ) -> None:
        torch.manual_seed(0)
        self.net = nn.Linear(2, 1)
        self.step = GradientStep(self.net, torch.optim.SGD(self.net.parameters(), lr=0.01))
        self.run = Run(directory, CFG, {"lr": 0.01, "seed": 1}, {"seed": 1}, diagnosis)
        self.evaluated, self.drawn = [], []
        self.scores = iter(scores)
        self.poison = 1.0
        self.run.start(
            total=total,
            unit="steps",
            state={"net": self.net},
            gradient_steps=[self.step],
            modules={"net": self.net},
            evaluate=self.evaluate,
            draw=self.draw,
            summarise=lambda: {"env_steps": self.run.step},
        )

    def evaluate(self) -> Evaluation:
        self.evaluated.append(self.run.step)
        score = next(self.scores)
        return Evaluation({"eval/score": score}, score)

    def draw(self):
        self.drawn.append(self.run.step)
        return {"picture": Image(np.zeros((4, 4, 3), np.uint8))}

    def go(self) -> None:
        self.iterate(self.run.total)

    def iterate(self, end: int) -> None:
        while self.run.step < end:
            step = self.run.step + 10
            self.step(lambda: (self.net(torch.ones(1, 2)).square().sum() * self.poison, {}))
            self.run.finish_step(step, {"loss/value": torch.tensor(float(step))})


@pytest.fixture(autouse=True)
def keep_signal_handlers():
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_state_that_cannot_be_read_ends_the_run_after_its_first_update(tmp_path):
    loop = Loop(tmp_path, 100)
    loop.step.optimizer.state[loop.net.weight]["recent"] = collections.deque(maxlen=3)
    with pytest.raises(ContractError, match=r"state of SGD .*\['recent'\] is a collections.deque"):
        loop.go()
    loop.run.close()
    assert loop.run.step == 10


def test_everything_happens_when_the_x_axis_crosses_its_interval(tmp_path):
    loop = Loop(tmp_path, 100)
    loop.go()
    assert loop.evaluated == [30, 60, 90]
    assert loop.drawn == [40, 80]
    loop.run.finish(lambda: {"eval_return_mean": 5.0})
    loop.run.close()
    curves = read_scalars(tmp_path)
    assert curves["loss/value"] == {20: 15.0, 40: 35.0, 60: 55.0, 80: 75.0, 100: 95.0}
    assert curves["eval/score"] == {30: 1.0, 60: 3.0, 90: 2.0}
    assert curves["eval/return_mean"] == {100: 5.0}
    assert {"gradient/norm", "layer/weight/gradient_norm", "time/steps_per_s"} <= curves.keys()
    assert {p.name for p in (tmp_path / "media").glob("*.*")} == {"picture.png", "gradient_heat_map.png"}


def test_what_was_trained_is_saved_before_it_is_measured(tmp_path):
    loop = Loop(tmp_path, 100)
    loop.go()
    (tmp_path / "checkpoints" / "last.pt").unlink(missing_ok=True)

    def interrupted():
        os.kill(os.getpid(), signal.SIGTERM)  # once: it goes on
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        loop.run.finish(interrupted)
    loop.run.close()
    last = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    assert last["run"]["step"] == 100
    assert torch.equal(last["net"]["weight"], loop.net.weight)


def test_a_run_that_its_summary_calls_finished_has_its_findings(tmp_path, monkeypatch):
    loop = Loop(tmp_path, 10, diagnosis=Diagnosis(DiagnosisConfig(unit_health=UnitHealth()), "report", {}))
    there = []

    def noted(directory, summary):
        there.append((directory / "findings.json").exists())

    monkeypatch.setattr(run_module, "write_summary", noted)
    loop.go()
    loop.run.finish(dict)
    loop.run.close()
    assert there == [True]


def test_what_the_disk_did_not_take_is_written_again_from_the_checkpoint_before(tmp_path):
    loop, path = Loop(tmp_path, 100), tmp_path / "checkpoints" / "last.pt"

    def saved() -> int:
        return torch.load(path, weights_only=True)["run"]["step"]

    loop.iterate(50)  # where there is a checkpoint
    at_50 = path.read_bytes()
    assert rescue(loop.run, DiskError("full")).startswith("; saved at 50 steps")
    assert path.read_bytes() == at_50
    loop.iterate(60)
    assert rescue(loop.run, DiskError("full")) == "; not saved at 60 steps, the checkpoint before is kept"
    assert (
        rescue(loop.run, MemoryShortageError("full"))
        == "; not saved at 60 steps, the checkpoint before is kept"
    )
    assert path.read_bytes() == at_50
    assert rescue(loop.run, ContractError("an environment")).startswith("; saved at 60 steps")
    assert saved() == 60
    loop.run.close()


def test_the_last_points_of_curves_are_chosen_by_who_measures(tmp_path):
    loop = Loop(tmp_path, 100)
    loop.go()
    loop.run.finish(
        lambda: {"fid": 2.0, "samples": 10}, lambda found: {"eval/fid": found["fid"], "game/x": 1.0}
    )
    loop.run.close()
    curves = read_scalars(tmp_path)
    assert (curves["eval/fid"], curves["game/x"]) == ({100: 2.0}, {100: 1.0})
    assert "eval/samples" not in curves
    assert json.loads((tmp_path / "summary.json").read_text())["samples"] == 10


def test_a_score_that_is_not_a_number_is_never_the_best(tmp_path):
    loop = Loop(tmp_path, 100, scores=(math.nan, 1.0, math.nan))
    loop.go()
    loop.run.finish(dict)
    loop.run.close()
    best = torch.load(tmp_path / "checkpoints" / "best.pt", weights_only=True)
    assert (best["run"]["step"], best["run"]["best_score"]) == (60, 1.0)
    assert json.loads((tmp_path / "summary.json").read_text())["best_score"] == 1.0


def test_best_is_the_checkpoint_of_the_highest_score(tmp_path):
    loop = Loop(tmp_path, 100)
    loop.go()
    loop.run.finish(dict)
    loop.run.close()
    best = torch.load(tmp_path / "checkpoints" / "best.pt", weights_only=True)
    last = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    assert (best["run"]["step"], last["run"]["step"]) == (60, 100)
    assert not torch.equal(best["net"]["weight"], last["net"]["weight"])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["status"], summary["best_score"], summary["env_steps"]) == ("finished", 3.0, 100)
    assert already_finished(tmp_path, 100)
    assert not already_finished(tmp_path, 101)


def test_a_run_whose_gradients_are_all_non_finite_fails_and_names_the_layer(tmp_path):
    loop = Loop(tmp_path, 100)
    loop.poison = float("nan")
    kept = loop.net.weight.clone()
    with pytest.raises(FloatingPointError, match=r"every gradient in the last 2 iterations .* weight"):
        loop.go()
    loop.run.close()
    assert torch.equal(loop.net.weight, kept)


@pytest.mark.parametrize("name", ["interval", "eval_interval", "draw_interval", "checkpoint_interval"])
def test_an_interval_below_one_is_refused(name):
    options = {
        "interval": 1, "eval_interval": 1, "draw_interval": 1, "checkpoint_interval": 1, "progress": True
    }  # fmt: skip
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1"):
        RunConfig(**{**options, name: 0})
