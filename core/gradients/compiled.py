"""Losses and their gradients as one compiled graph: what `compile=update` makes of a step's closures.

    closure: loss -> backward -> norms -> clipping    one graph, of a few fused kernels
    guard, optimizer, monitor, other transforms       beside it, as without

The operations of one call, backward included, are recorded below autograd (`make_fx`) and compiled by
TorchInductor. Every tensor that they read is an input of the graph, the parameters and the buffers of all
networks by reference: what is loaded into them is seen. Python runs once, while it is recorded.

Other ways were measured on PPO's minibatch (CartPole, 64x64, batch 128, one thread; eager 1.31 ms, this
0.41). `torch.compile` of the loss needed 1.29 ms for loss and gradient alone, as long as without it, and
three times as long to compile. Norms and clipping outside of the graph cost another 0.1 ms. The fused Adam
beside it takes 0.05 ms, half of which a graph could save, at the price of a second Adam and without any other
optimizer.
"""

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from core.gradients.closures import Closure, Metrics, evaluated
from core.gradients.leaves import leaves, with_leaves
from core.gradients.norms import GradientView, recording
from core.gradients.transforms.adaptive import AGC
from core.gradients.transforms.clipping import GlobalNorm, PerLayerNorm, Value
from core.gradients.transforms.direction import Centralize
from core.gradients.transforms.protocol import Transform

STATELESS = (GlobalNorm, PerLayerNorm, Value, AGC, Centralize)  # transforms that can be part of a graph
MOST = 8  # graphs of one step: where shapes change at every call, compiling would never end
TRIALS = 5  # calls that are timed, with and without the graph


@dataclass
class Graph:
    """One compiled graph.

    Attributes:
        run: takes parameters, leaves and `others`; returns what `_outputs` lists.
        others: tensors that the closure reads and that are not among its arguments.
        missing: per parameter, whether it has no gradient.
        names: of the metrics.
        kept: objects that the key knows by identity; they must live as long as it.
        compile_s: seconds it took to make.
        saved_s: seconds that one call saves.
        calls: how often it has been used.
    """

    run: Callable[..., Sequence[Tensor]]
    others: list[Tensor]
    missing: list[bool]
    names: list[str]
    kept: list[object]
    compile_s: float
    saved_s: float
    calls: int = 0


@dataclass
class CompiledGradients:
    """The compiled graphs of one step, made as they are needed.

    Attributes:
        names: of the parameters.
        parameters: what gradients are taken of.
        transforms: those of the step, if all of them can be part of the graph.
        autocast: the context in which losses are computed.
        say: takes one line about why something runs eagerly.
        graphs: by what a closure depends on besides the elements of tensors; None = runs eagerly.
        remarks: what has been said.
    """

    names: Sequence[str]
    parameters: Sequence[Tensor]
    transforms: Sequence[Transform]
    autocast: Callable[[], AbstractContextManager[Any]]
    say: Callable[[str], None]
    graphs: dict[Hashable, Graph | None] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    _gradients: list[Tensor] = field(default_factory=list)  # of the last call, as backward left them
    _versions: list[int] = field(default_factory=list)
    _norms: Sequence[Tensor] = ()  # norms and joint norm, before and after the transforms
    _transformed: list[Tensor] = field(default_factory=list)

    def __call__(self, closure: Closure) -> Metrics | None:
        """Write the gradient of a closure to `.grad` and return its metrics; None: it has to run eagerly.

        Only a `functools.partial` is compiled. Whatever may differ between two calls has to be among its
        arguments: tensors, floats, and containers and dataclasses of them.
        """
        self._gradients = []
        if not isinstance(closure, partial):
            self._remark("a closure that is no functools.partial hides what it depends on")
            return None
        tensors, fixed, key = leaves(closure)
        if key not in self.graphs:
            self.graphs[key] = self._made(closure, tensors, fixed)
        graph = self.graphs[key]
        if graph is None:
            return None
        graph.calls += 1
        with torch.no_grad():
            found = graph.run(*self.parameters, *tensors, *graph.others)
        number = len(graph.missing) - sum(graph.missing)
        self._norms, self._gradients = found[:4], list(found[4 : 4 + number])
        self._versions = [g._version for g in self._gradients]
        place = 4 + number
        if self.transforms:
            self._transformed, place = list(found[place : place + number]), place + number
        gradients = iter(self._gradients)
        for p, missing in zip(self.parameters, graph.missing, strict=True):
            p.grad = None if missing else next(gradients)
        return dict(zip(graph.names, found[place:], strict=True))

    def measure(self, view: GradientView) -> None:
        """Give a view the norms that the graph has found, if its gradients are the graph's."""
        if self._holds(view):
            view.measured(*self._norms[:2])

    def transform(self, view: GradientView) -> bool:
        """Put the transformed gradients into a view and into `.grad`; False if the graph has none of them."""
        if not self.transforms or not self._holds(view):
            return False
        view.values = self._transformed
        view.measured(*self._norms[2:])
        for p, g in zip(view.parameters, view.values, strict=True):
            p.grad = g
        return True

    def _holds(self, view: GradientView) -> bool:
        """Whether a view's gradients are those of the last graph, and nobody has written to them."""
        return len(view.values) == len(self._gradients) and all(
            value is g and g._version == version
            for value, g, version in zip(view.values, self._gradients, self._versions, strict=True)
        )

    def _made(self, closure: "partial[Any]", tensors: list[Tensor], fixed: list[object]) -> Graph | None:
        if len(self.graphs) >= MOST:
            self._remark(f"more than {MOST} different shapes of its batches")
            return None
        try:
            return self._compiled(closure, tensors, fixed)
        except Exception as error:  # the recorder and the compiler raise what they like
            self._remark(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
            return None

    def _remark(self, line: str) -> None:
        if line not in self.remarks:
            self.remarks.append(line)
            self.say(line)

    def _compiled(self, closure: "partial[Any]", tensors: list[Tensor], fixed: list[object]) -> Graph:
        from torch._inductor import standalone_compile
        from torch.fx.experimental.proxy_tensor import make_fx

        began = time.perf_counter()
        inputs = [t.detach() for t in tensors]  # objects of their own: the recorder knows them by identity
        call = with_leaves(closure, iter(inputs))
        known = [*self.parameters, *inputs]
        missing: list[bool] = []
        names: list[str] = []

        def outputs(*_: Tensor) -> list[Tensor]:
            with torch.enable_grad(), self.autocast():
                losses, metrics = evaluated(call)
            total = reduce(torch.add, losses.values())
            with torch.autograd.set_multithreading_enabled(False):  # so that the recorder sees it everywhere
                found = torch.autograd.grad(total, self.parameters, allow_unused=True)
            missing[:], names[:] = [g is None for g in found], list(metrics)
            with torch.no_grad():
                results = self._results(_as_parameters(found, self.parameters))
            return results + [value.detach() for value in metrics.values()]

        reading = Reading(known)
        with torch.random.fork_rng(_accelerators(self.parameters)), undone(reading):
            with reading, recording():
                outputs()
            with recording():
                recorded = make_fx(outputs, _fusible())(*known, *reading.others)
            others = _only_used(recorded, len(known), reading.others)
            arguments = [*known, *others]
            options = {"config_patches": {"fallback_random": True}}  # the numbers that eager torch draws
            with torch.no_grad():
                examples = [a.detach() for a in arguments]
                run = standalone_compile(
                    recorded, examples, dynamic_shapes="from_example_inputs", options=options
                )
                run(*arguments)
                compile_s = time.perf_counter() - began
                graph_s = _seconds(partial(run, *arguments))
            saved_s = _seconds(outputs) - graph_s
        return Graph(run, others, missing, names, fixed, compile_s, saved_s)

    def _results(self, gradients: Sequence[Tensor | None]) -> list[Tensor]:
        """Norms and joint norm before and after the transforms, the gradients before, and those after."""
        view = GradientView.among(self.names, self.parameters, gradients)
        whole, norms = list(view.values), [view.norms, view.norm]
        if not self.transforms:
            return norms * 2 + whole
        view.values = [g.clone() for g in whole]
        for transform in self.transforms:
            transform(view, {})
        return [*norms, view.norms, view.norm, *whole, *view.values]


class Reading(TorchDispatchMode):
    """Finds the tensors that operations read and that none of them has made.

    Attributes:
        others: those that were not known before.
        before: of these, all that are no parameters, with what they held when they were first read.
    """

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()
        self.others: list[Tensor] = []
        self.before: list[tuple[Tensor, Tensor]] = []
        self._seen: dict[int, Tensor] = {id(t): t for t in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for t in tree_leaves((args, kwargs)):
            if isinstance(t, Tensor) and id(t) not in self._seen:
                self._seen[id(t)] = t
                self.others.append(t)
                if not t.requires_grad:
                    self.before.append((t, t.clone()))
        made = func(*args, **(kwargs or {}))
        self._seen |= {id(t): t for t in tree_leaves(made) if isinstance(t, Tensor)}
        return made


@contextmanager
def undone(reading: Reading) -> Iterator[None]:
    """Put back what was written to the tensors that were read (running statistics)."""
    try:
        yield
    finally:
        for t, value in reading.before:
            if not torch.equal(t, value):
                t.copy_(value)


def _as_parameters(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradients, each in memory of its own and laid out as its parameter."""
    found: list[Tensor | None] = []
    used: set[int] = set()
    for g, p in zip(gradients, parameters, strict=True):
        if g is not None:
            own = g.untyped_storage().data_ptr() not in used and g.stride() == p.stride()
            g = g if own else torch.empty_like(p).copy_(g)
            used.add(g.untyped_storage().data_ptr())
        found.append(g)
    return found


def _fusible() -> dict[Any, Callable[..., Any]]:
    """Norms as sums, which the compiler fuses; it has no kernel of its own for a norm."""

    def vector_norm(
        x: Tensor, order: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
    ) -> Tensor:
        assert order == 2
        return x.to(dtype or x.dtype).square().sum(dim, keepdim).sqrt()

    def foreach_norm(tensors: Sequence[Tensor], order: float = 2, dtype: Any = None) -> list[Tensor]:
        return [vector_norm(x, order, dtype=dtype) for x in tensors]

    aten = torch.ops.aten
    return {aten.linalg_vector_norm.default: vector_norm, aten._foreach_norm.Scalar: foreach_norm}


def _only_used(recorded: GraphModule, known: int, others: Sequence[Tensor]) -> list[Tensor]:
    """Those of the other tensors that the recorded graph reads; the rest is no argument any more.

    Raises:
        ValueError: it holds a tensor that is not an argument.
    """
    graph = recorded.graph
    arguments = [node for node in graph.nodes if node.op == "placeholder"][known:]
    used = [t for t, node in zip(others, arguments, strict=True) if node.users]
    for node in arguments:
        if not node.users:
            graph.erase_node(node)
    for node in graph.nodes:
        if node.op == "get_attr" and any("lift_fresh" not in str(user.target) for user in node.users):
            raise ValueError("the loss holds a tensor that nothing says where it comes from")
    recorded.recompile()
    return used


def _seconds(call: Callable[[], object]) -> float:
    """How long a call takes, the shortest of some."""
    taken = []
    for _ in range(TRIALS):
        began = time.perf_counter()
        call()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return min(taken)


def _accelerators(tensors: Sequence[Tensor]) -> list[torch.device]:
    """The device of tensors, if it has generators of its own."""
    return [tensors[0].device] if tensors[0].device.type == "cuda" else []
