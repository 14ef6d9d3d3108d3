"""A compiled graph as one CUDA graph: a single call launches all of its kernels, whose memory stays in place.

What varies from call to call (a batch, the value of a schedule) is copied into tensors of the graph's own
first, and what comes out is copied out of it: the next call writes over nothing that is still in use.

Source: Nguyen et al. 2021, "Accelerating PyTorch with CUDA Graphs", PyTorch blog; torch.cuda.CUDAGraph.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UPS = 3  # calls on a stream of their own, in which kernels are loaded and workspaces made
Run = Callable[..., Sequence[Tensor]]


class Captured:
    """Calls a function of tensors by a CUDA graph.

    Args:
        run: the function; which kernels it launches must not depend on what the tensors hold.
        arguments: of it, all on one device.
        varying: the places of those that may be other tensors at the next call.
        rewind: puts back what `run` changes: generators, running statistics.

    Raises:
        ValueError: an argument is elsewhere, or the graph gives other numbers than the function.
        RuntimeError: CUDA cannot capture it.
    """

    def __init__(
        self, run: Run, arguments: Sequence[Tensor], varying: range, rewind: Callable[[], object]
    ) -> None:
        device = arguments[0].device
        if elsewhere := [t for t in arguments if t.device != device]:
            raise ValueError(f"a tensor of shape {tuple(elsewhere[0].shape)} is on {elsewhere[0].device}")
        self._run, self._varying = run, varying
        self._arguments = [t.clone() if i in varying else t for i, t in enumerate(arguments)]
        rewind()
        expected = [t.clone() for t in run(*self._arguments)]
        self._places = self._fixed_places(arguments)
        self._replay, self._results = repeated(lambda: run(*self._arguments), device)
        rewind()
        if not all(map(_equal, expected, self(*arguments))):
            raise ValueError("its CUDA graph gives other numbers")

    def __call__(self, *arguments: Tensor) -> Sequence[Tensor]:
        """The results for these arguments, in memory of their own."""
        if self._fixed_places(arguments) != self._places:  # somebody has given a parameter other memory
            return self._run(*arguments)
        for i in self._varying:
            self._arguments[i].copy_(arguments[i])
        self._replay()
        return copies(self._results)

    def _fixed_places(self, arguments: Sequence[Tensor]) -> list[int]:
        return [t.data_ptr() for i, t in enumerate(arguments) if i not in self._varying]


def repeated(
    call: Callable[[], Sequence[Tensor]], device: torch.device
) -> tuple[Callable[[], None], list[Tensor]]:
    """What repeats a call on the device, and the tensors that it writes its results to each time."""
    with torch.cuda.device(device):
        apart = torch.cuda.Stream()
        apart.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(apart):
            for _ in range(WARM_UPS):
                call()
        torch.cuda.current_stream().wait_stream(apart)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = list(call())
    return graph.replay, results


def copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of the same numbers and layouts, made by a few kernels for all of them."""
    made = [torch.empty_like(t) for t in tensors]  # a dense layout that is not the usual one is kept
    torch._foreach_copy_(made, list(tensors), non_blocking=True)
    return made


def _equal(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
