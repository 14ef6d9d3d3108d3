"""A probe of your own: a measurement that is too expensive for every step, on a frozen batch.

python examples/own_probe.py probe.flatness._target_=own_probe.Flatness probe.flatness.interval=200

What the class must have stands in core.gradients.probe.Probe. Where it fails it is left out, said once.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import nn

from core.checks import checked
from core.cli.command import launch
from core.gradients import Objective
from core.gradients.measured import Measured


@dataclass(frozen=True, kw_only=True)
@checked
class Flatness:
    """How far the loss rises when every parameter is moved at random."""

    interval: Annotated[int, Ge(1)] = 500  # optimizer steps between two measurements
    std: Annotated[float, Gt(0)] = 0.01  # of what is added to each parameter

    def check(self, network: nn.Module) -> None:
        """Raise ValueError where a network cannot be measured; this takes any."""

    def __call__(self, objective: Objective, step: Measured, generator: torch.Generator) -> dict[str, float]:
        """Values by tag; it changes nothing, and draws from its own generator alone."""
        named = dict(zip(objective.names, objective.parameters, strict=True))
        moved = {n: p + self.std * torch.randn(p.shape, generator=generator).to(p) for n, p in named.items()}
        return {"flatness/rise": (objective(moved) - objective()).item()}


if __name__ == "__main__":
    launch("rl", by_id="env")
