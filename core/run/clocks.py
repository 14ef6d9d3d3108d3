"""How long a run has taken: wall time beside CPU time, which other work on the machine does not lengthen."""

import time
from collections.abc import Mapping


class Clocks:
    """Seconds since a run began, over all its resumptions.

    CPU time is that of all threads of this process; what other processes have used, ranks and workers, is
    not in it.
    """

    def __init__(self) -> None:
        self._before: Mapping[str, float] = dict.fromkeys(_now(), 0.0)
        self._began = _now()

    def seconds(self) -> dict[str, float]:
        """As entries of a summary: `wall_s` and `cpu_s`."""
        return {name: self._before[name] + now - self._began[name] for name, now in _now().items()}

    def continue_from(self, seconds: Mapping[str, float]) -> None:
        """Add what had been used before.

        Args:
            seconds: has the entries of `seconds()`, and may have others.
        """
        self._before = {name: seconds[name] for name in self._began}


def _now() -> dict[str, float]:
    return {"wall_s": time.perf_counter(), "cpu_s": time.process_time()}
