"""Short runs that are damaged, and a process of its own for every command that meets one."""

import contextlib
import importlib
import io
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import gradgan.train
import gradrl.train  # both here, and not again in every process
from core.cli.launch import status_of

PRELOADED = gradgan.train, gradrl.train
TINY = {
    "rl": ["agent=ppo", "env=cartpole", "num_envs=2", "agent.num_steps=16", "total_steps=64",
           "normalize_observation=true", "evaluation.episodes=1", "evaluation.interval_episodes=1"],
    "gan": ["data=ring", "total_images=512", "batch_size=64", "update=optimistic", "evaluation.samples=64"],
}  # fmt: skip
LENGTH = {"rl": "total_steps=96", "gan": "total_images=768"}
LIMIT_S = 60.0


def make(kind: str, folder: Path) -> Path:
    """A finished run, kept short."""
    directory = folder / kind
    words = [*TINY[kind], f"hydra.run.dir={directory}", "logging.progress=false"]
    ended = forked(lambda: status_of(kind, words), folder / "log")
    assert ended[0] == 0, ended
    return directory


def forked(work, log: Path) -> tuple[int | None, str]:
    """The status of what is done in a forked process, None where it took too long, and what it printed."""
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        status = 99
        with contextlib.suppress(BaseException):
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.stdout = sys.stderr = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), line_buffering=True)
            try:
                status = work()
            except BaseException:
                import traceback

                traceback.print_exc()
        os._exit(status)
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        done, code = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(code), log.read_text(errors="replace")
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None, log.read_text(errors="replace")


def typed(script: str, words: Sequence[str]) -> int:
    """The status of a command that is typed in this process."""
    sys.argv = [f"{script}.py", *words]
    try:
        importlib.import_module(f"core.scripts.{script}").main()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 0


def wrong(ended: tuple[int | None, str]) -> str | None:
    """Why an end is none that a damaged file may have: it hung, crashed, or left a traceback."""
    status, text = ended
    if status is None:
        return "hang"
    if status < 0 or status == 99:
        return f"crash ({status})"
    return "traceback" if "Traceback (most recent call last)" in text else None
