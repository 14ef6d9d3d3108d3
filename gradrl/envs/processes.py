"""Copies that step each in a process of its own, which may die: out of memory, a segmentation fault."""

import multiprocessing
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, cast

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import _async_worker

from core.errors import ContractError

CLOSE_S = 5.0  # for all copies to close their environments; a copy may be in the middle of a step


class Processes(AsyncVectorEnv):
    """Gymnasium's own, but a process that dies ends the call that waits for it.

    A step may take as long as it likes: what is watched is whether the process lives, not a clock. Only what
    ends is given a limit, CLOSE_S.

    Args:
        make: makes one copy, in its process.
        num_envs: how many.
        autoreset_mode: when copies reset after an episode.
        name: of the environment, for messages.

    Raises:
        ContractError: from here on, from any call: a process has died, or its environment broke its contract.
    """

    def __init__(
        self, make: Callable[[], gym.Env], num_envs: int, autoreset_mode: AutoresetMode, name: str
    ) -> None:
        self.name = name
        try:
            with self._alive():
                super().__init__([_InProcess(make)] * num_envs, autoreset_mode=autoreset_mode, worker=_work)
        except ContractError:
            self.close(terminate=True)
            raise

    def reset(self, **kwargs: Any) -> Any:
        """As Gymnasium's."""
        with self._alive():
            return super().reset(**kwargs)

    def step(self, actions: Any) -> Any:
        """As Gymnasium's."""
        with self._alive():
            return super().step(actions)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """As Gymnasium's."""
        with self._alive():
            return super().call(name, *args, **kwargs)

    def set_attr(self, name: str, values: Any) -> None:
        """As Gymnasium's."""
        with self._alive():
            super().set_attr(name, values)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Ask every process to close its environment and to end; who has not after CLOSE_S is killed.

        Args:
            timeout: seconds instead of CLOSE_S.
            terminate: kill at once.
        """
        for pipe in self.parent_pipes:
            with suppress(OSError, AttributeError):  # dead, or its pipe is closed already (None)
                pipe.send(("close", None))
        limit = 0.0 if terminate else CLOSE_S if timeout is None else timeout
        deadline = time.monotonic() + limit
        for number, process in enumerate(self.processes):
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
                if not terminate:
                    said = (
                        f"{self.name}: environment {number} did not close within {limit:g} s and was killed"
                    )
                    warnings.warn(said, RuntimeWarning, stacklevel=2)
        for pipe in self.parent_pipes:
            if pipe is not None:
                pipe.close()

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """Turn what a pipe says when its other end is dead into the reason of that death."""
        try:
            yield
        except (EOFError, ConnectionError) as error:
            raise ContractError(self._obituary()) from error

    def _obituary(self) -> str:
        for number, process in enumerate(self.processes):
            process.join(1.0)  # its pipe may close a moment before it ends
            if process.exitcode is not None:
                return f"{self.name}: the process of environment {number} {_ending(process.exitcode)}"
        return f"{self.name}: the process of an environment no longer answers"

    def _raise_if_errors(self, successes: Iterable[bool]) -> None:
        """Raise what the first process that failed has said, without the traceback that Gymnasium logs."""
        if not all(successes):
            _, _, message, _ = self.error_queue.get(timeout=CLOSE_S)
            raise ContractError(str(message))


def _work(index: int, make: Callable[[], gym.Env], pipe: Connection, *others: Any) -> None:
    """What Gymnasium's copies do, and an end without a word where the run has died."""
    _async_worker(index, make, cast(Connection, _Pipe(pipe)), *others)


class _Pipe:
    """The end of a copy's pipe; where nobody is at the other one, the copy ends."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def recv(self) -> Any:
        """What the run asks for."""
        with self._orphaned():
            return self._pipe.recv()

    def send(self, answer: Any) -> None:
        """Give it."""
        with self._orphaned():
            self._pipe.send(answer)

    @contextmanager
    def _orphaned(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError):
            raise SystemExit from None


class _InProcess:
    """Makes a copy in a process that leaves signals to its parent.

    A Ctrl-C reaches all processes of a terminal; the run answers it at the end of an iteration, for which its
    copies must live. What the parent does at a SIGTERM was inherited, and would keep a copy from ending.
    """

    def __init__(self, make: Callable[[], gym.Env]) -> None:
        self.make = make

    def __call__(self) -> gym.Env:
        if multiprocessing.parent_process() is None:
            return self.make()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            return self.make()
        except ContractError as error:
            raise SystemExit(f"error: {error}") from None  # the line, and no traceback


def _ending(exitcode: int) -> str:
    if exitcode >= 0:
        return f"has ended with status {exitcode}"
    name = signal.Signals(-exitcode).name
    return f"was ended by {name}" + (", as when memory runs out" if name == "SIGKILL" else "")
