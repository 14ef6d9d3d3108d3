"""What a transform is: the two protocols that it may follow."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from core.gradients.norms import GradientView
from core.state import StateDict


class Transform(Protocol):
    """Changes the gradients of one step in place, without reading a number back from an accelerator.

    A transform is a frozen dataclass of options. What must be kept from step to step lives in `state`, which
    its `GradientStep` keeps, saves and restores: empty at the first step, tensors and numbers afterwards.
    """

    def __call__(self, gradients: GradientView, state: StateDict) -> None:
        """Transform `gradients.dense()` in place, then call `gradients.changed()`: norms are kept otherwise.

        Args:
            gradients: tensors in the shapes of their parameters, aligned with `gradients.names`.
            state: of this transform.
        """
        ...


@runtime_checkable
class Combine(Protocol):
    """Makes one gradient of several losses' (gradient surgery)."""

    def combine(self, gradients: Mapping[str, list[Tensor]], state: StateDict) -> list[Tensor]:
        """The combined gradient, one tensor per parameter.

        Args:
            gradients: by loss name, aligned lists; a parameter that a loss does not reach has zeros.
            state: as for a `Transform`.
        """
        ...
