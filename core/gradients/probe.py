"""What a probe is: a measurement on a frozen batch that is too expensive for every step."""

from typing import Protocol

import torch
from torch import nn

from core.gradients.measured import Measured
from core.gradients.objective import Objective


class Probe(Protocol):
    """Measures, and changes nothing: no parameter, no `.grad`, no generator but the one that it is given."""

    @property
    def interval(self) -> int:
        """Optimizer steps between two measurements."""
        ...

    def check(self, network: nn.Module) -> None:
        """Raise ValueError when this network cannot be measured."""
        ...

    def __call__(self, objective: Objective, step: Measured, generator: torch.Generator) -> dict[str, float]:
        """The measured values by tag; undetermined ones are left out.

        Args:
            objective: the loss on a frozen batch.
            step: the `GradientStep` of these parameters; its optimizer knows learning rates and denominators.
            generator: on the CPU, made for this measurement alone.
        """
        ...
