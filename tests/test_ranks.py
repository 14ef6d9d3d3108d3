"""Commands under torchrun: one run directory, one voice; kills, and going on after them."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from core.cli.launch import status_of, status_of_tool
from core.run.directory import read_summary
from tests.test_resume import differences

ROOT = Path(__file__).parents[1]
PPO = (
    "train_rl.py", "agent=ppo", "env=pendulum", "num_envs=4", "agent.num_steps=32", "agent.num_minibatches=2",
    "evaluation.episodes=1", "evaluation.interval_episodes=1", "evaluation.num_envs=1",
    "evaluation.max_episode_steps=20", "logging.draw_interval=100000000",
    "logging.checkpoint_interval=256", "logging.eval_interval=512", "monitor.sample_interval=5",
)  # fmt: skip
GAN = (
    "train_gan.py", "data=ring", "batch_size=32", "evaluation.samples=64", "logging.draw_interval=100000000",
    "logging.eval_interval=512", "logging.checkpoint_interval=256",
)  # fmt: skip


def started(
    ranks: int, command: tuple[str, ...], *words: str, restarts: int = 0, audited: object = None
) -> subprocess.Popen:
    """torchrun with a command, in a process of its own; says which rank but the first writes in `audited`."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    torchrun += [f"--max-restarts={restarts}"] if restarts else []
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if audited is not None:
        env |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'audit'}", "AUDITED": str(audited)}
    line = [*torchrun, f"scripts/{command[0]}", *command[1:], *words]
    return subprocess.Popen(
        line, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended(process: subprocess.Popen) -> str:
    """What it has printed when it has ended."""
    return process.communicate(timeout=300)[0]


def workers(process: subprocess.Popen) -> list[int]:
    """The processes of its ranks, in order."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return sorted(int(each) for each in children.split())


def gone(pid: int) -> bool:
    """Whether a process has ended, or waits for nothing but to be noticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait(until, seconds: float) -> None:
    """Wait until something holds, so long at most."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("command", "length"), [(PPO, "total_steps=2048"), (GAN, "total_images=2048")])
def test_a_killed_rank_ends_the_others_and_the_run_goes_on_to_the_bit(tmp_path, command, length):
    whole = started(2, command, length, f"hydra.run.dir={tmp_path / 'whole'}", audited=tmp_path)
    said = ended(whole)
    assert whole.returncode == 0, said
    assert said.count("finished: ") == 1
    assert "rank 1 writes" not in said
    summary = read_summary(tmp_path / "whole")
    assert (summary["status"], summary["ranks"]) == ("finished", 2)
    assert len([*(tmp_path / "whole").glob("events.*")]) == 1

    killed = started(2, command, length, f"hydra.run.dir={tmp_path / 'killed'}")
    wait((tmp_path / "killed" / "checkpoints" / "last.pt").exists, 200)
    ranks = workers(killed)
    os.kill(ranks[1], signal.SIGKILL)
    wait(lambda: all(map(gone, ranks)), 60)
    lines = [line for line in ended(killed).splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: another rank has ended or does not answer; not saved at ")
    assert f"continue with resume={tmp_path / 'killed'}" in lines[0]

    again = started(2, command[:1], f"resume={tmp_path / 'killed'}", restarts=2, audited=tmp_path)
    for victim in (0, 1):
        before = saved_at(tmp_path / "killed")
        wait(lambda before=before: saved_at(tmp_path / "killed") > before, 200)
        os.kill(workers(again)[victim], signal.SIGKILL)
    said = ended(again)
    assert again.returncode == 0, said
    assert said.count("resumed at ") == 3
    assert "rank 1 writes" not in said
    assert differences(tmp_path / "whole", tmp_path / "killed") == []

    alone = subprocess.run(
        [sys.executable, f"scripts/{command[0]}", f"resume={tmp_path / 'killed'}", longer(length)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    assert "saved by 2 ranks: 1 continue it, but not to the bit" in alone.stdout


def saved_at(directory: Path) -> int:
    """When its checkpoint was written."""
    return (directory / "checkpoints" / "last.pt").stat().st_mtime_ns


def longer(length: str) -> str:
    """A longer run."""
    name, _, value = length.partition("=")
    return f"{name}={2 * int(value)}"


@pytest.mark.slow
def test_ranks_whose_torchrun_was_killed_save_and_end(tmp_path):
    process = started(2, PPO, "total_steps=10000000", f"hydra.run.dir={tmp_path / 'run'}")
    wait((tmp_path / "run" / "checkpoints" / "last.pt").exists, 200)
    ranks = workers(process)
    process.kill()
    wait(lambda: all(map(gone, ranks)), 60)
    assert "stopped at " in ended(process)
    summary = read_summary(tmp_path / "run")
    assert summary["status"] == "stopped"
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.pt")["run"]["step"] == summary["env_steps"]


@pytest.mark.slow
def test_a_mistake_is_said_once_and_nothing_is_made(tmp_path):
    process = started(2, PPO, "num_envs=3", f"hydra.run.dir={tmp_path / 'run'}")
    said = ended(process)
    assert [line for line in said.splitlines() if line.startswith("error: ")] == [
        "error: num_envs must be a multiple of 2 for 2 ranks, got 3"
    ]
    assert "exitcode  : 2" in said
    assert not (tmp_path / "run").exists()


def test_ranks_without_their_numbers_are_refused(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert status_of("rl", ["env=cartpole"]) == 2
    line = "error: WORLD_SIZE is > 1, but not RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT: start several "
    assert capsys.readouterr().err.startswith(line)


@pytest.mark.parametrize(
    ("nodes", "words", "line"),
    [
        (
            1,
            ["env=cartpole"],
            "error: --max-restarts=3 would begin this run again: leave it out, or type resume=",
        ),
        (
            2,
            ["resume=run"],
            "error: --max-restarts=3 is for one node; start the command again with resume=DIR",
        ),
    ],
)
def test_restarts_that_would_not_go_on_are_refused(monkeypatch, capsys, nodes, words, line):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    monkeypatch.setenv("GROUP_WORLD_SIZE", str(nodes))
    assert status_of("rl", words) == 2
    assert capsys.readouterr().err.startswith(line)


@pytest.mark.parametrize(
    ("rank", "code"), [("0", "error: torchrun has ended before its ranks had started"), ("1", 1)]
)
def test_ranks_whose_torchrun_died_before_they_had_started_end_with_one_line(monkeypatch, rank, code):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RUN_ID": "run",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("core.cli.ranked.end_with", lambda parent: None)
    with pytest.raises(SystemExit) as ended:
        status_of("rl", ["env=cartpole"])
    assert ended.value.code == code


def test_what_takes_one_process_is_refused_under_torchrun(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert status_of_tool("evaluate", ["run=nowhere"], print) == 2
    line = "error: this command works in one process; start it without torchrun (WORLD_SIZE is 2)\n"
    assert capsys.readouterr().err == line
