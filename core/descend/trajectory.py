"""Where a descent has been: the rows that it records on the way, and the trajectory that pictures show."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from core.state import StateDict

KEPT = 2048  # rows; a longer history keeps every second, then every fourth, ...


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """The way of one descent.

    Attributes:
        name: what descended.
        ended: what kind of point it has come to, in a word or two.
        steps: optimizer steps at which the numbers below were measured, ascending.
        value: of the function, or the loss over all training samples.
        gradient_norm: of the exact gradient.
        path: points [T, 2] where there are two parameters, after `path_steps`.
        path_steps: see `path`.
        more: other numbers by name, as many as `steps`: `samples` seen, `seconds`, `accuracy`,
            `held_out_value`, `held_out_accuracy`, `cosine` with the full gradient, `noise_scale`.
    """

    name: str
    ended: str
    steps: list[int]
    value: list[float]
    gradient_norm: list[float]
    path: Tensor | None = None
    path_steps: list[int] = field(default_factory=list)
    more: dict[str, list[float]] = field(default_factory=dict)


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
