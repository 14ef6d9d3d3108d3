"""Where a descent has been, as pictures show it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor


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


def point(values: Sequence[float], shown: int = 6) -> str:
    """A point or a spectrum as text, without its middle where it is long."""
    texts = [f"{value:.6g}" for value in values]
    if len(texts) > shown:
        texts = [*texts[: shown // 2], f"... {len(texts) - shown} more ...", *texts[-shown // 2 :]]
    return f"({', '.join(texts)})"
