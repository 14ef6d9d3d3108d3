"""An optimizer that is never called, although backward gives its parameters a gradient."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from core.watch.guard import Guard
from core.watch.models import is_lazy

MANY = 50  # gradients that were cleared unused, after which it is said; accumulation clears none of them
GAME = 1000  # the same while another optimizer steps: the players of a game may take turns of any length


class Idle:
    """Counts the gradients that are thrown away before an optimizer's first step, at one of its parameters.

    Args:
        parameters: that it holds.
        guarded: makes a hook that never ends the training.
        report: called once, when there are many.

    Attributes:
        unused: gradients that backward had added to `.grad`, and that were gone at the next backward pass.
    """

    def __init__(self, parameters: Sequence[Tensor], guarded: Guard, report: Callable[[], None]) -> None:
        self.unused = 0
        self._came = self._gone = False
        self._report = report
        own = [p for p in parameters if p.requires_grad and not is_lazy(p)]
        self._parameter = own[-1] if own else torch.zeros(0, requires_grad=True)
        self._first = self._parameter.detach().clone()
        self._handles = [
            self._parameter.register_hook(guarded(self._comes)),
            self._parameter.register_post_accumulate_grad_hook(guarded(self._has_come)),
        ]

    @property
    def moved(self) -> bool:
        """Whether something else has moved the parameter meanwhile."""
        return not torch.equal(self._first, self._parameter)

    def stop(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()

    def _comes(self, gradient: Tensor) -> None:
        """Before a gradient is added; one that `torch.autograd.grad` only returns is not."""
        there = self._parameter.grad
        if there is not None and there.is_sparse:
            there = there.coalesce().values()
        self._gone = self._came and (there is None or not there.any())

    def _has_come(self, parameter: Tensor) -> None:
        self._came = True
        self.unused += self._gone
        if self._gone and self.unused == MANY:
            self._report()
