"""Schedules: how far a quantity has come, as a multiplier of its initial value.

Each is a frozen dataclass called with the progress of the run in [0, 1]; it is 1 at the beginning. Pure
functions of progress need no state: a resumed run continues the same curve.
"""

import math
from dataclasses import dataclass
from typing import Protocol

from core.checks import require


class Schedule(Protocol):
    """Multiplier at a given progress in [0, 1] (clamped)."""

    def __call__(self, progress: float) -> float:
        """The multiplier."""
        ...


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Always 1."""

    def __call__(self, progress: float) -> float:
        """1 at any progress."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A straight line from 1 to `final`.

    Attributes:
        final: multiplier at the end; in [0, 1].
    """

    final: float

    def __post_init__(self) -> None:
        require(0 <= self.final <= 1, "final", self.final, "in [0, 1]")

    def __call__(self, progress: float) -> float:
        """1 + progress (final - 1)."""
        return 1.0 + _clamp(progress) * (self.final - 1.0)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Half a cosine from 1 to `final`: flat at both ends.

    Attributes:
        final: multiplier at the end; in [0, 1].

    Source: Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5, without restarts.
    """

    final: float

    def __post_init__(self) -> None:
        require(0 <= self.final <= 1, "final", self.final, "in [0, 1]")

    def __call__(self, progress: float) -> float:
        """The multiplier final + (1 - final) (1 + cos(pi progress)) / 2."""
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * _clamp(progress)))


def _clamp(progress: float) -> float:
    return min(max(progress, 0.0), 1.0)
