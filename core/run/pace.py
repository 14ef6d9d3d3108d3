"""How long something still takes, and how often a log file is told so."""

import time

from core.numbers import seconds

QUIET_S = 10.0  # between two lines: a log file stays readable


class Pace:
    """The clock of something that counts up to a total.

    Args:
        done: what has been reached when the clock starts; None = the first count that it is shown.
    """

    def __init__(self, done: float | None = 0.0) -> None:
        self._began = self._told = time.monotonic()
        self._first = done

    def due(self) -> bool:
        """Whether the last line was long enough ago; the clock of lines starts again if so."""
        now = time.monotonic()
        if now - self._told < QUIET_S:
            return False
        self._told = now
        return True

    def left(self, done: float, total: float) -> str:
        """The time until `total` is reached at the mean pace so far, as `3 min left`; empty while unknown."""
        now = time.monotonic()
        if self._first is None:
            self._began, self._first = now, done
        if done <= self._first or done >= total:
            return ""
        return f"{seconds((now - self._began) * (total - done) / (done - self._first))} left"
