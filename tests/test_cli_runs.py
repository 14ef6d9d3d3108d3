"""Commands that train, continue, measure: exit codes, bad checkpoints, directories in use, sweeps."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from core.cli import launch
from core.cli.job import execute
from core.cli.launch import compose_tree
from core.config import ConfigError, config_dir
from core.run.directory import Lock, in_use
from core.run.run import Run
from tests.conftest import ODD_ENVS, Command, assert_refused

pytestmark = [pytest.mark.usefixtures("blank_figures"), pytest.mark.slow]

SMALL = {
    "rl": ["experiment=none", "total_steps=64", "num_envs=2", "agent.num_steps=32", "agent.num_minibatches=2",
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
    for name, overrides in SMALL.items():
        runs[name] = tmp_path_factory.mktemp("finished") / name
        assert execute(compose_tree(name, overrides, [config_dir()])[0], runs[name]) == 0
    return runs


def contents(directory: Path) -> dict[str, bytes]:
    """Every file of a run except its lock and its options, which an override has already changed."""
    left_out = (".lock", "config.yaml")
    return {str(p): p.read_bytes() for p in directory.rglob("*") if p.is_file() and p.name not in left_out}


def cut_off(run: Path) -> None:
    path = run / "checkpoints" / "last.pt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(run: Path) -> None:
    (run / "checkpoints" / "last.pt").write_bytes(b"")


def no_checkpoint(run: Path) -> None:
    (run / "checkpoints" / "last.pt").write_text("a letter, not a checkpoint")


def lost(run: Path) -> None:
    (run / "checkpoints" / "last.pt").unlink()


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


DAMAGES = [cut_off, empty, lost, no_checkpoint, of_another_program, with_code_inside, of_another_network]


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
    outcome = command(name, f"resume={run}", LONGER[name])
    assert_refused(outcome, "last.pt", message)
    assert outcome.out == "" or damage is of_another_network  # which is seen when the network is made
    assert contents(run) == before


def test_a_checkpoint_of_the_other_trainer_is_refused(command: Command, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished["rl"], run)
    shutil.copy(finished["gan"] / "checkpoints" / "last.pt", run / "checkpoints" / "last.pt")
    assert_refused(command("rl", f"resume={run}", LONGER["rl"]), "has no state named 'policy'")
    assert_refused(command("evaluate", f"run={run}"), "has no state named 'policy'")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "run must be a run directory: type run=DIR"),
        (["run=nowhere"], "there is no run in nowhere"),
        (["run=nowhere", "episodes=0"], "episodes must be an integer >= 1 or null, got 0"),
        (["rnu=nowhere"], "unknown option rnu; did you mean run?"),
        (["run=nowhere", "checkpoint=first"], "checkpoint must be one of last, best, good, got 'first'"),
        (["-m", "run=nowhere"], "leave -m out"),
    ],
)
def test_evaluate_refuses_bad_overrides(command: Command, overrides, message):
    assert_refused(command("evaluate", *overrides), message)


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("rl", "samples=77", "holds an agent, which has no samples"),
        ("rl", "truncation=0.5", "holds an agent, which has no truncation"),
        ("gan", "episodes=5", "holds a generator, which has no episodes"),
        ("gan", "deterministic=false", "holds a generator, which has no deterministic"),
        ("gan", "features=classifier", "holds a generator of points, which are measured under no features"),
    ],
)
def test_evaluate_refuses_what_it_would_not_read(command: Command, finished, name, override, message):
    assert_refused(command("evaluate", f"run={finished[name]}", override), message)


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
    ("override", "message"),
    [
        ("seed=2", "seed=2 cannot change while resuming"),
        ("optimizer.lr=0.1", "optimizer.lr=0.1 cannot change while resuming"),
        ("env=acrobot", "env=acrobot cannot change while resuming"),
        ("+agent.typo=1", "+agent.typo=1 cannot change while resuming"),
        ("hydra.run.dir=elsewhere", "hydra.run.dir=elsewhere cannot change while resuming"),
        ("total_steps=32", "total_steps=32 is less than the run's own total_steps=64"),
        ("total_steps=many", "total_steps must be an integer, got 'many'"),
        ("total_steps=1e3", "total_steps must be an integer, got 1000.0"),
        ("total_steps=", "total_steps must be an integer, got null"),
        ("total_images=128", "total_images=128 cannot change while resuming; only total_steps, "),
        ("logging.intervall=2", "unknown option logging.intervall"),
        ("logging.interval=0", "logging.interval must be an integer >= 1, got 0"),
        ("logging.interval.x=3", "unknown option logging.interval.x"),
        ("logging.interval=[1", "cannot read 'logging.interval=[1'"),
        ("logging=3", "logging=3 cannot change while resuming"),
        ("seed=true", "seed=true cannot change while resuming"),  # it is 1
        ("seed=[1", "seed=[1 cannot change while resuming"),
        ("device=cuda:99", "device=cuda:99 is not available: this machine has"),
        ("-m", "leave -m out"),
    ],
)
def test_a_resumed_run_refuses_words_that_would_change_it(
    command: Command, finished, tmp_path, override, message
):
    run = tmp_path / "run"
    shutil.copytree(finished["rl"], run)
    before = contents(run)
    longer = [] if override.startswith("total") else [LONGER["rl"]]
    assert_refused(command("rl", f"resume={run}", override, *longer), message)
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
    outcome = command(name, f"resume={run}", LONGER[name], "logging.interval=1", "seed=1", "compile=off")
    assert outcome.status == 0
    # PPO's rate falls linearly to 0; the ring's stays as it is.
    rise = "was 0 times its first value at 64 of 64, and goes on at 0.5 times, for it is 64 of 128 now"
    assert (rise in outcome.out) == (name == "rl")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "finished"
    total = int(LONGER[name].partition("=")[2])
    assert summary["env_steps" if name == "rl" else "images"] >= total


@pytest.mark.parametrize("words", [(), ("on_finding=stop",), ("on_finding=rollback", "max_rollbacks=2")])
def test_a_reaction_to_findings_without_a_diagnosis_is_told_to_have_no_effect(command: Command, words):
    outcome = command("descend", "function=booth", "steps=2", "diagnosis=none", *words)
    names = " and ".join(word.partition("=")[0] for word in words)
    said = f"{names} {'have' if len(words) > 1 else 'has'} no effect here: diagnosis is none"
    assert (outcome.status, said in outcome.out) == (0, bool(words))


def test_a_sweep_trains_every_job_in_a_directory_of_its_own(command: Command):
    outcome = command("gan", "-m", *SMALL["gan"], "seed=1,2", "hydra.sweep.dir=sweep")
    assert outcome.status == 0
    assert outcome.made == ["sweep"]
    for seed in (1, 2):
        summary = json.loads(Path("sweep", f"seed={seed}", "summary.json").read_text())
        assert (summary["status"], summary["seed"]) == ("finished", seed)


def test_all_jobs_of_a_sweep_are_in_one_directory_named_by_when_the_sweep_began(command: Command):
    words = ("steps=3", "pictures=[]", "logging.progress=false", "seed=1,2")
    assert command("descend", "-m", *words).status == 0
    (sweep,) = Path("runs", "descend").iterdir()
    assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == ["seed=1", "seed=2"]


def test_a_sweep_into_used_or_shared_directories_is_refused_before_it_begins(command: Command, tmp_path):
    place = tmp_path / "sweep"
    overrides = ["-m", *SMALL["gan"], f"hydra.sweep.dir={place}"]
    shared = command("gan", *overrides, "seed=1,2", "hydra.sweep.subdir=same")
    assert_refused(shared, f"two jobs of this sweep would share {place / 'same'}")
    assert not place.exists()
    (place / "seed=2").mkdir(parents=True)
    (place / "seed=2" / "config.yaml").touch()
    assert_refused(command("gan", *overrides, "seed=1,2"), f"{place / 'seed=2'} already holds a run")
    assert sorted(p.name for p in place.iterdir()) == ["seed=2"]


def test_a_job_refuses_a_directory_with_a_run_unless_it_is_to_go_on(finished, tmp_path):
    tree = compose_tree("gan", [*SMALL["gan"], "seed=7"], [config_dir()])[0]
    for left in ("config.yaml", "checkpoints/last.pt"):
        run = tmp_path / Path(left).name
        (run / left).parent.mkdir(parents=True)
        shutil.copy(finished["gan"] / left, run / left)
        with pytest.raises(ConfigError, match="already holds a run"):
            execute(tree, run)
        assert not (run / "summary.json").exists()
        Lock(run).release()  # given free again
    (tmp_path / "last.pt" / "config.yaml").touch()
    assert execute(tree, tmp_path / "last.pt", continuing=True) == 0


def test_a_signal_ends_the_whole_sweep(command: Command, monkeypatch):
    finish_step = Run.finish_step

    def interrupted(self, step, metrics):
        os.kill(os.getpid(), signal.SIGTERM)
        finish_step(self, step, metrics)

    monkeypatch.setattr(Run, "finish_step", interrupted)
    assert command("gan", "-m", *SMALL["gan"], "seed=1,2", "hydra.sweep.dir=sweep").status == 143
    assert sorted(path.name for path in Path("sweep").iterdir() if path.is_dir()) == ["seed=1"]


def test_the_loser_of_two_starts_leaves_the_winners_directory_alone(command: Command, monkeypatch, tmp_path):
    run = tmp_path / "it's here"
    run.mkdir()
    winner = Lock(run)
    monkeypatch.setattr(launch, "refuse_used", lambda directory: None)  # both have looked before either wrote
    overrides = [*SMALL["gan"], f'hydra.run.dir="{run}"']
    outcome = command("gan", *overrides)
    assert (outcome.status, "is in use" in outcome.err) == (2, True)
    assert [path.name for path in run.iterdir()] == [".lock"]
    winner.release()
    (run / "config.yaml").touch()  # the winner has ended by the time that the loser takes the lock
    assert command("gan", *overrides).status == 2
    assert sorted(path.name for path in run.iterdir()) == [".lock", "config.yaml"]
    (run / "config.yaml").unlink()
    assert command("gan", *overrides).status == 0
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"


def test_the_summary_of_a_stopped_run_is_written_before_its_directory_is_free(monkeypatch, tmp_path):
    tree = compose_tree("gan", SMALL["gan"], [config_dir()])[0]
    held = []
    write_summary = Run.write_summary

    def watched(self, status, extra=None):
        held.append(in_use(self.directory))
        write_summary(self, status, extra)

    def stopped(self, step, metrics):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "write_summary", watched)
    monkeypatch.setattr(Run, "finish_step", stopped)
    assert execute(tree, tmp_path) == 130
    assert (held, in_use(tmp_path)) == ([True], False)


@pytest.mark.parametrize(
    "overrides", [["hydra.run.dir=file/run"], ["-m", "seed=1,2", "hydra.sweep.dir=file"]]
)
def test_a_directory_below_a_file_is_refused_in_one_line(command: Command, overrides):
    Path("file").write_text("not a folder")
    outcome = command("gan", *SMALL["gan"], *overrides)
    assert (outcome.status, outcome.err.count("\n"), outcome.made) == (2, 1, ["file"])
    assert "file is no folder" in outcome.err


@pytest.mark.parametrize(("name", "other", "by"), [("rl", "gan", "gradgan"), ("gan", "rl", "gradrl")])
def test_a_run_of_another_command_is_not_continued(command: Command, finished, tmp_path, name, other, by):
    shutil.copytree(finished[other], tmp_path / "a run")
    before = contents(tmp_path / "a run")
    outcome = command(name, f"resume={tmp_path}/a run", LONGER[name])
    assert_refused(outcome, "holds a run of another command", f"with: {by} 'resume={tmp_path}/a run'")
    assert contents(tmp_path / "a run") == before


def test_an_environment_that_fails_at_once_is_refused_with_its_place(command: Command, odd_envs):
    outcome = command("rl", *SMALL["rl"], "env.import_module=odd_envs", "env.id=Odd-v0", "hydra.run.dir=run")
    place = next(i for i, line in enumerate(ODD_ENVS.splitlines(), 1) if "on fire" in line)
    said = "env.id=Odd-v0: step() raised RuntimeError: the motor is on fire ("
    assert_refused(outcome, said, f"odd_envs.py, line {place})")


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_a_run_whose_environment_breaks_its_contract_is_saved_and_continues(
    command: Command, odd_envs, vectorization
):
    overrides = [*SMALL["rl"], "env.import_module=odd_envs", "env.id=Late-v0", "agent.num_steps=8",
                 "hydra.run.dir=run", f"env.vectorization={vectorization}"]  # fmt: skip
    Path("broken").touch()
    outcome = command("rl", *overrides)
    assert outcome.status == 1
    assert outcome.err == (
        "error: env.id=Late-v0: step() returned an observation of shape (4,), its space has shape (3,);"
        f" saved at 32 env steps, continue with resume={Path('run').resolve()}\n"
    )
    summary = json.loads(Path("run", "summary.json").read_text())
    assert (summary["status"], summary["env_steps"]) == ("failed", 32)
    Path("broken").unlink()
    outcome = command("rl", "resume=run")
    assert outcome.status == 0, outcome.err
    assert "2 of 2 copies begin a new episode" in outcome.out
    assert json.loads(Path("run", "summary.json").read_text())["env_steps"] == 64


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
