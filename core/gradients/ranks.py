"""Gradients over several ranks of `torch.distributed`."""

from collections.abc import Sequence

import torch
from torch import Tensor


def average_over_ranks(parameters: Sequence[Tensor], ranks: int) -> None:
    """Replace every gradient by its mean over the ranks of `torch.distributed`, in one flat message.

    A gradient missing on one rank counts as zero there; missing everywhere, it comes back as zero. A sparse
    one is made dense.
    """
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in parameters]
    # At least float32: a sum of half-precision gradients overflows before it is divided.
    flat = torch.cat([g.flatten().to(torch.promote_types(g.dtype, torch.float32)) for g in gradients])
    torch.distributed.all_reduce(flat)
    flat /= ranks
    for p, g in zip(parameters, flat.split([g.numel() for g in gradients]), strict=True):
        p.grad = g.view_as(p).to(p.dtype)
