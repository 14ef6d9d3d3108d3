"""Where a number first stopped being one: in the batch, forward, in the loss, or on the way back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from core.gradients.objective import Objective, own_randomness


@dataclass(frozen=True)
class Place:
    """The first non-finite tensor of an objective.

    Attributes:
        how: "batch" (a tensor that the loss reads), "forward" (a module whose inputs are finite and whose
            output is not), "loss" (the outputs are finite, the loss is not), "backward" (a module whose
            output has a finite gradient, and whose inputs or parameters have none).
        name: of the module or tensor.
    """

    how: Literal["batch", "forward", "loss", "backward"]
    name: str


@dataclass
class _Call:
    """One call of a module without children."""

    name: str
    module: nn.Module
    inputs: list[Tensor]
    outputs: list[Tensor]


def localise(objective: Objective) -> Place | None:
    """Find the first tensor that is not finite on a frozen batch; None where all are.

    What the network reads comes first, then its modules in the order of their calls, then what only the loss
    reads, then the way back from the output. Costs one forward and one backward pass and changes nothing.

    Args:
        objective: the loss; `batch_names` name the tensors of its batch.
    """
    names = objective.batch_names or tuple(f"tensor {i}" for i in range(len(objective.batch)))
    bad = [name for name, part in zip(names, objective.batch, strict=True) if not is_finite(part)]
    calls: list[_Call] = []
    handles = [
        part.register_forward_hook(
            lambda module, inputs, output, name=name: calls.append(
                _Call(name, module, [*tensors_in(inputs)], [*tensors_in(output)])
            )
        )
        for name, part in objective.module.named_modules()
        if not any(part.children())
    ]
    try:
        with own_randomness(objective):
            loss = objective.on(objective.batch)
    except (ValueError, ArithmeticError):  # a distribution refuses parameters that are not numbers
        loss = None
    finally:
        for handle in handles:
            handle.remove()
    for call in calls:
        if not all(map(is_finite, call.inputs)) and bad:
            return Place("batch", bad[0])
        if all(map(is_finite, call.inputs)) and not all(map(is_finite, call.outputs)):
            return Place("forward", call.name)
    if bad:
        return Place("batch", bad[0])
    if loss is None or not loss.isfinite():
        return Place("loss", "value")
    return _backward(loss, calls)


def _backward(loss: Tensor, calls: list[_Call]) -> Place | None:
    """The first module on the way back that makes a gradient that is not finite."""
    for call in reversed(calls):
        outputs = [t for t in call.outputs if t.requires_grad]
        inputs = [t for t in [*call.inputs, *call.module.parameters()] if t.requires_grad]
        if not outputs or not inputs:
            continue
        found = torch.autograd.grad(loss, [*outputs, *inputs], retain_graph=True, allow_unused=True)
        after, before = found[: len(outputs)], found[len(outputs) :]
        if not all(g is None or is_finite(g) for g in after):
            return Place("loss", "gradient")
        if not all(g is None or is_finite(g) for g in before):
            return Place("backward", call.name)
    return None


def is_finite(tensor: Tensor) -> bool:
    """Whether no number of a tensor is NaN or infinite; a whole number never is."""
    values = tensor.detach()
    values = values.coalesce().values() if values.is_sparse else values
    return not values.is_floating_point() or bool(values.isfinite().all())


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors among a module's arguments or outputs."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from (tensor for part in value.values() for tensor in tensors_in(part))
    elif isinstance(value, tuple | list):
        yield from (tensor for part in value for tensor in tensors_in(part))
