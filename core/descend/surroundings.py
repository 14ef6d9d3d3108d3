"""What a map of a function of two variables shows beside the paths."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from core.descend.functions import CriticalPoint, Domain


@dataclass(frozen=True)
class Surroundings:
    """A function of two variables and what is known of it.

    Attributes:
        function: points [..., 2] to values [...].
        domain: what is shown.
        critical_points: those that are known.
        name: of the function, as its class is called.
    """

    function: Callable[[Tensor], Tensor]
    domain: Domain
    critical_points: tuple[CriticalPoint, ...]
    name: str

    def slopes(self, points: Tensor) -> Tensor:
        """Gradients [..., 2] at points [..., 2]."""
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.function(points).sum(), points)
        return gradient
