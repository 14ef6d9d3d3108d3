"""One evaluation again, operation by operation: which one made a number that is not finite of finite ones."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from core.gradients.localise import is_finite, tensors_in
from core.replay.origin import Birth
from core.replay.ranges import range_of

UNWRITTEN = ("empty", "resize")  # operations that leave whatever was in memory


class Microscope(TorchDispatchMode):
    """Looks at every operation of a loss and of its gradient.

    Of the operations that make a number that is not finite, the one counts that the result of the evaluation
    comes from: a masked logit of minus infinity is made on purpose, and never arrives.

    Args:
        modules: whose names say where an operation was called, by name.
        known: names of tensors that were there before: parameters, buffers, the batch.
    """

    def __init__(self, modules: Mapping[str, nn.Module], known: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._modules = modules
        self._names = {id(t): name for name, t in known.items()}
        self._stores = {t.untyped_storage().data_ptr(): name for name, t in known.items() if t.numel()}
        self._kept = list(known.values())  # so that no other tensor gets their addresses
        self._origin: dict[int, tuple[Tensor, int, Birth]] = {}  # of tensors that are not finite
        self._inside: list[tuple[str, str]] = []  # names and classes of the modules at work
        self._stepping: list[tuple[str, str]] = []  # whose step of a backward pass within the loss is at work
        self._owner: dict[Node, tuple[str, str]] = {}
        self._backward: Birth | None = None
        self._count = 0

    def look(
        self, closure: Callable[[], Any], parameters: Sequence[Tensor], combine: Callable[[Any], Tensor]
    ) -> Birth | None:
        """Evaluate a closure and its gradient; where the first number was born that is not finite.

        Args:
            closure: as a gradient step takes it.
            parameters: to differentiate by.
            combine: the loss of what the closure returns.
        """
        with ExitStack() as stack:
            for name, module in self._modules.items():
                where = name, type(module).__name__
                before = module.register_forward_pre_hook(lambda *_, where=where: self._inside.append(where))
                after = module.register_forward_hook(self._left, always_call=True)
                stack.callback(before.remove)
                stack.callback(after.remove)
            failed = False
            with self:
                try:
                    loss = combine(closure())
                except Exception:  # a distribution refuses parameters that are not numbers
                    failed = True
            if failed:
                return min(
                    (birth for birth in self._origin.values()), key=lambda b: b[1], default=(0, 0, None)
                )[2]
            if not loss.isfinite().all():
                found = self._origin.get(id(loss))
                return found[2] if found else None
            for node in _nodes(loss):
                node.register_hook(lambda *grads, node=node: self._passed(node, *grads))
            torch.autograd.grad(loss, [p for p in parameters if p.requires_grad], allow_unused=True)
        return self._backward

    def look_at(self, module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Birth | None:
        """Call one module alone; where the first number of its output was born that is not finite."""
        with self:
            made = list(tensors_in(module(*inputs, **named)))
        found = [self._origin[id(t)] for t in made if id(t) in self._origin]
        return min(found, key=lambda origin: origin[1])[2] if found else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [t for t in tree_leaves((args, kwargs)) if _counts(t)]
        before = [(t, self._came(t)) for t in given if not is_finite(t)]
        made = func(*args, **(kwargs or {}))
        self._count += 1
        for t in tree_leaves(made):
            if not _counts(t) or is_finite(t):
                continue
            origins = [origin for _, origin in before]
            if origins:
                number, birth = min(origins, key=lambda origin: origin[0])
            else:
                name = str(getattr(func, "overloadpacket", func)).removeprefix("aten.")
                if name.startswith(UNWRITTEN) or "empty" in name:
                    continue
                number, birth = self._count, self._made(name.rpartition(".")[2].rstrip("_"), t)
            self._origin[id(t)] = (t, number, birth)
        return made

    def _came(self, t: Tensor) -> tuple[int, Birth]:
        """Since which operation a tensor is not finite, and where that was; what was there before is at 0."""
        if id(t) in self._origin:
            return self._origin[id(t)][1:]
        name = self._names.get(id(t)) or self._stores.get(t.untyped_storage().data_ptr())
        return 0, _with_rows(Birth("batch", name or f"a tensor {list(t.shape)}"), t)

    def _made(self, operation: str, t: Tensor) -> Birth:
        """The operation that runs now has made it, in the innermost module at work."""
        if self._inside:
            return _with_rows(Birth("forward", *self._inside[-1], operation), t)
        if self._stepping:  # a penalty on gradients takes them within the loss
            return _with_rows(Birth("backward", *self._stepping[-1], operation), t)
        return _with_rows(Birth("loss", "value", "", operation), t)

    def _left(self, module: nn.Module, inputs: object, output: object) -> None:
        """A module has ended: what its outputs come from, up to its inputs, is its own."""
        where = self._inside.pop()
        ends = {t.grad_fn for t in tensors_in(inputs) if t.grad_fn is not None}
        waiting = [t.grad_fn for t in tensors_in(output) if t.grad_fn is not None]
        while waiting:
            node = waiting.pop()
            if node in ends or node in self._owner or not node.next_functions:
                continue
            self._owner[node] = where
            node.register_prehook(lambda *_: self._stepping.append(where))
            node.register_hook(lambda *_: self._stepping.pop() and None)
            waiting += [parent for parent, _ in node.next_functions if parent is not None]

    def _passed(self, node: Node, out_of: Sequence[Tensor | None], into: Sequence[Tensor | None]) -> None:
        """A step of the backward pass: from the gradients of its outputs to those of its inputs."""
        if self._backward is not None or not all(t is None or is_finite(t) for t in into):
            return
        bad = [t for t in out_of if t is not None and not is_finite(t)]
        if bad:
            name, kind = self._owner.get(node, ("gradient", ""))
            how = "backward" if node in self._owner else "loss"
            operation = node.name().rstrip("0123456789")
            self._backward = _with_rows(Birth(how, name, kind, operation), bad[0])


def _with_rows(birth: Birth, t: Tensor) -> Birth:
    found = range_of(t)
    if found is None or not t.dim() or not found.rows:
        return birth
    return Birth(
        birth.how, birth.name, birth.kind, birth.operation, found.rows, found.num_rows, found.shape[0]
    )


def _nodes(loss: Tensor) -> list[Node]:
    """Every step of the backward pass of a loss that has steps behind it."""
    seen: set[Node] = set()
    waiting = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [parent for parent, _ in node.next_functions]
    return [node for node in seen if node.next_functions]


def _counts(t: object) -> bool:
    return isinstance(t, Tensor) and t.is_floating_point() and not t.is_sparse
