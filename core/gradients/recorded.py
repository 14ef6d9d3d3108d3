"""Records what a function of tensors does, and compiles it: a graph of whatever it reads.

The function is called once on real tensors, to find those that it reads without being given them (parameters
of other networks, running statistics), and once to be recorded. Both leave nothing behind.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from core.gradients.captured import Captured
from core.gradients.norms import recording

TRIALS = 5  # calls that are timed, with and without the graph
FIXED = nullcontext()
Sizes = tuple[int | None, ...]  # of a tensor; None = open


def opened_sizes(first: Sequence[Sizes], second: Sequence[Sizes]) -> list[Sizes]:
    """Those sizes that are the same twice; the others are open."""
    pairs = zip(first, second, strict=True)
    return [tuple(a if a == b else None for a, b in zip(x, y, strict=True)) for x, y in pairs]


def open_size(mine: Sequence[Sizes], theirs: Sequence[Sizes]) -> int | None:
    """The size that stands where mine is open; None if it is open nowhere.

    Raises:
        ValueError: two different ones do, or others differ.
    """
    pairs = [pair for x, y in zip(mine, theirs, strict=True) for pair in zip(x, y, strict=True)]
    opened = {b for a, b in pairs if a is None}
    if len(opened) > 1 or any(a not in (None, b) for a, b in pairs):
        raise ValueError("its tensors vary in more than one size")
    return opened.pop() if opened else None


def record(
    outputs: Callable[[Sequence[Tensor]], list[Tensor]],
    parameters: Sequence[Tensor],
    tensors: Sequence[Tensor],
    sizes: Sequence[Sizes],
    say: Callable[[str], None],
) -> tuple[Callable[..., Sequence[Tensor]], list[Tensor], Callable[[int], bool], tuple[float, float]]:
    """Compile a function.

    Args:
        outputs: the function, of tensors like `tensors`.
        parameters: what it takes gradients of.
        tensors: an example of what it is called with.
        sizes: of each; None = the graph takes any, the same in all that are None.
        say: takes one line about why it is no CUDA graph on a device that has them; of open sizes none is.

    Returns:
        The compiled function, of parameters, tensors and further ones, on CUDA a CUDA graph; the further
        ones; whether it takes a size that is open; the seconds that compiling took and those that one call
        saves.
    """
    from torch._inductor import standalone_compile
    from torch.fx.experimental.proxy_tensor import make_fx

    began = time.perf_counter()
    inputs = [t.detach() for t in tensors]  # objects of their own: the recorder knows them by identity
    reading = Reading([*parameters, *inputs])
    with torch.random.fork_rng(_accelerators(parameters)), undone(reading):
        with reading, recording():
            outputs(inputs)
        examples, mode = _examples(inputs, sizes)
        with recording(), mode:
            arguments = [*parameters, *examples, *reading.others]
            recorded = make_fx(lambda *_: outputs(examples), _fusible())(*arguments)
        others = _only_used(recorded, len(parameters) + len(examples), reading.others)
        arguments = [*parameters, *inputs, *others]
        with torch.no_grad():
            run = _despite_leftovers(
                lambda: standalone_compile(
                    recorded,
                    [*(p.detach() for p in parameters), *examples, *(t.detach() for t in others)],
                    dynamic_shapes="from_example_inputs" if mode is FIXED else "from_graph",
                    options={"config_patches": {"fallback_random": True}},  # what eager torch draws
                )
            )
            run(*arguments)
            if parameters[0].device.type == "cuda" and mode is FIXED:
                run = _as_cuda_graph(
                    run, arguments, range(len(parameters), len(parameters) + len(inputs)), reading, say
                )
            compile_s = time.perf_counter() - began
            graph_s = _seconds(partial(run, *arguments))
        eager_s = _seconds(partial(outputs, inputs))
    return run, others, _allowed(examples, mode), (compile_s, eager_s - graph_s)


def _as_cuda_graph(
    run: Callable[..., Sequence[Tensor]],
    arguments: Sequence[Tensor],
    varying: range,
    reading: "Reading",
    say: Callable[[str], None],
) -> Callable[..., Sequence[Tensor]]:
    """The function as a CUDA graph, if it can be one."""
    generators = torch.cuda.get_rng_state(arguments[0].device)

    def rewind() -> None:
        torch.cuda.set_rng_state(generators, arguments[0].device)
        reading.put_back()

    try:
        return Captured(run, arguments, varying, rewind)
    except (RuntimeError, ValueError) as error:
        say(f"runs without a CUDA graph: {str(error).strip().splitlines()[0]}")
        return run


def _allowed(examples: Sequence[Tensor], mode: Any) -> Callable[[int], bool]:
    """Whether a size fulfils what recorder and compiler have assumed of the open one."""
    symbols = [n for x in examples for n in x.shape if not isinstance(n, int)]
    if not symbols:
        return lambda size: True
    env, assumed = mode.shape_env, mode.shape_env.produce_guards_expression(symbols[:1])
    return lambda size: size > 1 and (not assumed or env.evaluate_guards_expression(assumed, [size]))


def _examples(inputs: list[Tensor], sizes: Sequence[Sizes]) -> tuple[list[Tensor], Any]:
    """What the recorder calls the function with: the inputs, or fakes with open sizes in their own mode."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

    if all(size is not None for each in sizes for size in each):
        return inputs, FIXED
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    kinds = {True: DimDynamic.DUCK, False: DimDynamic.STATIC}  # sizes that are the same have one symbol
    return [
        mode.from_tensor(x, symbolic_context=StatelessSymbolicContext([kinds[n is None] for n in each]))
        for x, each in zip(inputs, sizes, strict=True)
    ], mode


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

    def put_back(self) -> None:
        """Undo what was written to the tensors that were read."""
        for t, value in self.before:
            if not torch.equal(t, value):
                t.copy_(value)


@contextmanager
def undone(reading: Reading) -> Iterator[None]:
    """Put back what was written to the tensors that were read (running statistics)."""
    try:
        yield
    finally:
        reading.put_back()


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


def _despite_leftovers(compiled: Callable[[], Any]) -> Any:
    """What is compiled, made anew where the cache holds halves of libraries that killed runs have left."""
    removed: set[str] = set()
    while True:
        try:
            return compiled()
        except Exception as error:  # the compiler wraps the ImportError as it likes
            broken = re.search(r"(\S+\.so): (?:file too short|invalid ELF header)", str(error))
            if broken is None or broken[1] in removed:
                raise
            removed.add(broken[1])
            Path(broken[1]).unlink(missing_ok=True)


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
