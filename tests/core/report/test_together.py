"""Pages of several runs: what became of them, and commands that run one of them alone."""

import sys
from pathlib import Path

import pytest
import yaml

from core.cli.children import note_start
from core.cli.command import typed_command
from core.config import config_dir
from core.report import cards
from core.report.cards import command
from core.report.facts import STATUS
from core.report.read import read_run
from scripts.report import kind_of
from tests.conftest import Command
from tests.core.report.runs import RL_CURVES, RL_OPTIONS, RL_SUMMARY, make_run, page_of

OBJECTIVE = """
_target_: core.descend.descent.DescentConfig
objective: {_target_: core.descend.objectives.Moons}
steps: 100
"""


@pytest.mark.parametrize(
    ("statuses", "together"),
    [
        (["finished", "finished"], "finished"),
        (["finished", "failed"], "failed"),
        (["finished", "stopped"], "stopped"),
        (["finished", None], "unfinished"),
    ],
)
def test_a_sweep_is_what_its_jobs_are(tmp_path, statuses, together):
    for number, status in enumerate(statuses):
        summary = RL_SUMMARY | {"status": status} if status else None
        make_run(tmp_path / str(number), RL_OPTIONS, RL_CURVES, summary)
    head = page_of(tmp_path).partition("<section")[0]
    told = [status for status, text in STATUS.items() if f">{text}<" in head]
    assert told == [together]


@pytest.fixture
def comparison(tmp_path):
    """A comparison of batches, as Hydra and the launcher leave it."""
    parent = make_run(tmp_path / "all", OBJECTIVE, {"loss/train": 1.0}, None)
    (parent / ".hydra").mkdir()
    typed = [
        "objective=moons",
        "batches=[minibatch,full]",
        "batches.minibatch.size=8",
        "batches.full.x=1",
        "seed=3",
    ]
    (parent / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(typed))
    named = {"hydra": {"help": {"app_name": "'my python' scripts/descend.py"}}}
    (parent / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(named))
    make_run(parent / "minibatch", OBJECTIVE, {"loss/train": 1.0}, {"status": "finished", "value": 0.25})
    note_start(parent, "minibatch", "batches", "batch")
    return parent


def test_a_remedy_for_one_of_several_is_appended_to_the_command_of_that_one_alone(comparison):
    record = read_run(comparison / "minibatch", kind_of)
    told = command(record, ["batch.size=512"])
    assert told.kept == ["my python", "scripts/descend.py", "objective=moons", "batch=minibatch", "seed=3"]
    assert told.new == ["batch.size=512"]
    assert "batch.size=8" in command(record, ["optimizer.lr=0.02"]).kept


@pytest.mark.slow
def test_what_is_to_be_pasted_names_the_folder_of_the_users_own_yaml(command: Command, tmp_path):
    own = tmp_path / "my own" / "optimizer"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text((config_dir() / "optimizer" / "sgd.yaml").read_text())
    flags = ["--config-dir", str(own.parent), "function=booth", "steps=20"]
    assert command("descend", *flags, "optimizer=mine", "optimizer.lr=0.01", "hydra.run.dir=run").status == 0
    assert command("descend", *flags, "optimizers=[mine,sgd]", "hydra.run.dir=several").status == 0
    for directory, optimizer in (("run", ["optimizer=mine", "optimizer.lr=0.01"]), ("several/mine", [])):
        pasted = [*cards.command(read_run(Path(directory), kind_of)).kept]
        at = pasted.index("--config-dir")
        assert pasted[at : at + 4] == flags
        assert pasted[at + 4 :] == (optimizer or ["optimizer=mine"])


def test_the_loss_of_an_objective_is_not_called_the_value_of_a_function(comparison):
    page = page_of(comparison / "minibatch")
    assert "<b>0.250</b><span>loss on the training data</span>" in page
    assert "alue of the function" not in page


@pytest.mark.parametrize("kept", [True, False])
def test_a_checkpoint_is_named_only_where_it_is(tmp_path, kept):
    run = make_run(tmp_path / "run", RL_OPTIONS, RL_CURVES, RL_SUMMARY)
    if kept:
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "best.pt").write_bytes(b"")
    page = page_of(run)
    assert "best mean return" in page
    assert ("best.pt" in page) == kept


@pytest.mark.parametrize(
    ("typed", "script", "expected"),
    [
        (
            [".venv/bin/python", "scripts/train_rl.py"],
            "scripts/train_rl.py",
            ".venv/bin/python scripts/train_rl.py",
        ),
        (
            ["python", "-m", "core.scripts.descend"],
            "/a/core/scripts/descend.py",
            "python -m core.scripts.descend",
        ),
        (["python", "-u", "scripts/train_rl.py"], "scripts/train_rl.py", "python scripts/train_rl.py"),
        (
            ["python", "-X", "dev", "-m", "core.scripts.descend"],
            "/a/core/scripts/descend.py",
            "python -m core.scripts.descend",
        ),
        (["/my python", "a b/descend.py"], "a b/descend.py", "'/my python' 'a b/descend.py'"),
        (["/usr/bin/python", "/nowhere/bin/gradrl"], "/nowhere/bin/gradrl", "/nowhere/bin/gradrl"),
        (["/usr/bin/python", "/usr/bin/env"], "/usr/bin/env", "env"),
        (["python", "-c", "main()"], "-c", ""),
    ],
)
def test_a_command_is_told_as_it_was_typed(monkeypatch, typed, script, expected):
    words = ["seed=1", "steps=3"]
    monkeypatch.setattr(sys, "orig_argv", [*typed, *words])
    monkeypatch.setattr(sys, "argv", [script, *words])
    assert typed_command(words) == expected
    assert typed_command(["seed=2"]) == ""
