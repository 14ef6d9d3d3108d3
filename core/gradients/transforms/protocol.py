"""What stands between backward and the optimizer: the two protocols that transforms follow."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from core.gradients.measure.view import GradientView
from core.state import StateDict


class Transform(Protocol):
    """Changes the gradients of one step in place, without reading a number back from an accelerator.

    A transform is a frozen dataclass of options. What it must remember from step to step lives in `memory`,
    which its `GradientStep` keeps, saves and restores: empty at the first step, tensors and numbers after.
    """

    def __call__(self, gradients: GradientView, memory: StateDict) -> None:
        """Transform `gradients.values`."""
        ...


@runtime_checkable
class Combine(Protocol):
    """Makes one gradient of several losses' (gradient surgery)."""

    def combine(self, gradients: Mapping[str, list[Tensor]], memory: StateDict) -> list[Tensor]:
        """The combined gradient, one tensor per parameter.

        Args:
            gradients: by loss name, aligned lists; a parameter that a loss does not reach has zeros.
            memory: as for a `Transform`.
        """
        ...
