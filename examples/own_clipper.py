"""A gradient transform of your own: here every gradient keeps its direction and gets one length.

python examples/own_clipper.py clipper._target_=own_clipper.UnitLength clipper.length=0.5

What the class must have stands in core.gradients.Transform, and for several losses in core.gradients.Combine.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt

from core.checks import Finite, checked
from core.cli.command import launch
from core.gradients import GradientView
from core.state import StateDict


@dataclass(frozen=True, kw_only=True)
@checked
class UnitLength:
    """Scale all gradients together to the joint norm `length`."""

    length: Annotated[float, Gt(0), Finite] = 1.0

    def __call__(self, gradients: GradientView, state: StateDict) -> None:
        """Change the gradients in place; what is to be kept until the next step goes into `state`."""
        torch._foreach_mul_(gradients.dense(), self.length / (gradients.norm + 1e-12))
        gradients.changed()  # the norms that were measured before no longer hold


if __name__ == "__main__":
    launch("rl", by_id="env")
