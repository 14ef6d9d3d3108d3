"""Sweeps: their jobs in this process and in others, their worst status, and how they go on."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from core.cli import elsewhere
from core.cli.headline import headline
from core.cli.stopping import POLL_S, end_with, stops_with
from core.cli.sweeps import Job, Sweep
from core.run.directory import read_summary, write_summary
from tests.conftest import Command, Outcome, assert_refused, call

pytestmark = [pytest.mark.usefixtures("blank_figures"), pytest.mark.slow]
WORDS = ("function=booth", "steps=20", "pictures=[]", "logging.progress=false")
SWEEP = ("-m", *WORDS, "seed=1,2,3", "hydra.sweep.dir=sweep")
LIBRARIES = {"joblib": "hydra_joblib_launcher", "submitit_local": "hydra_submitit_launcher"}


def installed(launcher: str) -> bool:
    return (
        find_spec("hydra_plugins") is not None
        and find_spec(f"hydra_plugins.{LIBRARIES[launcher]}") is not None
    )


class Forks:
    """A launcher that forks this process for each job, and takes what becomes of it as it comes."""

    def __init__(self, sweep: Sweep, deadly: tuple[int, ...] = ()) -> None:
        self.sweep, self.deadly = sweep, deadly

    def launch(self, jobs: list[list[str]], first: int) -> None:
        for number, job in enumerate(jobs):
            child = os.fork()
            if child == 0:
                sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  (pytest's own goes elsewhere)
                sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
                if number in self.deadly:
                    (Path("sweep") / ".jobs" / f"{number}.txt").touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                try:
                    elsewhere._Work(self.sweep)(OmegaConf.create({"job": job}))
                finally:
                    os._exit(0)
            os.waitpid(child, 0)


@pytest.fixture
def forks(monkeypatch) -> list[tuple[int, ...]]:
    """`hydra/launcher=joblib` forks; the last element says which jobs are killed."""
    deadly: list[tuple[int, ...]] = [()]
    monkeypatch.setattr(elsewhere, "find_spec", lambda name: name)
    monkeypatch.setattr(elsewhere, "_launcher", lambda sweep, config: Forks(sweep, deadly[-1]))
    return deadly


def ends(outcome: Outcome) -> list[str]:
    return [line for line in outcome.out.splitlines() if line.startswith("job ")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A sweep whose jobs have all finished in this process; tests work on copies."""
    place = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert call("descend", *SWEEP) == 0
    return place / "sweep"


@pytest.fixture
def swept(command: Command, whole: Path) -> Path:
    """A copy of it in the folder that commands are called from."""
    return shutil.copytree(whole, Path("sweep"))


def test_jobs_in_other_processes_say_one_line_each_and_compute_what_they_do_here(command, forks, whole):
    outcome = command("descend", *SWEEP, "hydra/launcher=joblib")
    assert outcome.status == 0, outcome.err
    value = json.loads(Path("sweep/seed=2/summary.json").read_text())["value"]
    assert sorted(ends(outcome))[1] == f"job 2 of 3, seed=2: f {value:.4g}"
    assert len(ends(outcome)) == 3
    assert "finished" not in outcome.out
    assert "finished" in Path("sweep/.jobs/1.txt").read_text()
    for seed in (1, 2, 3):
        there, here = (
            json.loads(Path(p, f"seed={seed}", "summary.json").read_text()) for p in ("sweep", whole)
        )
        assert there["x"] == here["x"]


def test_another_sweep_in_the_folder_of_one_is_refused_and_the_first_is_not_forgotten(command, swept):
    before = Path("sweep/sweep.yaml").read_bytes()
    outcome = command("descend", "-m", *WORDS, "seed=7,8", "hydra.sweep.dir=sweep")
    said = "error: sweep holds a sweep: go on with it by resume=sweep, or type another hydra.sweep.dir\n"
    assert (outcome.status, outcome.err, outcome.out) == (2, said, "")
    assert Path("sweep/sweep.yaml").read_bytes() == before
    assert not list(Path("sweep").glob("*7*"))


def test_a_run_in_the_folder_of_a_sweep_would_hide_its_runs_and_is_refused(command: Command, swept):
    before = sorted(Path("sweep").rglob("*"))
    outcome = command("descend", *WORDS, "hydra.run.dir=sweep")
    said = "error: sweep is the folder of a sweep, whose runs are in it; choose another\n"
    assert (outcome.status, outcome.err, outcome.out) == (2, said, "")
    outcome = command("descend", "-m", *WORDS, "seed=7,8", "hydra.sweep.dir=sweep/seed=1")
    said = (
        "error: sweep/seed=1 holds a run, which would hide those of a sweep: type another hydra.sweep.dir\n"
    )
    assert (outcome.status, outcome.err, outcome.out) == (2, said, "")
    assert sorted(Path("sweep").rglob("*")) == before


def test_a_job_that_was_stopped_before_it_began_points_to_no_file(tmp_path):
    sweep = Sweep("descend", (), "", ("seed",), str(tmp_path))
    (tmp_path / ".jobs").mkdir()
    (tmp_path / ".jobs" / "3.json").write_text('{"status": 143}')
    assert elsewhere._outcome(sweep, Job(3, (), "seed=4", "seed=4")) == "has not begun"


@pytest.mark.parametrize("launcher", [(), ("hydra/launcher=joblib",)])
def test_the_worst_status_of_the_jobs_is_that_of_the_command(command: Command, forks, launcher):
    words = ("-m", *WORDS, "optimizer=sgd", "optimizer.lr=1e-3,1e30", "hydra.sweep.dir=sweep")
    outcome = command("descend", *words, *launcher)
    assert outcome.status == 1
    statuses = [
        json.loads(path.read_text())["status"] for path in sorted(Path("sweep").glob("*/summary.json"))
    ]
    assert statuses == ["finished", "failed"]
    if launcher:
        assert ends(outcome)[-1].startswith("job 2 of 2, lr=1e+30: failed, status 1: ")


def test_a_job_that_was_killed_counts_as_failed_and_goes_on(command: Command, forks):
    forks.append((1,))
    outcome = command("descend", *SWEEP, "hydra/launcher=joblib")
    assert outcome.status == 1
    assert "job 2 of 3, seed=2: was killed; what it said is in sweep/.jobs/1.txt" in outcome.out
    forks.append(())
    assert command("descend", "resume=sweep").status == 0
    assert Path("sweep/seed=2/summary.json").exists()


def test_a_sweep_goes_on_with_what_is_missing_and_leaves_what_is_finished(command: Command, swept):
    whole = {path: path.read_bytes() for path in Path("sweep").rglob("*") if path.is_file()}
    shutil.rmtree("sweep/seed=2")
    Path("sweep/seed=3/summary.json").unlink()
    outcome = command("descend", "resume=sweep")
    assert outcome.status == 0, outcome.err
    assert "sweep/seed=1 is already finished" in outcome.out
    for path, content in whole.items():
        if "seed=1" in path.parts:
            assert path.read_bytes() == content
    for seed in (2, 3):
        path = Path(f"sweep/seed={seed}/summary.json")
        assert json.loads(path.read_text())["x"] == json.loads(whole[path])["x"]


def test_a_resumed_sweep_may_be_prolonged_in_all_its_jobs(command: Command, swept):
    shutil.rmtree("sweep/seed=2")
    assert command("descend", "resume=sweep", "steps=30", "on_finding=report").status == 0
    assert [json.loads(p.read_text())["steps"] for p in sorted(Path("sweep").glob("*/summary.json"))] == [
        30
    ] * 3


def test_what_cannot_be_resumed_as_a_sweep_is_refused_in_one_line(command: Command, swept):
    def refused(message: str, *words: str, name: str = "descend") -> None:
        outcome = command(name, "resume=sweep", *words)
        assert (outcome.status, outcome.err.count("\n")) == (2, 1)
        assert message in outcome.err

    note = Path("sweep/sweep.yaml")
    refused("seed=7 cannot change while resuming", "seed=7")
    refused("steps=1 is less than the first job's own steps=", "steps=1")
    refused("a sweep of another command, of descend; continue it with: descend resume=sweep", name="rl")
    for text in (
        "jobs: 3",
        note.read_text().replace("command: descend", "command: null"),
        "a: [",
        "command: descend\ntyped: ''\nfolders: []\nswept: []\njobs: [{name: 1}]",
    ):
        note.write_text(text)
        refused("sweep.yaml is damaged: it names no jobs of a sweep")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("seed=1", "hydra/launcher=joblib"), "hydra/launcher says how the jobs of a sweep are run; add -m"),
        (("-m", "seed=1,2", "hydra/launcher=null"), "hydra/launcher=null cannot be composed"),
        (("-m", "seed=1,2", "hydra/launcher=jobib"), "hydra/launcher=jobib"),
        (("-m", "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_job=2"), "hydra.launcher.n_job"),
        (("-m", "seed=1,2,1"), "two jobs of this sweep would be the same: "),
        (
            ("-m", "seed=1,2", "hydra.launcher._target_=torch.nn.Linear"),
            "hydra/launcher must be basic, joblib",
        ),
    ],
)
def test_a_launcher_that_cannot_be_is_refused(command: Command, words, message):
    assert_refused(command("descend", *WORDS, *words), message)


@pytest.mark.usefixtures("forks")
@pytest.mark.parametrize(
    ("launcher", "word", "message"),
    [
        ("joblib", "n_jobs=0", "must be an integer other than 0, got 0"),
        ("joblib", "batch_size=0", "must be auto or an integer >= 1, got '0'"),
        ("joblib", "pre_dispatch=none", "must be all or an integer >= 1, got 'none'"),
        ("submitit_local", "timeout_min=0", "must be an integer >= 1, got 0"),
    ],
)
def test_a_number_that_a_launcher_would_refuse_is_refused_before_anything_is_made(
    command: Command, launcher, word, message
):
    outcome = command("descend", *SWEEP, f"hydra/launcher={launcher}", f"hydra.launcher.{word}")
    assert_refused(outcome, f"hydra.launcher.{word.partition('=')[0]} {message}")
    assert outcome.out == ""


def test_a_launcher_that_is_not_installed_names_its_extra(command: Command, monkeypatch):
    monkeypatch.setattr(elsewhere, "find_spec", lambda name: None)
    for launcher, extra in (("joblib", "sweep"), ("submitit_slurm", "slurm")):
        outcome = command("descend", *SWEEP, f"hydra/launcher={launcher}")
        assert_refused(outcome, f"pip install 'gradsight[{extra}]'")


def test_a_signal_stops_all_jobs_and_the_sweep_goes_on(command: Command, forks, monkeypatch):
    def stop(self, jobs, first):
        os.kill(os.getpid(), signal.SIGTERM)
        launch(self, jobs, first)

    launch = Forks.launch
    monkeypatch.setattr(Forks, "launch", stop)
    outcome = command("descend", *SWEEP, "hydra/launcher=joblib")
    assert outcome.status == 143
    assert "continue with resume=sweep" in outcome.out
    monkeypatch.setattr(Forks, "launch", launch)
    assert command("descend", "resume=sweep").status == 0


def test_a_process_stops_with_its_parent():
    """A child whose parent is killed gets one SIGTERM; the grandchild says so to a pipe."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        grandchild = os.fork()
        if grandchild == 0:
            signal.signal(signal.SIGTERM, lambda *_: (os.write(write, b"stopped"), os._exit(0)))
            with stops_with():
                os.write(write, b"begun ")
                time.sleep(20)
            os._exit(1)
        os.waitpid(grandchild, 0)
        os._exit(0)
    os.close(write)
    assert os.read(read, 100) == b"begun "
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"stopped"
    os.close(read)


def test_a_process_whose_parent_has_died_before_it_looked_is_told_once():
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        parent = os.getpid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, lambda *_: os.write(write, b"told "))
            while os.getppid() == parent:
                time.sleep(0.01)
            end_with(parent)
            with stops_with():
                time.sleep(4 * POLL_S)
            os._exit(0)
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    said = b""
    while more := os.read(read, 100):
        said += more
    assert said == b"told "
    os.close(read)


def test_the_headline_is_the_first_entry_that_a_summary_has():
    assert headline({"loss": 1.0, "eval_return_mean": 2}) == ("return", 2.0)
    assert headline({"modes": 8, "fid": 3.5}) == ("FID", 3.5)
    assert headline({"value": True, "images": 3}) is None
    assert headline({"fid": None, "modes": None}) is None  # not measured


def test_a_headline_that_is_no_number_is_said(tmp_path):
    (tmp_path / "sweep" / "a").mkdir(parents=True)
    (tmp_path / "sweep" / ".jobs").mkdir()
    (tmp_path / "sweep" / ".jobs" / "0.json").write_text('{"status": 0}')
    write_summary(tmp_path / "sweep" / "a", {"status": "finished", "eval_return_mean": math.nan, "x": 1.0})
    summary = read_summary(tmp_path / "sweep" / "a")
    assert (summary["eval_return_mean"], summary["not_finite"]) == (None, ["eval_return_mean"])
    sweep = Sweep("rl", (), "gradrl", (), str(tmp_path / "sweep"))
    assert elsewhere._outcome(sweep, Job(0, (), "a", "a")) == "return nan"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", pytest.param("submitit_local", marks=pytest.mark.long)])
def test_hydras_launchers_run_a_sweep_and_hand_back_the_worst_status(tmp_path, launcher):
    if not installed(launcher):
        pytest.skip(f"{LIBRARIES[launcher]} is not installed")
    words = [
        *WORDS,
        "optimizer=sgd",
        "optimizer.lr=1e-3,1e30",
        "hydra.sweep.dir=sweep",
        f"hydra/launcher={launcher}",
    ]
    line = [sys.executable, "-m", "core.scripts.descend", "-m", *words]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stderr
    assert "job 1 of 2, lr=0.001: f " in done.stdout
    assert "job 2 of 2, lr=1e+30: failed, status 1: " in done.stdout
    assert "Traceback" not in done.stderr
    (tmp_path / "sweep" / "lr=0.001" / "summary.json").unlink()
    again = [*line[:3], "resume=sweep"]
    done = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert "job 1 of 2, lr=0.001: f " in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_sweep_whose_command_is_killed_leaves_no_process_and_goes_on(tmp_path, number):
    if not installed("joblib"):
        pytest.skip("hydra_joblib_launcher is not installed")
    words = [
        "function=booth",
        "steps=1000000",
        "pictures=[]",
        "logging.progress=false",
        "logging.checkpoint_interval=1000",
    ]
    line = [sys.executable, "-m", "core.scripts.descend"]
    places = ["hydra.sweep.dir=sweep", "hydra/launcher=joblib", "hydra.launcher.n_jobs=3"]  # one has no job
    sweep = [*line, "-m", *words, "seed=1,2", *places]
    process = subprocess.Popen(sweep, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    while len([*tmp_path.glob("sweep/*/checkpoints/last.pt")]) < 2:
        time.sleep(0.2)
        assert process.poll() is None
    process.send_signal(number)
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while still_at_work(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not still_at_work(tmp_path)
    assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    steps = [json.loads(p.read_text()).get("steps", 0) for p in tmp_path.glob("sweep/*/summary.json")]
    assert len(steps) == 2  # both have saved, and said how far they came


def still_at_work(place: Path) -> list[int]:
    """Processes whose folder this is."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            found += [int(entry.parent.name)] if entry.resolve() == place.resolve() else []
        except OSError:
            continue
    return found
