"""The way that a descent has come: rows of numbers, thinned as they become many."""

from collections.abc import Sequence

import torch
from torch import Tensor

from core.state import StateDict

KEPT = 2048  # rows; a longer track keeps every second, then every fourth, ...


class Track:
    """Rows in order, every `stride`-th of those that were added.

    Args:
        first: the row before any was added, [k].
    """

    def __init__(self, first: Tensor) -> None:
        self.stride = 1
        self._rows = [first]
        self._seen = 0
        self._last = first

    def add(self, row: Tensor) -> None:
        """Append a row [k], which nobody may write into any more."""
        self._seen += 1
        self._last = row
        if self._seen % self.stride == 0:
            self._rows.append(row)
            if len(self._rows) > KEPT:
                self._rows = self._rows[::2]
                self.stride *= 2

    def rows(self) -> tuple[list[int], Tensor]:
        """Which rows are kept (0 = the first) and the rows [T, k] on the CPU, the last always among them."""
        numbers = [i * self.stride for i in range(len(self._rows))]
        rows = list(self._rows)
        if numbers[-1] < self._seen:
            numbers, rows = [*numbers, self._seen], [*rows, self._last]
        return numbers, torch.stack(rows).cpu()

    def state_dict(self) -> StateDict:
        """The rows, and how they were thinned."""
        return {
            "rows": torch.stack(self._rows),
            "last": self._last,
            "stride": self.stride,
            "seen": self._seen,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        device = self._last.device
        self._rows, self._last = list(state["rows"].to(device)), state["last"].to(device)
        self.stride, self._seen = state["stride"], state["seen"]


def point(values: Sequence[float], shown: int = 6) -> str:
    """A point or a spectrum in words, the middle left out when it is long."""
    words = [f"{value:.6g}" for value in values]
    if len(words) > shown:
        words = [*words[: shown // 2], f"... {len(words) - shown} more ...", *words[-shown // 2 :]]
    return f"({', '.join(words)})"
