"""Where a number first stopped being one: in the batch, forward, in the loss, or on the way back."""

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
    bad = [name for name, part in zip(names, objective.batch, strict=True) if not _finite(part)]
    calls: list[_Call] = []
    handles = [
        part.register_forward_hook(
            lambda module, inputs, output, name=name: calls.append(
                _Call(name, module, _tensors(inputs), _tensors(output))
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
        if not all(map(_finite, call.inputs)) and bad:
            return Place("batch", bad[0])
        if all(map(_finite, call.inputs)) and not all(map(_finite, call.outputs)):
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
        if not all(g is None or _finite(g) for g in after):
            return Place("loss", "gradient")
        if not all(g is None or _finite(g) for g in before):
            return Place("backward", call.name)
    return None


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _tensors(value: object) -> list[Tensor]:
    """The tensors among a module's arguments or outputs."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in _tensors(part)]
    return []
