"""What a probe is: a measurement too dear for every step, on a frozen batch, every so many iterations."""

from typing import Protocol

import torch
from torch import nn

from core.gradients.objective import Objective
from core.gradients.step import GradientStep


class Probe(Protocol):
    """Measures without changing anything: no parameter, no `.grad`, no generator but the one it is given."""

    @property
    def interval(self) -> int:
        """Optimizer steps between two measurements."""
        ...

    def check(self, network: nn.Module) -> None:
        """Raise ValueError when this network cannot be measured."""
        ...

    def __call__(
        self, objective: Objective, step: GradientStep, generator: torch.Generator
    ) -> dict[str, float]:
        """What was found, by tag; what is undetermined is left out.

        Args:
            objective: the loss on a frozen batch.
            step: whose parameters these are; its optimizer tells learning rates and denominators.
            generator: on the CPU, fresh for this measurement.
        """
        ...
