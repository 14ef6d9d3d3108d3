"""What a training loop hands to a `GradientStep`: a closure that returns a loss and metrics."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from core.gradients.arguments import malformed, without_gradient

Metrics = dict[str, Tensor]  # 0-d, detached, on the device
Loss = Tensor | Mapping[str, Tensor]
Closure = Callable[[], tuple[Loss, Metrics]]


def evaluated(closure: Closure) -> tuple[dict[str, Tensor], Metrics]:
    """The closure's losses by name, and its metrics; ValueError where no gradient can be taken of a loss."""
    returned: object = closure()
    if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[1], Mapping):
        raise malformed(returned)
    loss, metrics = returned
    losses = dict(loss) if isinstance(loss, Mapping) else {"loss": loss}
    for name, term in losses.items():
        if term.dim() or not term.requires_grad:
            raise without_gradient(name, term)
    return losses, dict(metrics)


def averaged(collected: Sequence[Metrics]) -> Metrics:
    """The mean of every metric over the closures of one step; ValueError where their metrics differ."""
    first = collected[0]
    if len(collected) == 1:
        return first
    if different := {key for metrics in collected for key in first.keys() ^ metrics.keys()}:
        listed = ", ".join(sorted(different)[:6])
        raise ValueError(f"all closures of a step must return the same metrics; only some have {listed}")
    return {key: torch.stack([metrics[key] for metrics in collected]).mean() for key in first}


@contextmanager
def freed_graph_explained() -> Iterator[None]:
    """Say what to do when an earlier backward has freed the graph of a loss."""
    try:
        yield
    except RuntimeError as error:
        if "through the graph a second time" not in str(error):
            raise
        raise ValueError(
            "the graph of this loss is already freed: build the loss inside the closure, at every call"
        ) from error
