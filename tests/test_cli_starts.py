"""Starts that come to nothing: refused after the directory is made, or stopped during the imports."""

import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Command, assert_refused
from tests.pages import ROOT

pytestmark = pytest.mark.usefixtures("blank_figures")

NO_RATE = [
    "objective=logistic",
    "steps=2",
    "pictures=[]",
    "optimizer.lr=auto",
    "optimizer.groups={*:{lr:0.1}}",
]


def test_a_start_that_comes_to_nothing_leaves_nothing(command: Command):
    outcome = command("descend", *NO_RATE, "hydra.run.dir=run")
    assert_refused(outcome, "optimizer.lr=auto has nothing to choose")
    assert command("descend", *NO_RATE[:3], "hydra.run.dir=run").status == 0


def test_a_start_that_comes_to_nothing_leaves_the_files_of_others(command: Command):
    Path("run").mkdir()
    Path("run", "notes.txt").write_text("a plan")
    assert command("descend", *NO_RATE, "hydra.run.dir=run").status == 2
    assert [path.name for path in Path("run").iterdir()] == ["notes.txt"]


def test_a_run_killed_while_its_options_are_noted_is_started_again(command: Command):
    line = ("descend", "steps=2", "pictures=[]", "hydra.run.dir=run")
    assert command(*line).status == 0
    (config,) = Path("run").glob(".hydra/config.yaml")
    half = config.read_text()[:300]
    shutil.rmtree("run")
    config.parent.mkdir(parents=True)
    config.write_text(half)
    assert command(*line).status == 0
    assert json.loads(Path("run", "summary.json").read_text())["steps"] == 2
    assert config.read_text().startswith(half)


def test_jobs_of_a_sweep_that_come_to_nothing_leave_nothing(command: Command):
    outcome = command("descend", "-m", "seed=1,2", *NO_RATE, "hydra.sweep.dir=sweep")
    assert outcome.status == 2
    assert not Path("sweep").exists()


FAILS = "+hydra.job.env_set.A=${oc.env:NO_SUCH_VARIABLE}"  # in Hydra, once it has made the job's directory


@pytest.mark.parametrize("subdir", ["${hydra.job.num}", "${hydra:job.num}_of_two", "${hydra:job.nowhere}"])
def test_a_sweep_in_which_hydra_fails_leaves_nothing_but_what_was_there(command: Command, subdir):
    line = ("descend", "-m", "seed=1,2", "steps=2", "pictures=[]", f"hydra.sweep.subdir={subdir}", FAILS)
    assert command(*line, "hydra.sweep.dir=new/sweep").status == 2
    assert not Path("new").exists()
    Path("old", "empty").mkdir(parents=True)
    assert command(*line, "hydra.sweep.dir=old").status == 2
    assert [path.name for path in Path("old").rglob("*")] == ["empty"]


def test_a_run_that_stands_where_hydra_fails_stays(command: Command):
    assert command("descend", "steps=2", "pictures=[]", "hydra.run.dir=sweep/0").status == 0
    before = {path: path.stat().st_size for path in Path("sweep").rglob("*") if path.is_file()}
    place = ("hydra.sweep.dir=sweep", "hydra.sweep.subdir=${hydra:job.num}")
    assert command("descend", "-m", "seed=1,2", "steps=2", "pictures=[]", *place, FAILS).status == 2
    after = {path for path in Path("sweep").rglob("*") if path.is_file()}
    assert after >= before.keys()


class StopsAtImport:
    """Ctrl-C when a module is first looked for."""

    def __init__(self, module):
        self.module = module

    def find_spec(self, name, *_):
        if name == self.module:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("module", ["core.cli.launch", "hydra", "omegaconf.basecontainer", "torch"])
def test_ctrl_c_while_the_libraries_are_imported_is_silent(module, tmp_path):
    source = "\n".join(
        [
            "import os, signal, sys",
            inspect.getsource(StopsAtImport),
            f"sys.meta_path.insert(0, StopsAtImport({module!r}))",
            "from core.scripts.descend import main",
            "main()",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", source, "hydra.run.dir=run"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert list(tmp_path.iterdir()) == []


BOWL = """
from dataclasses import dataclass

@dataclass(frozen=True, kw_only=True)
class Bowl:
    dim = 2
    start = (1.0, 0.0)
    domain = ((-2.0, 2.0), (-2.0, 2.0))
    critical_points = ()

    def __call__(self, x):
        return x.square().sum(-1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("called", ["as a script", "as an installed command"])
def test_the_folder_of_the_command_is_importable_behind_all_that_is_installed(tmp_path, called):
    here, script = tmp_path / "here", ROOT / "scripts" / "descend.py"
    here.mkdir()
    (here / "my_bowl.py").write_text(BOWL)
    (here / "torch.py").write_text("raise RuntimeError('this is not torch')")
    if called == "as an installed command":
        script = tmp_path / "bin" / "descend"
        script.parent.mkdir()
        script.write_text("from core.scripts.descend import main\nmain()\n")
    words = ["function._target_=my_bowl.Bowl", "steps=0", "hydra.run.dir=run"]
    outcome = subprocess.run(
        [sys.executable, script, *words],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert json.loads((here / "run" / "summary.json").read_text())["value"] == 1.0
