"""The wheel holds everything, puts nothing where other distributions do, and works from any directory."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    "train_rl": ["experiment=none", "total_steps=64", "num_envs=2", "agent.num_steps=32",
                 "agent.num_minibatches=2", "evaluation.episodes=2", "evaluation.interval_episodes=2",
                 "evaluation.num_envs=2", "evaluation.max_episode_steps=20"],
    "train_gan": ["data=ring", "total_images=256", "batch_size=64", "network.width=8", "network.depth=1",
                  "evaluation.samples=50"],
}  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of what is, or would be, committed: the checkout gets no build folders."""
    folder = tmp_path_factory.mktemp("wheel")
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run(
        [*command, str(folder / "source")], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The wheel alone in a folder; everything it depends on comes from the development environment."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    flags = ["--disable-pip-version-check", "--target", str(folder)]
    done = subprocess.run([*pip, *flags, str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def call(installed: Path, here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python from the directory `here`, with the wheel's packages before those of the environment."""
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=here, env=environment, check=False)


def test_the_wheel_holds_every_file_of_the_packages_and_no_other_top_level_name(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {
        "core",
        "gradrl",
        "gradgan",
    }
    homes = {"core": "core", "gradrl": "gradrl", "gradgan": "gradgan", "conf": "core/conf",
             "scripts": "core/scripts"}  # fmt: skip
    expected = {
        f"{home}/{path.relative_to(ROOT / package).as_posix()}"
        for package, home in homes.items()
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected - names == set()
    assert "core/conf/rl.yaml" in expected


def test_the_wheel_has_a_command_for_every_script(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        lines = archive.read(entry).decode().splitlines()
    targets = {line.partition(" = ")[2] for line in lines if " = " in line}
    scripts = [path.stem for path in (ROOT / "scripts").glob("*.py") if path.stem != "__init__"]
    assert targets == {f"core.scripts.{name}:main" for name in scripts}
    assert {line.partition(" = ")[0] for line in lines} >= {"gradrl", "gradgan"}


@pytest.mark.parametrize("script", sorted(TINY))
def test_the_installed_wheel_trains_from_an_empty_directory(installed, tmp_path, script):
    done = call(installed, tmp_path, "-m", f"core.scripts.{script}", *TINY[script], "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "finished"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_runs_is_the_wheels_copy_and_it_answers_help(installed, tmp_path):
    code = (
        "import core.cli.launch as launch, core.scripts.train_rl, sys\n"
        "files = core.__file__, launch.__file__, core.scripts.train_rl.__file__, launch.config_dir()\n"
        "print(*files, sep='\\n')\n"
        "sys.argv = ['train_rl', '--help']\n"
        "core.scripts.train_rl.main()\n"
    )
    done = call(installed, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    places, shown = done.stdout.splitlines()[:4], done.stdout.splitlines()[4:]
    assert all(Path(place).is_relative_to(installed) for place in places), places
    assert any(line.startswith("total_steps:") for line in shown)
    assert list(tmp_path.iterdir()) == []
