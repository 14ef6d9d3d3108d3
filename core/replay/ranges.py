"""How large tensors are, and what is known of one evaluation of a loss: forward, losses, and the way back."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

ROWS = 8  # named of those that hold a number that is not finite


@dataclass(frozen=True)
class Range:
    """How large the numbers of a tensor are.

    Attributes:
        low, high: the smallest and the largest of the finite ones; 0 where there are none.
        mean: of their magnitudes.
        odd: share of those that are not finite, in [0, 1].
        shape: of the tensor.
        rows: the first ones along its first dimension that hold a number that is not finite.
        num_rows: how many there are.
    """

    low: float
    high: float
    mean: float
    odd: float = 0.0
    shape: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    num_rows: int = 0

    @property
    def largest(self) -> float:
        """The largest magnitude; infinite where a number is not finite."""
        return math.inf if self.odd else max(abs(self.low), abs(self.high))


def range_of(tensor: Tensor) -> Range | None:
    """How large the numbers of a tensor are; None where it holds none that could be infinite."""
    x = tensor.detach()
    if x.is_sparse:
        x = x.coalesce().values()
    if not x.is_floating_point() or not x.numel():
        return None
    shape = tuple(x.shape)
    low, high, mean = torch.stack([*(e.double() for e in x.aminmax()), x.abs().mean().double()]).tolist()
    if math.isfinite(low) and math.isfinite(high):
        return Range(low, high, mean, shape=shape)
    finite = x.isfinite()
    kept = x[finite].double()
    if kept.numel():
        low, high, mean = kept.min().item(), kept.max().item(), kept.abs().mean().item()
    else:
        low = high = mean = 0.0
    rows = (~finite).reshape(len(x), -1).any(1).nonzero().flatten().tolist() if x.dim() else []
    return Range(low, high, mean, 1 - kept.numel() / x.numel(), shape, tuple(rows[:ROWS]), len(rows))


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors among a module's arguments or outputs."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from (tensor for part in value.values() for tensor in tensors_in(part))
    elif isinstance(value, tuple | list):
        yield from (tensor for part in value for tensor in tensors_in(part))


@dataclass(eq=False)
class Call:
    """One call of a module within an evaluation.

    Attributes:
        name: of the module; a further call in the same evaluation has a number behind it.
        kind: its class.
        inputs, outputs: of its floating-point tensors.
        into, out_of: the gradients that reached its outputs and left its inputs, as far as there were any.
        own: names of its own parameters, as the gradient step has them.
    """

    name: str
    kind: str
    inputs: list[Range]
    outputs: list[Range]
    into: list[Range] = field(default_factory=list)
    out_of: list[Range] = field(default_factory=list)
    own: tuple[str, ...] = ()


@dataclass(eq=False)
class Evaluation:
    """One evaluation of a player's loss, and its gradient.

    Attributes:
        step: x-axis value at which its iteration began.
        player: name of the gradient step; empty where there is one.
        update: number of the gradient step within its iteration, from 1, those of all players counted.
        number: which evaluation of this gradient step it is, from 1: micro-batches, line searches.
        order: how many evaluations were heard before it.
        parameters: the largest magnitude of each before it.
        moves: by how much a number of each has changed since the evaluation before, at most.
        batch: tensors that the loss was given, by name.
        broken_rows: of the rows where a number was born, each of these tensors, by row and name.
        calls: of modules, in the order in which they ended.
        losses: by name.
        way_back: those of `calls` whose outputs a gradient reached, in that order.
        gradients: of the parameters, by name, in the order of the backward pass.
        error: what the loss has raised.
    """

    step: int
    player: str
    update: int
    number: int
    order: int = 0
    parameters: dict[str, float] = field(default_factory=dict)
    moves: dict[str, float] = field(default_factory=dict)
    batch: dict[str, Range] = field(default_factory=dict)
    broken_rows: dict[int, dict[str, Range]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    losses: dict[str, float] = field(default_factory=dict)
    way_back: list[Call] = field(default_factory=list)
    gradients: dict[str, Range] = field(default_factory=dict)
    error: str = ""

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are: what does not reach them is no fault."""
        losses = all(map(math.isfinite, self.losses.values()))
        return losses and not self.error and not any(g.odd for g in self.gradients.values())


def largest(ranges: Sequence[Range]) -> float:
    """The largest magnitude of several tensors; 0 of none."""
    return max((r.largest for r in ranges), default=0.0)
