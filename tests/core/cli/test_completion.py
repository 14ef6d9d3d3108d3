"""A shell completes options, choices, values and runs of its command, and nothing of another one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.cli.choices import YamlFile
from core.cli.completion import candidates
from core.config import config_dir
from tests.conftest import Command

FOLDERS = [config_dir()]
RESUMED = ("last", "runs/gan/new", "runs/rl/old", "photos/", "runs/")


def completed(command: str, line: str) -> list[str]:
    return candidates(YamlFile(config_dir() / f"{command}.yaml"), line, FOLDERS)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with two runs, the newer one below runs/gan/."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("runs/rl/old", "runs/gan/new")):
        config = Path(name, "config.yaml")
        config.parent.mkdir(parents=True)
        config.write_text("_target_: x.Y\n")
        os.utime(config, (number, number))
    Path("photos").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("command", "line", "words"),
    [
        ("rl", "gradrl age", ["agent=", "agent."]),
        ("rl", "gradrl agent=ppo_r", ["agent=ppo_recurrent", "agent=ppo_rnd"]),
        ("rl", "gradrl agent=sac agent.te", ["agent.temperature="]),
        ("rl", "gradrl agent=no_such agent.clip_c", ["agent.clip_coef="]),
        ("rl", "gradrl seed=1 experiment=rl/trpo_c", ["experiment=rl/trpo_cartpole"]),
        ("rl", "gradrl normalize_reward=", ["normalize_reward=true", "normalize_reward=false"]),
        ("rl", "gradrl on_finding=r", ["on_finding=report", "on_finding=rollback"]),
        ("rl", "gradrl num_envs=", ["num_envs=8"]),
        ("rl", "gradrl resume=", [f"resume={each}" for each in RESUMED]),
        ("rl", "gradrl function=", []),
        ("rl", "gradrl nonsense.of=", []),
        ("gan", "gradgan data=folder data.root=ph", ["data.root=photos/"]),
        ("gan", "gradgan loss=w", ["loss=wasserstein"]),
        ("descend", "python scripts/descend.py batch=mini", ["batch=minibatch"]),
        ("report", "gradsight-report r", ["runs/gan/new", "runs/rl/old", "run="]),
        ("report", "gradsight-report las", ["last"]),
        ("export", "gradsight-export format=p", ["format=pt2"]),
        ("rl", "", None),
        ("rl", "gradrl 'unclosed ", None),
    ],
)  # fmt: skip
def test_a_line_is_completed_with_what_fits(here, command, line, words):
    found = completed(command, line)
    assert "seed=" in found if words is None else found == words


@pytest.mark.parametrize(("command", "foreign"), [("rl", "data="), ("gan", "agent="), ("report", "agent=")])
def test_nothing_of_another_command_is_offered(here, command, foreign):
    found = completed(command, "command ")
    assert foreign not in found
    assert not {"_target_=", "page=", "paths=", "run_paths.", "next.", "hydra."} & set(found)


def test_the_answer_is_on_one_line_for_bash_and_on_several_for_fish(command: Command, monkeypatch):
    monkeypatch.setenv("COMP_LINE", "gradgan penalty=r")
    assert command("gan", "-sc", "query=bash").out == "penalty=r1 penalty=r1_r2 penalty=r2\n"
    assert command("gan", "-sc", "query=fish").out == "penalty=r1\npenalty=r1_r2\npenalty=r2\n"


def installed(folder: Path) -> Path:
    """A command `gradrl` as an installer would write it."""
    path = folder / "gradrl"
    root = Path(__file__).resolve().parents[3]
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(root)!r})\n"
        "from core.scripts.train_rl import main\nmain()\n"
    )
    path.chmod(0o755)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_an_installed_command(here):
    script = (
        f'PATH={installed(here).parent}:$PATH; eval "$(gradrl -sc install=bash)"; complete -p gradrl;'
        'COMP_LINE="gradrl env=acr"; COMP_CWORD=1; COMP_POINT=${#COMP_LINE};'
        'hydra_bash_completion; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=here, check=False)
    assert done.stdout.splitlines() == [
        "complete -o default -o nospace -F hydra_bash_completion gradrl",
        "env=acrobot",
    ], done.stderr


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_takes_the_script_of_bash(here):
    script = (
        f"PATH={installed(here).parent}:$PATH; autoload -Uz compinit bashcompinit; compinit -u; bashcompinit;"
        'eval "$(gradrl -sc install=bash)"; print $_comps[gradrl]'
    )
    done = subprocess.run(["zsh", "-fc", script], capture_output=True, text=True, cwd=here, check=False)
    assert "hydra_bash_completion" in done.stdout, done.stderr


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_an_installed_command(here):
    script = "gradrl -sc install=fish | source; complete -C 'gradrl env=acr'"
    path = f"{installed(here).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["fish", "-c", script], capture_output=True, text=True, cwd=here, env=os.environ | {"PATH": path},
        check=False,
    )  # fmt: skip
    assert "env=acrobot" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("shell", "parts"),
    [
        ("bash", ["complete -o nospace", "-F hydra_bash_completion", "-sc query=bash"]),
        ("zsh", ["complete -o nospace", "-F hydra_bash_completion", "-sc query=bash"]),
        ("fish", ["complete -c", "(hydra_fish_completion)", "-sc query=fish"]),
    ],
)
def test_the_script_for_each_shell_asks_our_command(command: Command, shell, parts):
    outcome = command("rl", "-sc", f"install={shell}")
    assert outcome.status == 0
    for part in parts:
        assert part in outcome.out
