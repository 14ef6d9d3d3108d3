"""Commands that train, continue, measure: exit codes, bad checkpoints, directories in use, sweeps."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from core.run.config import config_dir
from core.run.directory import Lock
from core.run.job import execute
from core.run.launch import compose_tree
from core.run.run import Run
from tests.conftest import Command, assert_refused

SMALL = {
    "rl": ["recipe=none", "total_steps=64", "num_envs=2", "agent.num_steps=32", "agent.num_minibatches=2",
           "agent.num_epochs=1", "evaluation.episodes=2", "evaluation.interval_episodes=2",
           "evaluation.num_envs=2", "evaluation.max_episode_steps=20", "logging.progress=false"],
    "gan": ["data=ring", "total_images=512", "batch_size=64", "network.width=8", "network.depth=1",
            "evaluation.samples=50", "device=cpu", "logging.progress=false"],
}  # fmt: skip
LONGER = {"rl": "total_steps=128", "gan": "total_images=1024"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> dict[str, Path]:
    """A finished run of each trainer; tests work on copies."""
    runs = {}
    for name, words in SMALL.items():
        runs[name] = tmp_path_factory.mktemp("finished") / name
        assert execute(compose_tree(name, words, [config_dir()])[0], runs[name]) == 0
    return runs


def contents(directory: Path) -> dict[str, bytes]:
    """Every file of a run but its lock and its options, which a prolonging word has already changed."""
    left_out = (".lock", "config.yaml")
    return {str(p): p.read_bytes() for p in directory.rglob("*") if p.is_file() and p.name not in left_out}


def cut_off(run: Path) -> None:
    path = run / "checkpoints" / "last.pt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(run: Path) -> None:
    (run / "checkpoints" / "last.pt").write_bytes(b"")


def no_checkpoint(run: Path) -> None:
    (run / "checkpoints" / "last.pt").write_text("a letter, not a checkpoint")


def of_another_program(run: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, run / "checkpoints" / "last.pt")


def with_code_inside(run: Path) -> None:
    torch.save({"format": "gradsight-1", "policy": Path("a class")}, run / "checkpoints" / "last.pt")


def of_another_network(run: Path) -> None:
    options = OmegaConf.load(run / "config.yaml")
    if "policy" in options:
        options.policy.hidden_sizes = [16]
    else:
        options.network.width = 16
    OmegaConf.save(options, run / "config.yaml")


DAMAGES = [cut_off, empty, no_checkpoint, of_another_program, with_code_inside, of_another_network]


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_bad_checkpoint_is_refused_by_resume_and_by_evaluate(
    command: Command, finished, tmp_path, name, damage
):
    run = tmp_path / "run"
    shutil.copytree(finished[name], run)
    damage(run)
    before = contents(run)
    message = "another network" if damage is of_another_network else "checkpoint"
    assert_refused(command("evaluate", f"run={run}"), "last.pt", message)
    assert_refused(command(name, f"resume={run}", LONGER[name]), "last.pt", message)
    assert contents(run) == before


def test_a_checkpoint_of_the_other_trainer_is_refused(command: Command, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished["rl"], run)
    shutil.copy(finished["gan"] / "checkpoints" / "last.pt", run / "checkpoints" / "last.pt")
    assert_refused(command("rl", f"resume={run}", LONGER["rl"]), "has no state named 'policy'")
    assert_refused(command("evaluate", f"run={run}"), "has no state named 'policy'")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "run must be a run directory, got None"),
        (["run=nowhere"], "there is no run in nowhere"),
        (["run=nowhere", "episodes=0"], "episodes must be an integer >= 1, got 0"),
        (["rnu=nowhere"], "unknown option rnu; did you mean run?"),
        (["run=nowhere", "checkpoint=first"], "checkpoint must be one of last, best, got 'first'"),
        (["-m", "run=nowhere"], "leave -m out"),
    ],
)
def test_evaluate_refuses_bad_words(command: Command, words, message):
    assert_refused(command("evaluate", *words), message)


def test_evaluate_measures_a_run_and_writes_what_it_found(command: Command, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished["rl"], run)
    assert command("evaluate", f"run={run}", "episodes=3").status == 0
    assert json.loads((run / "evaluation.json").read_text())["eval_episodes"] == 3
    missing = command("evaluate", f"run={run}", "checkpoint=best")
    assert_refused(missing, "no checkpoint at", "best.pt")


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_directory_that_holds_a_run_is_not_used_for_another(command: Command, finished, tmp_path, name):
    run = tmp_path / "run"
    shutil.copytree(finished[name], run)
    before = contents(run)
    outcome = command(name, *SMALL[name], f"hydra.run.dir={run}")
    assert_refused(outcome, f"{run} already holds a run; continue it with resume={run}")
    assert contents(run) == before


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_directory_in_use_is_refused_to_a_second_process(command: Command, finished, tmp_path, name):
    run = tmp_path / "run"
    shutil.copytree(finished[name], run)
    lock = Lock(run)
    try:
        assert_refused(command(name, f"resume={run}", LONGER[name]), f"{run} is in use")
        assert_refused(command(name, *SMALL[name], f"hydra.run.dir={run}"), f"{run} is in use")
    finally:
        lock.release()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed=2", "seed=2 cannot change while resuming"),
        ("optimizer.lr=0.1", "optimizer.lr=0.1 cannot change while resuming"),
        ("env=acrobot", "env=acrobot cannot change while resuming"),
        ("+agent.typo=1", "+agent.typo=1 cannot change while resuming"),
        ("hydra.run.dir=elsewhere", "hydra.run.dir=elsewhere cannot change while resuming"),
        ("total_steps=32", "total_steps=32 is less than the total_steps=64 that the run has"),
        ("total_steps=many", "total_steps must be an integer, got 'many'"),
        ("total_steps=1e3", "total_steps must be an integer, got 1000.0"),
        ("total_steps=", "total_steps must be an integer, got null"),
        ("total_images=128", "unknown option total_images"),
        ("logging.intervall=2", "unknown option logging.intervall"),
        ("logging.interval=0", "logging.interval must be an integer >= 1, got 0"),
        ("logging=3", "logging=3 cannot change while resuming"),
        ("device=cuda:99", "device=cuda:99 is not on this machine"),
        ("-m", "leave -m out"),
    ],
)
def test_a_resumed_run_refuses_words_that_would_change_it(
    command: Command, finished, tmp_path, word, message
):
    run = tmp_path / "run"
    shutil.copytree(finished["rl"], run)
    before = contents(run)
    longer = [] if word.startswith("total") else [LONGER["rl"]]
    assert_refused(command("rl", f"resume={run}", word, *longer), message)
    assert contents(run) == before


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_resumed_run_is_left_alone_when_finished_and_goes_on_when_prolonged(
    command: Command, finished, tmp_path, name
):
    run = tmp_path / "run"
    shutil.copytree(finished[name], run)
    before = contents(run)
    outcome = command(name, f"resume={run}")
    assert outcome.status == 0
    assert "already finished" in outcome.out
    assert contents(run) == before
    assert command(name, f"resume={run}", LONGER[name], "logging.interval=1").status == 0
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "finished"
    total = int(LONGER[name].partition("=")[2])
    assert summary["env_steps" if name == "rl" else "images"] >= total


def test_a_sweep_trains_every_job_in_a_directory_of_its_own(command: Command):
    outcome = command("gan", "-m", *SMALL["gan"], "seed=1,2", "hydra.sweep.dir=sweep")
    assert outcome.status == 0
    assert outcome.made == ["sweep"]
    for job in (0, 1):
        summary = json.loads(Path("sweep", str(job), "summary.json").read_text())
        assert (summary["status"], summary["seed"]) == ("finished", job + 1)


def test_a_run_that_fails_says_why_and_exits_with_1(command: Command, odd_envs):
    words = [*SMALL["rl"], "env.import_module=odd_envs", "env.id=Odd-v0", "hydra.run.dir=run"]
    outcome = command("rl", *words)
    assert outcome.status == 1
    assert "the motor is on fire" in outcome.err
    assert json.loads(Path("run", "summary.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_run_and_sets_the_exit_status(command: Command, monkeypatch, number, status):
    finish_step = Run.finish_step

    def interrupted(self, step, metrics):
        os.kill(os.getpid(), number)
        finish_step(self, step, metrics)

    monkeypatch.setattr(Run, "finish_step", interrupted)
    assert command("gan", *SMALL["gan"], "hydra.run.dir=run").status == status
    assert Path("run", "checkpoints", "last.pt").exists()
    assert json.loads(Path("run", "summary.json").read_text())["status"] == "stopped"
