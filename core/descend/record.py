"""What pictures need of one descent."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Trace:
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
