"""What a measurement or a diagnosis has to know of parameters that are trained, whoever takes the steps."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from core.gradients.measure.monitor import Monitor


class Measured(Protocol):
    """Named parameters, the optimizer that moves them, and their monitor; a `GradientStep` is one."""

    @property
    def name(self) -> str:
        """Empty where there is only one."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Of the parameters."""
        ...

    @property
    def parameters(self) -> list[Tensor]:
        """Those that are trained."""
        ...

    @property
    def frozen(self) -> Sequence[str]:
        """Names of those that require no gradient."""
        ...

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """What moves them."""
        ...

    @property
    def base_lrs(self) -> Sequence[float]:
        """The learning rates of the optimizer's groups before any schedule."""
        ...

    @property
    def precision(self) -> str:
        """In which the loss is computed: "float32", "bfloat16" or "float16"."""
        ...

    @property
    def monitor(self) -> Monitor:
        """What is measured of every step."""
        ...

    @property
    def batch(self) -> int | None:
        """Samples behind the last gradient; None = unknown."""
        ...
