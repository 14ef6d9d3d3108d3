"""Where a descent has been: the rows that it records on the way, and the trajectory that pictures show."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from core.form import Number, Rows
from core.state import StateDict

KEPT = 2048  # rows; a longer history keeps every second, then every fourth, ...


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """The path of one descent and what was measured on it.

    Attributes:
        name: of the descent.
        ended: the kind of its last point.
        steps: optimizer steps at which the numbers below were measured, ascending.
        value: of the function, or the loss over all training samples.
        gradient_norm: of the exact gradient.
        path: points [T, 2], one for each of `path_steps`, where there are two parameters.
        path_steps: optimizer steps after which the points of `path` were reached.
        more: other numbers by name, one for each of `steps`: `samples` seen, `seconds`, `accuracy`,
            `held_out_value`, `held_out_accuracy`, `gradient_cosine` with the full gradient, `noise_scale`.
    """

    name: str
    ended: str
    steps: list[int]
    value: list[float]
    gradient_norm: list[float]
    path: Tensor | None = None
    path_steps: list[int] = field(default_factory=list)
    more: dict[str, list[float]] = field(default_factory=dict)

    def column(self, name: str) -> Sequence[float]:
        """The numbers of one name."""
        return self.more[name] if name in self.more else getattr(self, name)


class History:
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
        """Append a row [k], which must not be written into afterwards."""
        self._seen += 1
        self._last = row
        if self._seen % self.stride == 0:
            self._rows.append(row)
            if len(self._rows) > KEPT:
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


def point(values: Sequence[float], shown: int = 6) -> str:
    """A point or a spectrum as text, without its middle where it is long."""
    texts = [f"{value:.6g}" for value in values]
    if len(texts) > shown:
        texts = [*texts[: shown // 2], f"... {len(texts) - shown} more ...", *texts[-shown // 2 :]]
    return f"({', '.join(texts)})"
