"""The limit of a step: its matrix products and convolutions alone, called again on the same tensors.

What a step calls is noted while it runs, so the limit has its shapes, layouts and precision, whatever the
networks. Everything else that a step does (activations, normalisation, losses, clipping, the optimizer, the
loop) costs what it takes beyond this.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
PRODUCTS = {
    aten.mm.default,
    aten.addmm.default,
    aten.bmm.default,
    aten.baddbmm.default,
    aten.convolution.default,
    aten.convolution_backward.default,
}


class Products(TorchDispatchMode):
    """Notes every matrix product and convolution, forward and backward.

    Attributes:
        calls: each with its tensors.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], object]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in PRODUCTS:
            self.calls.append(partial(func, *args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))

    @torch.no_grad()
    def again(self) -> None:
        """Call all of them once more."""
        for call in self.calls:
            call()


def cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended: a C++ compiler's count."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of one call in this process."""
    began = time.process_time()
    call()
    return time.process_time() - began


def pays_after(cost_s: float, slow: float, fast: float) -> str:
    """How many units of work make up for `cost_s`, at these units a second; in words where none do."""
    return f"{cost_s / (1 / slow - 1 / fast):,.0f}" if fast > slow else "never"
