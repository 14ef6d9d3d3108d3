"""Processes that die, hang when they close, or are slow: only the first two end, and within a limit."""

import faulthandler
import multiprocessing
import os
import signal
import subprocess
import time

import gymnasium as gym
import numpy as np
import pytest

from core.errors import ContractError
from gradrl.envs import processes
from gradrl.envs.make import EnvConfig, inspect_env, make_envs, try_env
from gradrl.evaluation.evaluator import EvaluationConfig, evaluate
from tests.gradrl.scripted import Scripted


class Mortal(gym.Env):
    """Does something in its `at`-th step, if it is in a process of its own."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, what, at=6):
        self.what, self.at, self.steps = what, at, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == self.at and multiprocessing.parent_process() is not None:
            if isinstance(self.what, signal.Signals):
                faulthandler.disable()  # pytest's, which would print where
                os.kill(os.getpid(), self.what)
            elif self.what == "exit":
                os._exit(7)
            elif self.what == "sleep":
                time.sleep(processes.CLOSE_S + 1)
            elif self.what == "raise":

                class LocalError(Exception):  # which no pipe can carry
                    pass

                raise LocalError("two", "arguments")
        return np.zeros(2, np.float32), 1.0, self.steps % 9 == 0, False, {}

    def close(self):
        if self.what == "hang":
            time.sleep(60)


gym.register("Mortal-v0", Mortal)


def config(what, **kwargs) -> EnvConfig:
    return EnvConfig(
        id="Mortal-v0", kwargs={"what": what, **kwargs}, import_module=None, wrappers=(), train_wrappers=(),
        vectorization="async", autoreset="same_step",
    )  # fmt: skip


def run(cfg: EnvConfig):
    options = EvaluationConfig(
        episodes=3, interval_episodes=1, num_envs=3, max_episode_steps=99, deterministic=True
    )
    act = Scripted(lambda obs: np.zeros(len(obs), np.int64))
    return evaluate(act, cfg, inspect_env(cfg), options, 3, 0)


@pytest.mark.parametrize(
    ("what", "ending"),
    [
        ("exit", "the process of environment 0 has ended with status 7"),
        (signal.SIGSEGV, "the process of environment 0 was ended by SIGSEGV"),
        (signal.SIGKILL, "the process of environment 0 was ended by SIGKILL, as when memory runs out"),
    ],
)
def test_a_process_that_dies_ends_what_waits_for_it(what, ending):
    began = time.monotonic()
    with pytest.raises(ContractError, match=f"^env.id=Mortal-v0: {ending}$"):
        run(config(what))
    with pytest.raises(ContractError, match=f"^env.id=Mortal-v0: {ending}$"):
        try_env(config(what, at=2), inspect_env(config(what)))
    assert time.monotonic() - began < 20
    assert not multiprocessing.active_children()


def test_one_process_of_several_that_dies_is_named_and_the_others_end():
    envs = make_envs(config("none"), 3)
    envs.reset(seed=[0, 1, 2])
    os.kill(envs.processes[1].pid, signal.SIGKILL)
    envs.processes[1].join()
    with pytest.raises(ContractError, match="the process of environment 1 was ended by SIGKILL"):
        envs.step(np.zeros(3, np.int64))
    began = time.monotonic()
    envs.close()
    assert time.monotonic() - began < processes.CLOSE_S
    assert [process.exitcode for process in envs.processes] == [0, -signal.SIGKILL, 0]


def test_an_error_that_no_pipe_can_carry_ends_in_its_line():
    with pytest.raises(
        ContractError, match=r"step\(\) raised LocalError: \('two', 'arguments'\) \(.*line \d+\)$"
    ):
        run(config("raise"))


def test_a_slow_step_is_no_death(monkeypatch):
    monkeypatch.setattr(processes, "CLOSE_S", 0.5)  # and a second more is a step's time
    assert run(config("sleep")).lengths.tolist() == [9, 9, 9]


def test_a_copy_that_does_not_close_is_killed_after_a_limit_that_is_said(monkeypatch):
    monkeypatch.setattr(processes, "CLOSE_S", 0.3)
    envs = processes.Processes(
        lambda: Mortal("hang") if multiprocessing.parent_process() else Mortal("none"), 2,
        gym.vector.AutoresetMode.SAME_STEP, "env.id=Mortal-v0",
    )  # fmt: skip
    envs.reset(seed=[0, 1])
    began = time.monotonic()
    with pytest.warns(RuntimeWarning, match=r"^env.id=Mortal-v0: environment \d did not close within 0.3 s"):
        envs.close()
    assert time.monotonic() - began < 5


def test_a_copy_that_cannot_be_made_a_second_time_is_named(capfd):
    def make():
        if multiprocessing.parent_process() is not None:
            raise ContractError("the port is taken")
        return Mortal("none")

    with pytest.raises(
        ContractError, match=r"^env.id=X: the process of environment 0 has ended with status 1$"
    ):
        processes.Processes(make, 2, gym.vector.AutoresetMode.SAME_STEP, "env.id=X")
    assert set(capfd.readouterr().err.splitlines()) == {"error: the port is taken"}
    assert not multiprocessing.active_children()


def test_a_signal_to_all_processes_is_answered_by_the_parent_alone():
    envs = make_envs(config("none"), 2)
    envs.reset(seed=[0, 1])
    for process in envs.processes:
        os.kill(process.pid, signal.SIGINT)  # what Ctrl-C in a terminal does
    assert envs.step(np.zeros(2, np.int64))[1].tolist() == [1.0, 1.0]
    envs.close()


@pytest.mark.parametrize("busy", [False, True], ids=["waiting", "in the middle of a step"])
def test_copies_end_without_a_word_where_their_run_is_killed(capfd, busy, monkeypatch):
    monkeypatch.setattr(processes, "CLOSE_S", 0.5)

    def run():
        envs = make_envs(config("sleep" if busy else "none", at=1), 2)
        envs.reset(seed=[0, 1])
        pids.put([process.pid for process in envs.processes])
        pids.close()
        pids.join_thread()
        if busy:
            envs.step_async(np.zeros(2, np.int64))
        os.kill(os.getpid(), signal.SIGKILL)

    fork = multiprocessing.get_context("fork")
    pids = fork.Queue()
    parent = fork.Process(target=run)
    parent.start()
    left, deadline = pids.get(timeout=60), time.monotonic() + processes.CLOSE_S + 30
    parent.join()
    assert parent.exitcode == -signal.SIGKILL
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if alive(pid)]
        time.sleep(0.02)
    assert left == []
    assert capfd.readouterr().err == ""


def alive(pid: int) -> bool:
    """Whether a process is there, and not only waits for somebody to ask how it ended."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip()[:1] not in ("", "Z")
