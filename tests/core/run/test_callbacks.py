"""Callbacks: when they are called, what they are told, what a run keeps of them."""

import collections
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from core.config import Component, ConfigError
from core.gradients import GradientStep
from core.run.callbacks import CallbackError, Callbacks, Means
from core.run.config import RunConfig
from core.run.directory import already_finished
from core.run.evaluation import Evaluation
from core.run.run import Run
from core.run.run_state import rescue
from core.run.tensorboard import read_scalars

CFG = RunConfig(interval=2, eval_interval=30, draw_interval=1000, checkpoint_interval=50, progress=False)


@dataclass
class Notes:
    """Writes down every call."""

    calls: list = field(default_factory=list)

    def on_start(self, event):
        self.calls.append(("start", event.step))

    def on_iteration(self, event):
        self.calls.append(("iteration", event.step))

    def on_evaluation(self, event):
        self.calls.append(("evaluation", event.step, dict(event.metrics)))

    def on_end(self, event):
        self.calls.append(("end", event.step, dict(event.metrics)))


class Tally:
    """Counts, and stops."""

    def __init__(self, stop_at: int = 10**9) -> None:
        self.count, self.stop_at = 0, stop_at

    def on_iteration(self, event):
        self.count += 1
        event.log({"mine/count": self.count, "mine/norm": event.modules["net"].weight.detach().norm()})
        if self.count == self.stop_at:
            event.stop("counted\nenough")

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


class Loop:
    """Fits a line; one iteration is ten units of the x-axis."""

    def __init__(self, directory: Path, *callbacks, total: int = 100) -> None:
        torch.manual_seed(0)
        self.net = nn.Linear(2, 1)
        self.step = GradientStep(self.net, torch.optim.SGD(self.net.parameters(), lr=0.01))
        self.run = Run(directory, CFG, {}, {}, None, None, Callbacks(callbacks))
        self.run.start(
            total=total, unit="steps", state={"net": self.net}, gradient_steps=[self.step],
            modules={"net": self.net}, evaluate=lambda: Evaluation({"eval/x": float(self.run.step)}, 1.0),
        )  # fmt: skip

    def go(self, end: int = 10**9) -> "Loop":
        while self.run.goes_on and self.run.step < end:
            self.step(lambda: (self.net(torch.ones(1, 2)).square().sum(), {}))
            step = self.run.step + 10
            self.run.finish_step(step, {"loss/value": torch.tensor([step - 1.0, step + 1.0])})
        return self

    def finish(self) -> "Loop":
        self.run.finish(lambda: {"eval_y": 3.0})
        self.run.close()
        return self


def test_each_function_is_called_at_its_moment_and_told_its_numbers(tmp_path):
    notes = Notes()
    Loop(tmp_path, notes, total=40).go().finish()
    assert notes.calls == [
        ("start", 0), ("iteration", 10), ("iteration", 20), ("evaluation", 30, {"eval/x": 30.0}),
        ("iteration", 30), ("iteration", 40), ("end", 40, {"eval/y": 3.0}),
    ]  # fmt: skip


def test_metrics_of_an_iteration_are_its_means_and_only_what_is_read_is_computed():
    read = []

    class Dear(dict):
        def __getitem__(self, tag):
            read.append(tag)
            return super().__getitem__(tag)

    found = Means(Dear(a=torch.tensor([1.0, 4.0]), b=torch.tensor(7, dtype=torch.int64)))
    assert (found["a"], "b" in list(found), len(found), read) == (2.5, True, 2, ["a"])
    assert found["b"] == 7.0
    assert found.get("c", math.inf) == math.inf


def test_a_curve_of_ones_own_has_a_point_at_every_step_at_which_it_is_written(tmp_path):
    loop = Loop(tmp_path, Tally()).go().finish()
    curves = read_scalars(tmp_path)
    assert curves["mine/count"] == {10 * i: float(i) for i in range(1, 11)}
    assert curves["mine/norm"][100] == pytest.approx(loop.net.weight.norm().item())


def test_a_training_that_is_stopped_early_is_finished_and_says_why(tmp_path):
    notes = Notes()
    Loop(tmp_path, Tally(stop_at=3), notes).go().finish()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["status"], summary["steps"], summary["stopped_early"]) == (
        "finished",
        30,
        "counted enough",
    )
    assert notes.calls[-1] == ("end", 30, {"eval/y": 3.0})
    assert read_scalars(tmp_path)["loss/value"] == {20: 15.0, 30: 30.0}  # the half-filled window too
    assert already_finished(tmp_path, 100)
    assert already_finished(tmp_path, 10_000)


def test_a_run_that_dies_after_it_was_stopped_early_takes_no_further_step(tmp_path):
    first = Loop(tmp_path, Tally(stop_at=3)).go()
    first.run.save("last.pt")
    first.run.close()
    again = Loop(tmp_path, Tally(stop_at=3))
    assert not again.run.goes_on
    again.finish()
    assert json.loads((tmp_path / "summary.json").read_text())["stopped_early"] == "counted enough"


def test_stopping_where_the_training_ends_anyway_is_no_early_stop(tmp_path):
    Loop(tmp_path, Tally(stop_at=10)).go().finish()
    assert "stopped_early" not in json.loads((tmp_path / "summary.json").read_text())


def test_a_resumed_run_goes_on_with_the_states_of_its_callbacks(tmp_path):
    whole, notes = Tally(), Notes()
    Loop(tmp_path / "whole", whole).go().finish()
    Loop(tmp_path / "run", Tally()).go(70).run.close()  # saved at 50
    rest = Tally()
    Loop(tmp_path / "run", rest, notes).go().finish()
    assert notes.calls[0] == ("start", 50)
    assert (whole.count, rest.count) == (10, 10)
    curves = [read_scalars(tmp_path / name) for name in ("whole", "run")]
    assert curves[0]["mine/count"] == curves[1]["mine/count"]
    assert curves[0]["mine/norm"] == curves[1]["mine/norm"]


def test_a_state_that_no_checkpoint_can_hold_ends_the_run_by_name(tmp_path):
    class Odd(Tally):
        def state_dict(self):
            return {"count": collections.deque([self.count])}

    loop = Loop(tmp_path, Odd())
    with pytest.raises(ValueError, match=r"the state of 'callbacks' cannot be read back.*\['count'\] is a"):
        loop.go()
    loop.run.close()


def test_an_error_names_the_class_the_function_and_the_line_and_keeps_the_checkpoint_before(tmp_path):
    class Breaks(Tally):
        def on_iteration(self, event):
            super().on_iteration(event)
            if self.count == 7:
                raise KeyError("lost")

    loop = Loop(tmp_path, Notes(), Breaks())
    line = Breaks.on_iteration.__code__.co_firstlineno + 3
    with pytest.raises(CallbackError) as failed:
        loop.go()
    assert "callbacks.1: " in str(failed.value)
    assert f"Breaks.on_iteration failed: KeyError: 'lost' ({__file__}, line {line})" in str(failed.value)
    assert rescue(loop.run, failed.value) == "; not saved at 70 steps, the checkpoint before is kept"
    assert torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)["run"]["step"] == 50
    loop.run.close()


def test_what_is_logged_must_be_a_number(tmp_path):
    class Words:
        def on_iteration(self, event):
            event.log({"mine/word": "many"})

    loop = Loop(tmp_path, Words())
    with pytest.raises(CallbackError, match=f"ValueError: could not convert .*{Path(__file__).name}, line"):
        loop.go()
    loop.run.close()


class Slip:
    def on_evalution(self, event): ...


class Nothing:
    def start(self): ...


class Half:
    def on_end(self, event): ...

    def state_dict(self):
        return {}


class Greedy:
    def on_end(self, event, more): ...


class NotAFunction:
    on_end = 3


class Needs:
    def __init__(self, size):
        self.size = np.zeros(size)

    def on_end(self, event): ...


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Slip, r"Slip.on_evalution would never be called; did you mean on_evaluation\?"),
        (Nothing, "Nothing has none of on_start, on_iteration, on_evaluation, on_end"),
        (Half, "Half has state_dict alone; a resumed run needs both state_dict and load_state_dict"),
        (Greedy, "Greedy.on_end must be a function of one argument, the event"),
        (NotAFunction, "NotAFunction.on_end must be a function of one argument, the event"),
        (Needs, "Needs cannot be made: TypeError"),
    ],
)
def test_what_could_not_be_called_is_refused(kind, reason):
    with pytest.raises(ConfigError, match=f"^callbacks.0: .*{reason}"):
        Callbacks([Component(kind, {}, "callbacks.0")])
