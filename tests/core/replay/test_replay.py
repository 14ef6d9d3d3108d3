"""A run is taken to a step again, to the bit: what it says of that step, and what it refuses."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from core.cli.launch import status_of
from core.config import ConfigError
from core.replay.page import write_page
from core.replay.replay import replay
from core.replay.told import lines
from core.run import checkpoint
from core.run.run import Run
from core.run.tensorboard import Writer
from tests.conftest import Command, assert_refused

PARTS = "core.scripts.suites.broken"
QUIET = ("logging.progress=false", "logging.draw_interval=100000000", "logging.eval_interval=100000000")
DIGITS = ("objective=digits_mlp", "batch=minibatch", "pictures=[]", "steps=24", "logging.interval=2",
          "logging.checkpoint_interval=8", *QUIET[:2])  # fmt: skip
PPO = ("agent=ppo", "env=cartpole", "num_envs=2", "agent.num_steps=32", "agent.num_minibatches=2",
       "agent.num_epochs=2", "total_steps=640", "evaluation.episodes=2", "logging.interval=2",
       "logging.checkpoint_interval=256", *QUIET)  # fmt: skip
RING = ("data=ring", "network.width=8", "total_images=3200", "batch_size=64", "evaluation.samples=50",
        "measurements.samples=32", "logging.interval=2", "logging.checkpoint_interval=1280",
        *QUIET)  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_figures")]


def train(kind: str, directory: Path, *words: str) -> int:
    return status_of(kind, [*words, "seed=3", f"hydra.run.dir={directory}"], {"rl": "env"}.get(kind))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Healthy runs of the three trainers, each with a checkpoint on its way and one of its end."""
    folder = tmp_path_factory.mktemp("runs")
    finish_step = Run.finish_step

    def keeping(self: Run, *given) -> None:
        finish_step(self, *given)
        kept = folder / f"{self.directory.name}.pt"
        if self.resuming and not kept.exists():
            shutil.copy(self.directory / "checkpoints" / "last.pt", kept)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "finish_step", keeping)
        for kind, words in (("descend", DIGITS), ("rl", PPO), ("gan", RING)):
            assert train(kind, folder / kind, *words) == 0
    found = {kind: folder / kind for kind in ("descend", "rl", "gan")}
    for kind, directory in found.items():
        (directory / "checkpoints" / "good.pt").unlink()
        shutil.move(folder / f"{kind}.pt", directory / "checkpoints" / "good.pt")
    return found


def contents(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(("kind", "end"), [("descend", 24), ("rl", 640), ("gan", 3200)])
def test_networks_and_optimizers_come_out_as_the_run_had_saved_them(runs, kind, end):
    before = contents(runs[kind])
    found = replay(runs[kind], end)
    compared = found.taken.compared
    assert found.taken.start == "good.pt"
    assert 0 < found.taken.begun < end <= found.taken.step
    assert (compared.checkpoint, compared.equal, compared.first) == ("last.pt", True, None)
    assert compared.points > 20
    assert found.birth is None
    assert contents(runs[kind]) == before


@pytest.mark.parametrize(("kind", "step"), [("descend", 5), ("rl", 200), ("gan", 640)])
def test_any_step_is_shown_with_what_was_before_it(runs, kind, step):
    found = replay(runs[kind], step)
    assert (found.taken.start, found.birth) == ("", None)
    assert found.taken.compared.exact
    assert found.taken.compared.points > 10
    shown = found.shown
    assert shown.step >= step > found.before[-1].step
    assert len(found.before) == 3
    assert shown.calls
    assert shown.way_back
    assert shown.gradients
    assert shown.batch
    assert [e.player for e in found.others] == (["generator"] if kind == "gan" else [])


def test_the_measured_step_is_that_of_plain_torch(runs):
    """Outputs and gradients of the step, taken again by hand from the checkpoint of the step before."""
    found = replay(runs["descend"], 9)  # the first step after a checkpoint of step 8? no: from the beginning
    shown = found.shown
    assert shown.losses.keys() == {"loss"}
    by_name = {c.name: c for c in shown.calls}
    assert [c.kind for c in shown.calls] == ["Linear", "Tanh", "Linear"]
    assert by_name["1"].inputs[0] == by_name["0"].outputs[0]
    assert by_name["1"].outputs[0].largest == pytest.approx(
        torch.tensor(by_name["0"].outputs[0].largest).tanh()
    )
    # What reaches the last layer is softmax - onehot over the batch: each number in (-1, 1) / 32.
    assert by_name["2"].into[0].largest < 1 / 32
    assert by_name["2"].into[0].shape == (32, 10)


def test_one_bit_that_is_another_is_told(runs, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(runs["descend"], directory)
    path = directory / "checkpoints" / "last.pt"
    state = checkpoint.load(path)
    weight = state["descent"]["network"]["0.weight"]
    weight.view(torch.int64)[0, 0] ^= 1
    checkpoint.save(path, {name: part for name, part in state.items() if name != "format"})
    found = replay(directory, 24)
    assert not found.taken.compared.equal
    assert not found.taken.compared.exact
    assert "NOT equal to last.pt" in next(lines(found))


def test_a_logged_value_that_is_another_is_told(runs, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(runs["descend"], directory)
    writer = Writer(directory, None)
    writer.scalars({"loss/batch": 1.0}, 20)
    writer.close()
    found = replay(directory, 24)
    assert found.taken.compared.first == (20, "loss/batch")
    assert "NOT the run as it was: loss/batch at 20" in next(lines(found))


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> Path:
    """A classifier in which a module breaks rows 3 and 7 of its batch, from some call on."""
    directory = tmp_path_factory.mktemp("broken") / "run"
    part = (f"objective._target_={PARTS}.FailingDigits", "objective.at=400")
    assert train("descend", directory, *DIGITS, *part, "steps=60") == 1
    return directory


def test_a_module_whose_output_is_nan_is_named_with_its_rows(broken):
    before = contents(broken)
    found = replay(broken)
    assert found.birth is not None
    assert (found.birth.how, found.birth.name, found.birth.kind) == ("forward", "2", "Failing")
    assert (found.birth.operation, found.birth.rows, found.birth.of) == ("log", (3, 7), 32)
    assert found.finding is not None
    assert found.finding.name == "non_finite"
    assert found.taken.compared.exact
    assert found.taken.compared.points > 10
    assert [e.finite for e in found.before] == [True] * 3
    assert sorted(found.shown.broken_rows) == [3, 7]
    assert contents(broken) == before


def test_it_is_said_in_lines_and_on_a_page(broken, command: Command):
    outcome = command("replay", str(broken))
    assert outcome.status == 0, outcome.err
    said = outcome.out.splitlines()
    assert said[0].startswith("error: non_finite")
    assert "equal to the bit" in said[1]
    assert any(line.endswith("born forward, in 2 (Failing), in log, rows 3, 7 of 32") for line in said)
    page = (broken / "replay.html").read_text(encoding="utf-8")
    assert "born forward" in page
    assert "▶ 2" in page
    assert "<script" not in page
    assert re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*\"", page) == []
    assert "prefers-color-scheme: dark" in page


def test_the_report_says_how_to_replay_an_error(broken, command: Command):
    assert command("report", str(broken)).status == 0
    page = (broken / "report.html").read_text(encoding="utf-8")
    assert f"gradsight-replay {broken}" in page or f"replay.py {broken}" in page


def test_the_pages_of_a_healthy_step_have_both_players(runs):
    page = write_page(replay(runs["gan"], 640)).read_text(encoding="utf-8")
    assert "Forward of the discriminator" in page
    assert "Forward of the generator" in page
    (runs["gan"] / "replay.html").unlink()


def test_a_nan_in_the_batch_is_named_with_its_row(tmp_path):
    words = [*DIGITS, f"objective._target_={PARTS}.BrokenDigits", "batch=full", "logging.interval=1"]
    assert train("descend", tmp_path / "run", *words) == 1
    found = replay(tmp_path / "run")
    assert found.birth is not None
    assert (found.birth.how, found.birth.name, found.birth.rows) == ("batch", "x", (0,))


def test_a_rate_that_is_too_high_shows_in_the_update_that_it_made(tmp_path):
    jump = (f"schedule._target_={PARTS}.Jump", "schedule.factor=1e308", "optimizer=sgd", "optimizer.lr=1.0")
    assert train("descend", tmp_path / "run", *DIGITS, *jump, "logging.interval=1") == 1
    found = replay(tmp_path / "run")
    assert found.birth is not None
    assert (found.birth.how, found.birth.name) == ("update", "0")
    assert found.shown.step == 14  # the rate jumps in the 13th step, whose update the next one meets


def test_a_run_that_has_rolled_back_is_replayed_to_the_reason(tmp_path):
    jump = (f"schedule._target_={PARTS}.Jump", "schedule.factor=1e308", "optimizer=sgd", "optimizer.lr=1.0")
    train(
        "descend",
        tmp_path / "run",
        *DIGITS,
        *jump,
        "logging.interval=1",
        "on_finding=rollback",
        "max_rollbacks=1",
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert len(summary["rollbacks"]) == 1
    found = replay(tmp_path / "run")
    assert found.birth is not None
    assert found.birth.how == "update"
    assert found.taken.compared.exact
    assert found.shown.step == 14


def test_a_run_of_compiled_graphs_is_replayed_by_its_modules_and_says_so(tmp_path):
    assert train("rl", tmp_path / "run", *PPO, "total_steps=320", "compile=update") == 0
    found = replay(tmp_path / "run", 200)
    assert found.taken.graphs
    assert found.taken.compared.points > 20
    assert [call.kind for call in found.shown.calls][:2] == ["Linear", "Tanh"]
    if not found.taken.compared.exact:  # as on most machines
        assert "a compiled graph rounds otherwise than the modules that are called here" in next(lines(found))


# What is refused


def test_a_step_beyond_the_run_is_refused(command: Command, runs):
    assert_refused(
        command("replay", str(runs["descend"]), "step=25"), "step=25 is beyond the run, which has reached 24"
    )


def test_a_run_without_an_error_wants_a_step(command: Command, runs):
    outcome = command("replay", str(runs["descend"]))
    assert_refused(outcome, "has no error to replay: name a step of it, step=1 to 24")


def copied(run: Path, to: Path) -> Path:
    shutil.copytree(run, to)
    return to


@pytest.mark.parametrize(("kind", "step"), [("descend", 20), ("rl", 500), ("gan", 2560)])
def test_a_run_without_a_checkpoint_is_replayed_from_its_beginning(
    command: Command, runs, tmp_path, kind, step
):
    directory = copied(runs[kind], tmp_path / "run")
    shutil.rmtree(directory / "checkpoints")
    found = replay(directory, step)
    assert (found.taken.start, found.taken.begun) == ("", 0)
    assert found.taken.compared.exact
    assert found.taken.compared.points > 50
    assert next(lines(found)).startswith("replayed from the beginning to ")


def test_a_run_that_broke_before_its_first_checkpoint_is_replayed_from_its_beginning(tmp_path):
    words = (*DIGITS, f"objective._target_={PARTS}.FailingDigits", "objective.at=60", "logging.interval=1",
             "logging.checkpoint_interval=1000")  # fmt: skip
    assert train("descend", tmp_path / "run", *words) == 1
    assert not (tmp_path / "run" / "checkpoints").exists()
    found = replay(tmp_path / "run")
    assert found.birth is not None
    assert (found.taken.start, found.birth.how, found.birth.name) == ("", "forward", "2")
    assert found.taken.compared.exact
    assert found.taken.compared.points > 0


def test_another_version_is_refused(command: Command, runs, tmp_path):
    directory = copied(runs["descend"], tmp_path / "run")
    path = directory / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    summary["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(summary), encoding="utf-8")
    assert_refused(command("replay", str(directory), "step=3"), "was made with torch 1.0 (here ")


def test_a_folder_of_several_descents_is_refused(command: Command):
    words = ["function=quadratic", "optimizers=[sgd,adam]", "steps=2", "pictures=[]", "hydra.run.dir=both"]
    assert command("descend", *words).status == 0
    outcome = command("replay", "both", "step=1")
    assert outcome.status == 2
    assert outcome.err == "error: both holds several runs: name one of its folders, sgd, adam\n"
    assert command("replay", "both/sgd", "step=1").status == 0


def test_a_loop_of_ones_own_is_refused(tmp_path, command: Command):
    from torch import nn

    from core import Watch

    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Watch(model, optimizer, directory=tmp_path / "run"):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(4, 2)).mean().backward()
            optimizer.step()
    assert_refused(command("replay", str(tmp_path / "run")), "holds a loop of your own")


def test_an_environment_that_keeps_no_state_is_refused_by_name(runs, monkeypatch):
    from gradrl.envs.env_state import CartPoleEnvState, ReplayedEnvState

    for kind in (CartPoleEnvState, ReplayedEnvState):
        restore = kind.restore
        monkeypatch.setattr(
            kind, "restore", lambda self, saved, restore=restore: (restore(self, saved)[0], [0, 1])
        )
    with pytest.raises(ConfigError, match="2 of 2 copies of the environment keep no state"):
        replay(runs["rl"], 600)
