"""What a transform is: what it sees of a step, and the two protocols that it may follow."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from core.gradients.norms import layer_norms
from core.state import StateDict


class GradientView:
    """The gradients of one step, to read and to change in place.

    Norms are computed once and follow a scaling without another pass over the gradients, so clipping
    and monitoring share one pass.

    Attributes:
        names: the parameters' names, one per gradient.
        parameters: the parameters, in the same order.
        values: their gradients, never None, in the same order; transforms write into them.
        index: position of each among all parameters of the step; None where no gradient is missing.
    """

    def __init__(
        self,
        names: Sequence[str],
        parameters: Sequence[Tensor],
        values: Sequence[Tensor],
        index: list[int] | None = None,
    ) -> None:
        self.names = names
        self.parameters = parameters
        self.values = values
        self.index = index
        self._norms: Tensor | None = None
        self._norm: Tensor | None = None

    @classmethod
    def of(cls, names: Sequence[str], parameters: Sequence[Tensor]) -> "GradientView":
        """The gradients that are in `.grad`; sparse ones are coalesced there.

        Raises:
            ValueError: there is none.
        """
        values = [p.grad for p in parameters if p.grad is not None]
        if not values:
            raise ValueError(
                "no parameter of this GradientStep has a gradient; is the loss detached from it?"
            )
        if any(v.is_sparse for v in values):
            # Coalesced once, so that a transform writes into the values and not into a copy of them.
            values = [v.coalesce() if v.is_sparse else v for v in values]
            for p, v in zip((p for p in parameters if p.grad is not None), values, strict=True):
                p.grad = v
        if len(values) == len(parameters):
            return cls(names, parameters, values)
        index = [i for i, p in enumerate(parameters) if p.grad is not None]
        return cls([names[i] for i in index], [parameters[i] for i in index], values, index)

    @property
    def norms(self) -> Tensor:
        """Norm of each gradient as it now is, [L]."""
        if self._norms is None:
            self._norms = layer_norms(self.values)
        return self._norms

    @property
    def norm(self) -> Tensor:
        """Norm of all gradients taken as one vector, 0-d."""
        norm = self._norm
        if norm is None:
            norm = self._norm = torch.linalg.vector_norm(self.norms)
        return norm

    def shrink_(self, factor: Tensor) -> None:
        """Multiply every gradient by min(1, factor), a 0-d tensor.

        On the CPU, where reading a number costs nothing, a factor of at least 1 (or NaN, in a step that will
        be skipped) touches no gradient. On an accelerator the gradients are always multiplied: reading the
        factor would make the host wait.
        """
        if factor.device.type != "cpu":
            factor = factor.clamp(max=1.0)
        elif not factor.item() < 1.0:
            return
        values, norms, norm = self.dense(), self.norms, self.norm
        # In the gradients' own dtype the factor is not converted once per gradient: a quarter of the time.
        alike = all(value.dtype == values[0].dtype for value in values)
        torch._foreach_mul_(values, factor.to(values[0].dtype) if alike else factor)
        self._norms, self._norm = norms * factor, norm * factor

    def shrink_each_(self, factors: Tensor) -> None:
        """Multiply gradient l by min(1, factors[l]): `shrink_` with a factor for each gradient.

        Args:
            factors: [L], in the dtype and on the device of `norms`.
        """
        values, norms, limited = self.dense(), self.norms, factors.clamp(max=1.0)
        if factors.device.type == "cpu":
            smaller = [(value, f) for value, f in zip(values, factors.tolist(), strict=True) if f < 1.0]
            if not smaller:
                return
            torch._foreach_mul_([value for value, _ in smaller], [f for _, f in smaller])
        else:
            torch._foreach_mul_(values, list(limited.unbind()))
        self._norms = norms * limited
        self._norm = None

    def dense(self) -> list[Tensor]:
        """The tensors to write into: a sparse gradient (coalesced by `GradientStep`) gives its values."""
        return [v.values() if v.is_sparse else v for v in self.values]

    def changed(self) -> None:
        """Discard the norms; a transform that has written to `values` calls this last."""
        self._norms = None
        self._norm = None


class Transform(Protocol):
    """Changes the gradients of one step in place, without reading a number back from an accelerator.

    A transform is a frozen dataclass of options. What must be kept from step to step lives in `state`, which
    its `GradientStep` keeps, saves and restores: empty at the first step, tensors and numbers afterwards.
    """

    def __call__(self, gradients: GradientView, state: StateDict) -> None:
        """Transform `gradients.values`."""
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
