"""A function of your own to descend: one class, and one YAML file that gives it a short name.

python examples/own_function.py function._target_=own_function.Ripples
PYTHONPATH=examples python scripts/descend.py --config-dir examples/conf function=ripples function.depth=0.8

The second command finds examples/conf/function/ripples.yaml. Python must be able to import the module that
`_target_` names, so its folder is on PYTHONPATH (the folder of a script always is). Everything works as it
does for the built-in functions: several optimizers, the kind of point, pictures, the map of basins, which
finds minima that are not listed.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from core.checks import checked
from core.cli.command import launch


@dataclass(frozen=True, kw_only=True)
@checked
class Ripples:
    """A bowl with ring-shaped ripples; the shallow valleys between them stop what arrives slowly.

    Attributes:
        depth: of the ripples.
    """

    depth: Annotated[float, Ge(0)] = 0.5

    dim = 2
    start = (3.0, 1.0)
    domain = ((-4.0, 4.0), (-4.0, 4.0))  # what pictures show
    critical_points = ()  # those that are known, here none

    def __call__(self, x: Tensor) -> Tensor:
        """Values [...] at points [..., 2]."""
        squared = x.square().sum(-1)
        return 0.1 * squared + self.depth * (1 - torch.cos(2 * squared.clamp(min=1e-12).sqrt()))


if __name__ == "__main__":
    launch("descend")
