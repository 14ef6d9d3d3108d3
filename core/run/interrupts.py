"""SIGINT and SIGTERM: the first one stops the run at the end of an iteration, a second one at once."""

import signal
from collections.abc import Callable

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):  # noqa: N818  (an order, not an error)
    """A signal asked the run to end; everything is saved.

    Attributes:
        status: the exit status, 128 plus the signal's number.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"stopped, exit status {status}")
        self.status = status


class Interrupts:
    """Catches the signals between `listen` and `leave`.

    Attributes:
        caught: number of the first signal; None while there was none.
        answer: called when the first signal comes.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self.answer: Callable[[], object] = lambda: None

    def listen(self) -> None:
        """Take over the signals."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def leave(self) -> None:
        """Give the signals back to Python and the system."""
        for number in SIGNALS:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def _on_signal(self, number: int, frame: object) -> None:
        if self.caught is not None:
            raise KeyboardInterrupt
        self.caught = number
        self.answer()
