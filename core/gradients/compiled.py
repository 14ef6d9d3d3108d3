"""Losses and their gradients as one compiled graph: what `compile=update` makes of a step's closures.

    closure: loss -> backward -> norms -> clipping    one graph, of a few fused kernels
    guard, optimizer, monitor, other transforms       beside it, as without

The operations of one call, backward included, are recorded below autograd (`make_fx`) and compiled by
TorchInductor. Every tensor that they read is an input of the graph, the parameters and the buffers of all
networks by reference: what is loaded into them is seen. Python runs once, while it is recorded. On CUDA its
kernels are one CUDA graph besides (`core.gradients.captured`).

Other ways were measured on PPO's minibatch (CartPole, 64x64, batch 128, one thread; eager 1.31 ms, this
0.41). `torch.compile` of the loss needed 1.29 ms for loss and gradient alone, as long as without it, and
three times as long to compile. Norms and clipping outside of the graph cost another 0.1 ms. The fused Adam
beside it takes 0.05 ms, half of which a graph could save, at the price of a second Adam and without any other
optimizer.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from core.gradients.arguments import step_needs_closure
from core.gradients.closures import Closure, Metrics
from core.gradients.leaves import leaves, with_leaves
from core.gradients.norms import GradientView
from core.gradients.recorded import Sizes, open_size, opened_sizes, record
from core.gradients.transforms.adaptive import AGC
from core.gradients.transforms.clipping import GlobalNorm, PerLayerNorm, Value
from core.gradients.transforms.direction import Centralize
from core.gradients.transforms.protocol import Transform

if TYPE_CHECKING:
    from core.gradients.step import GradientStep

STATELESS = (GlobalNorm, PerLayerNorm, Value, AGC, Centralize)  # transforms that can be part of a graph
MOST = 4  # graphs for one way of calling a step, and ways: else compiling might never end
Kept = list[object]


@dataclass
class Graph:
    """One compiled graph.

    Attributes:
        run: takes parameters, leaves and `others`; returns what `_outputs` lists.
        others: tensors that the closure reads and that are not among its arguments.
        sizes: of the leaves; None = open.
        takes: whether it was compiled for a size that is open.
        missing: per parameter, whether it has no gradient.
        names: of the metrics.
        kept: objects that the key knows by identity; they must live as long as it.
        compile_s: seconds it took to make.
        saved_s: seconds that one call saves.
        calls: how often it has been used.
    """

    run: Callable[..., Sequence[Tensor]]
    others: list[Tensor]
    sizes: Sequence[Sizes]
    takes: Callable[[int], bool]
    missing: list[bool]
    names: list[str]
    kept: Kept
    compile_s: float
    saved_s: float
    calls: int = 0

    def fits(self, sizes: Sequence[Sizes]) -> bool:
        """Whether it takes leaves of these sizes."""
        try:
            size = open_size(self.sizes, sizes)
        except ValueError:
            return False
        return size is None or self.takes(size)


@dataclass
class CompiledGradients:
    """The compiled graphs of one step, made as they are needed.

    Attributes:
        names: of the parameters.
        parameters: what gradients are taken of.
        transforms: those of the step, if all of them can be part of the graph.
        losses: evaluates a closure: its losses by name, and its metrics.
        say: takes one line about why the step runs eagerly, or without a CUDA graph.
        remarks: what has been said.
    """

    names: Sequence[str]
    parameters: Sequence[Tensor]
    transforms: Sequence[Transform]
    losses: Callable[[Closure], tuple[dict[str, Tensor], Metrics]]
    say: Callable[[str], None]
    remarks: list[str] = field(default_factory=list)
    _of_key: dict[Hashable, list[Graph | None]] = field(default_factory=dict)
    _by_size: dict[Hashable, Graph | None] = field(default_factory=dict)
    _gradients: list[Tensor] = field(default_factory=list)  # of the last call, as backward left them
    _versions: list[int] = field(default_factory=list)
    _norms: Sequence[Tensor] = ()  # norms and joint norm, before and after the transforms
    _transformed: list[Tensor] = field(default_factory=list)

    @property
    def graphs(self) -> list[Graph]:
        """All that have been made."""
        return [graph for of_key in self._of_key.values() for graph in of_key if graph is not None]

    def __call__(self, closure: Closure) -> Metrics | None:
        """Write the gradient of a closure to `.grad` and return its metrics; None: it has to run eagerly.

        Only a `functools.partial` is compiled. Whatever may differ between two calls has to be among its
        arguments: tensors, floats, and containers and dataclasses of them.
        """
        self._gradients = []
        if not isinstance(closure, partial):
            self._remark("runs eagerly: a closure that is no functools.partial hides what it depends on")
            return None
        tensors, fixed, key = leaves(closure)
        tensors = [_on(self.parameters[0].device, t) for t in tensors]
        sized = key, tuple(t.shape for t in tensors)
        if sized not in self._by_size:
            self._by_size[sized] = self._made(key, closure, tensors, fixed)
        graph = self._by_size[sized]
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

    def _made(
        self, key: Hashable, closure: "partial[Any]", tensors: list[Tensor], fixed: Kept
    ) -> Graph | None:
        """The graph for a call of new sizes.

        The first sizes have a graph of their own. One for all comes with the second; where the compiler took
        for granted that they are below some number, another one follows for those above it.
        """
        sizes = [tuple(t.shape) for t in tensors]
        of_key = self._of_key.setdefault(key, [])
        for graph in of_key:
            if graph is None or graph.fits(sizes):
                return graph
        if len(of_key) >= MOST or len(self._of_key) > MOST:
            self._remark(f"runs eagerly: it is called in more than {MOST} ways")
            return None
        wanted = opened_sizes(of_key[0].sizes, sizes) if of_key and of_key[0] else sizes
        try:
            one = open_size(wanted, sizes) in (0, 1)  # which torch never leaves open
            of_key.append(self._compiled(closure, tensors, fixed, sizes if one else wanted))
        except Exception as error:  # the recorder and the compiler raise what they like
            self._remark(f"runs eagerly: {_reason(error)}")
            of_key.append(None)
        return of_key[-1]

    def _remark(self, line: str) -> None:
        if line not in self.remarks:
            self.remarks.append(line)
            self.say(line)

    def _compiled(
        self, closure: "partial[Any]", tensors: list[Tensor], fixed: Kept, sizes: Sequence[Sizes]
    ) -> Graph:
        """A graph for these sizes, None being open."""
        missing: list[bool] = []
        names: list[str] = []

        def outputs(tensors: Sequence[Tensor]) -> list[Tensor]:
            with torch.enable_grad():
                losses, metrics = self.losses(with_leaves(closure, iter(tensors)))
                total = reduce(torch.add, losses.values())
            with torch.autograd.set_multithreading_enabled(False):  # so that the recorder sees it everywhere
                found = torch.autograd.grad(total, self.parameters, allow_unused=True)
            missing[:], names[:] = [g is None for g in found], list(metrics)
            with torch.no_grad():
                results = self._results(_as_parameters(found, self.parameters))
            return results + [value.detach() for value in metrics.values()]

        run, others, takes, times = record(outputs, self.parameters, tensors, sizes, self._remark)
        return Graph(run, others, sizes, takes, missing, names, fixed, *times)

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


def _as_parameters(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradients, each in memory of its own and laid out as its parameter."""
    found: list[Tensor | None] = []
    used: set[int] = set()
    for g, p in zip(gradients, parameters, strict=True):
        if g is not None:
            own = g.untyped_storage()._cdata not in used and g.stride() == p.stride()
            g = g if own else torch.empty_like(p).copy_(g)
            used.add(g.untyped_storage()._cdata)
        found.append(g)
    return found


def _reason(error: Exception) -> str:
    """Why nothing could be compiled, in a line."""
    text = str(error).strip()
    if "rnn_layer" in text:
        return "the kernel of an LSTM cannot be recorded"
    if said := text.partition("\nOutput:\n")[2].strip():
        return f"the C++ compiler says: {said.splitlines()[0]}"
    return f"{type(error).__name__}: {text.splitlines()[0]}"


def _on(device: torch.device, leaf: Tensor) -> Tensor:
    """A number where the parameters are: a CUDA graph would keep the one that it was recorded with."""
    return leaf if leaf.ndim or leaf.device == device else leaf.to(device, non_blocking=True)


def compiled_gradients(
    step: "GradientStep",
    losses: Callable[[Closure], tuple[dict[str, Tensor], Metrics]],
    say: Callable[[str], None],
) -> CompiledGradients:
    """Graphs for a step; ValueError where something of it needs the losses' own graphs."""
    reasons = {
        f"{type(step.optimizer).__name__} evaluates the loss again": step_needs_closure(type(step.optimizer)),
        f"{type(step.combine).__name__} takes the gradient of every loss": step.combine is not None,
        "float16 scales its loss": step.scaler is not None,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ValueError(reason)
    inside = step.transforms if all(type(t) in STATELESS for t in step.transforms) else ()
    return CompiledGradients(step.names, step.parameters, inside, losses, say)
