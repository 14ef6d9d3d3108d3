"""Hooks that never end the training that they are hooked into."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Hook = Callable[..., Any]


class Guard:
    """Makes hooks of functions: one fault in any of them, and all of them rest for good.

    Args:
        say: prints a line; it is told what the fault was.

    Attributes:
        off: whether they rest.
        fault: what it was, in one line; empty where there was none.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.off = False
        self.fault = ""
        self._say = say
        self._busy = False

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Hear nothing of what the Watch computes when it is asked to."""
        before, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = before

    def __call__(self, work: Hook) -> Hook:
        """A hook that does the work, and hears nothing of what other such work computes meanwhile."""

        def hook(*args: Any) -> Any:
            if self.off or self._busy:
                return None
            self._busy = True
            try:
                return work(*args)
            except Exception as error:
                self.off = True
                self.fault = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                self._say(f"the training goes on, and is not watched any longer: {self.fault}")
                return None
            finally:
                self._busy = False

        return hook
