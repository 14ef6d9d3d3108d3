"""Callbacks of whole commands: found in the folder of the command, in all trainers, resumed to the bit."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from core.cli.resume import resume_run
from core.run.tensorboard import read_scalars
from examples import own_callbacks
from tests.conftest import assert_refused
from tests.test_loggers import RUNS, train
from tests.test_resume import differences, dying

pytestmark = [pytest.mark.usefixtures("blank_figures"), pytest.mark.slow]

MINE = """
import torch
from dataclasses import dataclass

@dataclass
class Pull:
    # pulls the weights to zero by a share that falls, so that its state is in every later number
    share: float = 0.01

    def on_iteration(self, event):
        for module in event.modules.values():
            for parameter in module.parameters():
                parameter.data.mul_(1 - self.share)
        self.share *= 0.9
        event.log({"mine/share": self.share, "mine/random": torch.rand(()).item()})

    def state_dict(self):
        return {"share": self.share}

    def load_state_dict(self, state):
        self.share = state["share"]

class Stop:
    def on_iteration(self, event):
        if event.progress >= 0.5:
            event.stop("half is enough")

class Breaks:
    def on_evaluation(self, event):
        return event.metrics["eval/missing"]

    def on_end(self, event):
        raise RuntimeError("not today")
"""


@pytest.fixture
def mine(command):
    """`mine.py` in the folder of the command."""
    Path("mine.py").write_text(MINE)
    yield Path("mine.py").resolve()
    sys.modules.pop("mine", None)
    shutil.rmtree("__pycache__", ignore_errors=True)


def called(*names: str) -> str:
    return f"callbacks=[{','.join(f'{{_target_: mine.{name}}}' for name in names)}]"


@pytest.mark.slow
@pytest.mark.parametrize("root", sorted(RUNS))
def test_a_module_of_the_folder_is_found_and_its_state_goes_on_to_the_bit(root, command, mine, tmp_path):
    words = [*RUNS[root], "logging.progress=false", called("Pull")]
    outcome = command(root, *words, f"hydra.run.dir={tmp_path / 'whole'}")
    assert outcome.status == 0, outcome.err
    plain = command(root, *words[:-1], f"hydra.run.dir={tmp_path / 'plain'}")
    assert plain.status == 0, plain.err
    assert differences(tmp_path / "whole", tmp_path / "plain") != []  # it does something
    with dying(7):
        train(root, words, tmp_path / "run")
    assert resume_run(tmp_path / "run", [], root) == 0
    assert differences(tmp_path / "whole", tmp_path / "run") == []
    assert len(read_scalars(tmp_path / "run")["mine/share"]) > 5


@pytest.mark.parametrize("root", sorted(RUNS))
def test_a_training_can_be_stopped_early_and_is_finished_then(root, command, mine):
    words = [*RUNS[root], "logging.progress=false", called("Stop"), "hydra.run.dir=run"]
    outcome = command(root, *words)
    assert outcome.status == 0, outcome.err
    summary = json.loads(Path("run/summary.json").read_text())
    assert (summary["status"], summary["stopped_early"]) == ("finished", "half is enough")
    length = {"rl": ("env_steps", 512), "gan": ("images", 640), "descend": ("steps", 40)}[root]
    assert length[1] / 2 <= summary[length[0]] < length[1]
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    again = command(root, "resume=run")
    assert (again.status, again.out) == (0, "run is already finished; nothing to do\n")
    assert before == {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}


def test_an_error_ends_the_run_as_failed_with_one_line(command, mine):
    outcome = command("rl", *RUNS["rl"], "logging.progress=false", called("Breaks"), "hydra.run.dir=run")
    assert outcome.status == 1
    line = 1 + MINE[: MINE.index('event.metrics["eval/missing"]')].count("\n")
    place = f"mine.Breaks.on_evaluation failed: KeyError: 'eval/missing' ({mine}, line {line})"
    assert outcome.err.startswith(f"error: callbacks.0: {place}; not saved at ")
    assert outcome.err.count("\n") == 1
    assert json.loads(Path("run/summary.json").read_text())["status"] == "failed"


def test_each_descent_of_a_comparison_has_its_own(command, mine):
    words = [*RUNS["descend"], "optimizers=[sgd,adam]", "pictures=[]", "logging.progress=false"]
    outcome = command("descend", *words, called("Stop", "Pull"), "hydra.run.dir=run")
    assert outcome.status == 0, outcome.err
    summary = json.loads(Path("run/summary.json").read_text())
    assert [summary["optimizers"][name]["steps"] for name in ("sgd", "adam")] == [20, 20]
    assert "stopped_early" not in summary


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("5", "callbacks must be a list, got 5"),
        ("null", "callbacks must be a list of classes with a _target_, got null"),
        ("[5]", "callbacks must be a list of mappings with a _target_, got [5]"),
        ("[{_target_: mine.Pull, shar: 1}]", "unknown option callbacks.0.shar; did you mean"),
        ("[{_target_: mine.Pull, share: x}]", "callbacks.0.share must be a number, got 'x'"),
        ("[{_target_: mine.Pul}]", "callbacks.0._target_: mine has no Pul; did you mean Pull?"),
        ("[{_target_: nothing_of_mine.Pull}]", "callbacks.0._target_: no module named nothing_of_mine"),
        ("[{_target_: torch.nn.Identity}]", "torch.nn.modules.linear.Identity has none of on_start"),
        ("[{_target_: torch.nn.Linear}]", "callbacks.0: torch.nn.modules.linear.Linear cannot be made"),
    ],
)  # fmt: skip
def test_what_is_no_callback_is_refused_in_one_line(value, reason, command, mine, tmp_path):
    outcome = command("descend", f"callbacks={value}", f"hydra.run.dir={tmp_path / 'run'}")
    mine.unlink()
    shutil.rmtree(mine.parent / "__pycache__", ignore_errors=True)
    assert not (tmp_path / "run").exists()
    assert_refused(type(outcome)(outcome.status, outcome.out, outcome.err, []), reason)


EXAMPLE = ("callbacks=[{_target_: own_callbacks.WeightNorm, interval: 1},"
           "{_target_: own_callbacks.Heavier, gravity: 15}]")  # fmt: skip


@pytest.mark.slow
def test_the_example_logs_a_norm_and_changes_gravity_and_is_resumed_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(own_callbacks.__file__).parent)
    words = [*RUNS["rl"], "logging.progress=false", EXAMPLE]
    seen = []
    on_start = own_callbacks.Heavier.on_start

    def noted(self, event):
        on_start(self, event)
        seen.append((event.progress, event.parts["collector"].envs.unwrapped.gravity))

    monkeypatch.setattr(sys.modules.setdefault("own_callbacks", own_callbacks).Heavier, "on_start", noted)
    assert train("rl", words, tmp_path / "whole") == 0
    assert seen[0] == (0.0, 9.8)
    assert seen[-1] == (1.0, 15.0)
    assert all(g == pytest.approx(9.8 + min(2 * share, 1) * 5.2) for share, g in seen)
    last = torch.load(tmp_path / "whole" / "checkpoints" / "last.pt", weights_only=True)["policy"]
    length = torch.cat([value.flatten() for value in last.values()]).norm().item()
    norms = read_scalars(tmp_path / "whole")["policy/weight_norm"]
    assert list(norms.values())[-1] == pytest.approx(length, rel=1e-6)
    with dying(5):
        train("rl", words, tmp_path / "run")
    assert resume_run(tmp_path / "run", [], "rl") == 0
    assert differences(tmp_path / "whole", tmp_path / "run") == []


def test_the_example_stops_after_enough_good_evaluations_in_a_row():
    class Event:
        stopped = None

        def __init__(self, value):
            self.metrics = {"eval/return_mean": value}

        def stop(self, reason):
            Event.stopped = reason

    solved = own_callbacks.Solved(threshold=400, times=2)
    for value in (500, 399, 400):
        solved.on_evaluation(Event(value))
    assert Event.stopped is None
    again = own_callbacks.Solved(threshold=400, times=2)
    again.load_state_dict(solved.state_dict())
    again.on_evaluation(Event(450))
    assert Event.stopped == "a mean return of 400 in 2 evaluations in a row"
