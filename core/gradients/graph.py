"""What autograd's graph behind a loss is made of."""

from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.autograd.graph import Node


def nodes(tensors: Sequence[Tensor | None]) -> Iterator[Node]:
    """Every node of the graph behind these tensors, once."""
    seen: set[Node] = set()
    waiting = [t.grad_fn for t in tensors if t is not None]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [following for following, _ in node.next_functions]


def refuse_reentrant(loss: Tensor) -> None:
    """Raise ValueError where a part of the network is checkpointed by the reentrant way.

    A backward pass that is told for which parameters it is then leaves out those inside, without an error.
    """
    if any(node.name() == "CheckpointFunctionBackward" for node in nodes([loss])):
        raise ValueError(
            "checkpoint(..., use_reentrant=True) hides the parameters inside from gradients that are taken "
            "for chosen parameters: pass use_reentrant=False"
        )
