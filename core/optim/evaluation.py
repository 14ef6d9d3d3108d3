"""Optimizers that are to be measured at other parameters than they train."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def evaluation_parameters(*optimizers: torch.optim.Optimizer) -> Iterator[None]:
    """Within the block, the parameters hold what each optimizer wants measured and handed out.

    A schedule-free optimizer trains at a point between its average and its iterate, and is good at the
    average; it has `eval()` and `train()` to go from one to the other, which is exact only up to rounding.
    Here the training point is kept and put back to the bit. Optimizers without these two methods are left
    alone.

    Args:
        optimizers: whose parameters are about to be measured; in training mode, as `build_optimizer` leaves
            them.

    Source: Defazio et al. 2024, arXiv:2405.15682, "The Road Less Scheduled".
    """
    switching = [o for o in optimizers if all(callable(getattr(o, mode, None)) for mode in ("train", "eval"))]
    parameters = [p for o in switching for group in o.param_groups for p in group["params"]]
    kept = [p.detach().clone() for p in parameters]
    for optimizer in switching:
        getattr(optimizer, "eval")()  # noqa: B009  (torch's own class has no such method)
    try:
        yield
    finally:
        for optimizer in switching:
            getattr(optimizer, "train")()  # noqa: B009
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
