"""Gradients and their length: norms and dot products of lists of tensors, and a view that keeps its norms.

Norms are right to 1e-6 of float64 at any size. float32 `vector_norm` adds one number after the other on the
CPU: it is off by 0.4 % at 5e7 random elements and by 1.9 % on a constant vector; it overflows at 1e20 and
loses gradients below 1e-19. Small tensors are accumulated in float64. Large ones would take four times the
time that way, so blocks of 256 elements are accumulated in float32 and the norms of the blocks in float64:
right to 3e-7, at the speed of float32.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

BLOCK = 256
LARGE = 16_384  # elements from which blocks are faster than float64
_recording = False
SAFE = (1e-15, 1e18)  # root mean square within which no float32 square over- or underflows a block's sum


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
        gradients = [p.grad for p in parameters]
        if not any(g is not None for g in gradients):
            raise ValueError(
                "no parameter of this GradientStep has a gradient; is the loss detached from it?"
            )
        if any(g is not None and g.is_sparse for g in gradients):
            # Coalesced once, so that a transform writes into the values and not into a copy of them.
            gradients = [g.coalesce() if g is not None and g.is_sparse else g for g in gradients]
            for p, g in zip(parameters, gradients, strict=True):
                p.grad = g
        return cls.among(names, parameters, gradients)

    @classmethod
    def among(
        cls, names: Sequence[str], parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> "GradientView":
        """These gradients, without those that are missing."""
        values = [g for g in gradients if g is not None]
        if len(values) == len(parameters):
            return cls(names, parameters, values)
        index = [i for i, g in enumerate(gradients) if g is not None]
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

    def measured(self, norms: Tensor, norm: Tensor) -> None:
        """Take over the norms, [L] and 0-d, of the gradients as they now are."""
        self._norms, self._norm = norms, norm

    def shrink_(self, factor: Tensor) -> None:
        """Multiply every gradient by min(1, factor), a 0-d tensor.

        On the CPU, where reading a number costs nothing, a factor of at least 1 (or NaN, in a step that will
        be skipped) touches no gradient. On an accelerator the gradients are always multiplied: reading the
        factor would make the host wait.
        """
        if not reads_at_once(factor):
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
        if reads_at_once(factors):
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


def layer_norms(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of every tensor.

    Args:
        tensors: any shapes, float dtypes mixed, sparse or empty ones allowed, all on one device.

    Returns:
        [L], float64 (float32 on a device without float64), on the tensors' device; 0 for an empty tensor.
    """
    if not tensors:
        return torch.zeros(0, dtype=torch.float64)
    dense = [t.coalesce().values() if t.is_sparse else t for t in tensors]
    dtype = accumulation_dtype(dense[0].device)
    if reads_at_once(dense[0]):
        return torch.tensor(_norms_on_cpu(dense), dtype=dtype)
    return torch.stack(torch._foreach_norm(dense, 2, dtype))


def global_norm(tensors: Sequence[Tensor], group: torch.distributed.ProcessGroup | None = None) -> Tensor:
    """Euclidean norm of all tensors taken as one vector, 0-d, in the dtype of `layer_norms`.

    Args:
        tensors: as for `layer_norms`.
        group: ranks that hold different parts (shards) of the vector: squares are summed over them, each rank
            gets the same number. None = all of it is here; gradients that a `GradientStep` has averaged are.
    """
    norm = torch.linalg.vector_norm(layer_norms(tensors))
    if group is None:
        return norm
    square = norm.square()
    torch.distributed.all_reduce(square, group=group)
    return square.sqrt()


def layer_dots(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Dot product of every tensor with its partner, [L], in the dtype of `layer_norms`.

    Right to 1e-5 of |a| |b|, which is enough for a cosine: long tensors are multiplied in pieces that float32
    can add up.

    Args:
        first: dense tensors on one device.
        second: the same number of tensors, of the same shapes and dtypes.
    """
    dtype = accumulation_dtype(first[0].device)
    dots = [_dot(a, b) for a, b in zip(first, second, strict=True)]
    if first[0].device.type == "cpu":
        return torch.tensor([dot.item() for dot in dots], dtype=dtype)
    return torch.stack([dot.to(dtype) for dot in dots])


def require_real(who: str, names: Sequence[str], tensors: Sequence[Tensor]) -> None:
    """Raise ValueError where one is complex: norms, dot products and updates here are of real numbers."""
    found = [name for name, t in zip(names, tensors, strict=True) if t.is_complex()]
    if found:
        raise ValueError(
            f"{who} takes only real parameters, and {', '.join(found[:6])} is complex: make "
            "torch.view_as_real(it) the parameter"
        )


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 where the device has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def reads_at_once(tensor: Tensor) -> bool:
    """Whether a number of it can be read without waiting: on the CPU, and not while a graph is recorded."""
    return tensor.device.type == "cpu" and not _recording


@contextmanager
def recording() -> Iterator[None]:
    """Within it a graph is recorded, in which nothing can be read."""
    global _recording
    _recording = True
    try:
        yield
    finally:
        _recording = False


def _norms_on_cpu(tensors: list[Tensor]) -> list[float]:
    """Norm of every tensor. Reading numbers costs less here than stacking tensors of one element."""
    large = [i for i, x in enumerate(tensors) if x.numel() >= LARGE]
    if not large:
        return [norm.item() for norm in torch._foreach_norm(tensors, 2, torch.float64)]
    pieces: list[Tensor] = []
    owners: list[int] = []
    for i, x in enumerate(tensors):
        parts = _blocks(x) if x.numel() >= LARGE else [x]
        pieces += parts
        owners += [i] * len(parts)
    norms = [0.0] * len(tensors)
    for i, norm in zip(owners, torch._foreach_norm(pieces, 2, torch.float64), strict=True):
        norms[i] = math.hypot(norms[i], norm.item()) if norms[i] else norm.item()
    for i in large:
        x = tensors[i]
        if not SAFE[0] < norms[i] / math.sqrt(x.numel()) < SAFE[1]:
            norms[i] = torch.linalg.vector_norm(x, dtype=torch.float64).item()
    return norms


def _blocks(x: Tensor) -> list[Tensor]:
    """Tensors of the same joint norm as a large one: the norms of its blocks, and what is left over."""
    if x.dtype != torch.float32 or not x.is_contiguous():
        return [x]
    flat, rest = x.view(-1), x.numel() % BLOCK
    if not rest:
        return [torch.linalg.vector_norm(flat.view(-1, BLOCK), dim=1)]
    return [torch.linalg.vector_norm(flat[:-rest].view(-1, BLOCK), dim=1), flat[-rest:]]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Dot product of two tensors, 0-d."""
    a, b = a.reshape(-1), b.reshape(-1)
    if a.dtype in (torch.float16, torch.bfloat16):
        a, b = a.float(), b.float()  # products of half precision over- and underflow early
    if a.numel() <= LARGE:
        return torch.dot(a, b)
    if a.device.type != "cpu":
        return (a * b).sum()
    pieces = zip(a.split(LARGE), b.split(LARGE), strict=True)
    return torch.tensor([torch.dot(x, y).item() for x, y in pieces], dtype=torch.float64).sum()
