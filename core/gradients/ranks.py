"""Several ranks of `torch.distributed` that train one network together, each on its rows of every batch.

What is random is drawn for the whole batch, by every rank alike, and each keeps its rows: so a number belongs
to a sample, whatever the number of ranks. Gradients and metrics are means over the ranks, which have rows in
equal numbers. A process without ranks, or one within `alone`, has all the rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from core.errors import RankLostError

_alone = 0  # how many blocks of `alone` this process is in
_patient: list[ProcessGroup] = []  # who waits long, see `wait_in`


def num_ranks() -> int:
    """Ranks that take each step together; 1 without `torch.distributed`, and within `alone`."""
    return torch.distributed.get_world_size() if _together() else 1


def this_rank() -> int:
    """Which of them this process is, from 0."""
    return torch.distributed.get_rank() if _together() else 0


@contextmanager
def alone() -> Iterator[None]:
    """Within it this process computes as if there were no others, who need not do the same."""
    global _alone
    _alone += 1
    try:
        yield
    finally:
        _alone -= 1


@contextmanager
def meeting() -> Iterator[None]:
    """Around what all ranks do at the same time.

    Raises:
        RankLostError: one of them is gone, or did not come in time.
    """
    try:
        yield
    except RuntimeError as error:
        raise RankLostError("another rank has ended or does not answer") from error


@contextmanager
def wait_in(group: ProcessGroup) -> Iterator[None]:
    """Within it, meetings at which ranks may be late, after work of different length, are of this group."""
    _patient.append(group)
    try:
        yield
    finally:
        _patient.pop()


def patient_group() -> ProcessGroup | None:
    """The group of such meetings; None = the default one."""
    return _patient[-1] if _patient else None


def whole(count: int) -> int:
    """How many rows all ranks have together, where each has `count`."""
    return count * num_ranks()


def own(rows: Tensor, dim: int = 0) -> Tensor:
    """This rank's rows of what every rank holds whole: as many as each other rank's, one after the other.

    Raises:
        ValueError: they cannot be divided evenly.
    """
    ranks = num_ranks()
    if ranks == 1:
        return rows
    if rows.shape[dim] % ranks:
        raise ValueError(f"{rows.shape[dim]} rows cannot be divided evenly among {ranks} ranks")
    return rows.chunk(ranks, dim)[this_rank()]


def batch_mean(x: Tensor, dim: tuple[int, ...] | None = None) -> Tensor:
    """The mean over the rows of all ranks; differentiable, as often as wanted.

    Args:
        x: as many rows on every rank.
        dim: means are taken over these dimensions, of which one is that of the rows; None = over all.
    """
    own_mean = x.mean() if dim is None else x.mean(dim)
    ranks = num_ranks()
    return own_mean if ranks == 1 else _Sum.apply(own_mean) / ranks


def batch_std(x: Tensor) -> Tensor:
    """The standard deviation of all elements on all ranks, with Bessel's correction; no gradient."""
    if num_ranks() == 1:
        return x.std()
    squares = batch_mean((x - batch_mean(x)).square())
    count = whole(x.numel())
    return (squares * (count / (count - 1))).sqrt()


def average_over_ranks(
    parameters: Sequence[Tensor], metrics: Mapping[str, Tensor], loss: float | Tensor
) -> tuple[dict[str, Tensor], float | Tensor]:
    """Gradients, metrics and loss become their means over the ranks, in one flat message.

    A gradient missing on one rank counts as zero there; missing everywhere, it comes back as zero. A sparse
    one is made dense.

    Args:
        parameters: their gradients are replaced.
        metrics: by tag; every rank has the same tags.
        loss: of the rank's own rows.
    """
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in parameters]
    numbers = [*metrics.values(), torch.as_tensor(loss, device=gradients[0].device)]
    kind = torch.promote_types(gradients[0].dtype, torch.float32)  # a float64 among them widens no gradient
    means = mean_over_ranks([*gradients, *(x.to(kind) for x in numbers)])
    for p, gradient in zip(parameters, means, strict=False):
        p.grad = gradient
    *values, loss = means[len(gradients) :]
    return dict(zip(metrics, values, strict=True)), loss


def mean_over_ranks(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The means of these tensors over the ranks, in one flat message; they come back in their own kinds.

    They are summed as float32 at least: a sum of half-precision gradients overflows before it is divided.
    """
    kind = torch.float32
    for tensor in tensors:
        kind = torch.promote_types(kind, tensor.dtype)
    flat = torch.cat([t.flatten().to(kind) for t in tensors])
    with meeting():
        torch.distributed.all_reduce(flat)
    flat /= num_ranks()
    parts = flat.split([t.numel() for t in tensors])
    return [part.view(t.shape).to(t.dtype) for part, t in zip(parts, tensors, strict=True)]


def gathered(value: Any, group: ProcessGroup | None = None) -> list[Any]:
    """What each rank has, in their order; anything that can be pickled, on the host."""
    everybody: list[Any] = [None] * num_ranks()
    with meeting():
        torch.distributed.all_gather_object(everybody, value, group=group)
    return everybody


class _Sum(torch.autograd.Function):
    """The sum over the ranks, which depends on every rank's input: its gradient is of all their losses."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        with meeting():
            torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return _Sum.apply(gradient)


def _together() -> bool:
    return not _alone and torch.distributed.is_available() and torch.distributed.is_initialized()
