"""What is recorded along a training and must not grow without end."""

import torch
from torch import Tensor

from core.form import Number, Rows
from core.state import StateDict

KEPT = 2048


class History:
    """Rows in order, every `stride`-th of those that were added.

    Args:
        first: the row before any was added, [k].
        kept: rows at most, KEPT without a number; a longer history keeps every second, then every fourth, ...
    """

    def __init__(self, first: Tensor, kept: int | None = None) -> None:
        self.kept = kept or KEPT
        self.stride = 1
        self._rows = [first]
        self._seen = 0
        self._last = first

    def add(self, row: Tensor) -> None:
        """Append a row [k], which must not be written into afterwards."""
        self._seen += 1
        self._last = row
        if self._seen % self.stride == 0:
            self._rows.append(row)
            if len(self._rows) > self.kept:
                self._rows = self._rows[::2]
                self.stride *= 2

    def rows(self) -> tuple[list[int], Tensor]:
        """The numbers of the kept rows (0 = the first) and of the last, and these rows, [T, k] on the CPU."""
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

    def state_form(self) -> StateDict:
        """Any number of rows."""
        rows, stride = Rows(torch.stack(self._rows)), Number(1, whole=True)
        return {"rows": rows, "last": self._last, "stride": stride, "seen": 0}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        device = self._last.device
        self._rows, self._last = list(state["rows"].to(device)), state["last"].to(device)
        self.stride, self._seen = state["stride"], state["seen"]
