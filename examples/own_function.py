"""A function of your own to descend: one class here; a YAML beside it where it deserves a short name.

python examples/own_function.py function._target_=own_function.Ripples
PYTHONPATH=examples python scripts/descend.py --config-dir examples/conf function=ripples function.depth=0.8

The second finds examples/conf/function/ripples.yaml. Python must be able to import the module that `_target_`
names: hence the folder on PYTHONPATH, where a script's own folder is anyway. Everything works as it does for
the functions that are here: several optimizers, the kind of point, pictures, the map of basins, which finds
minima that nobody has listed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.checks import require
from core.cli.launch import launch


@dataclass(frozen=True, kw_only=True)
class Ripples:
    """A bowl with ring-shaped ripples; the shallow valleys between them catch what comes slowly.

    Attributes:
        depth: of the ripples; >= 0.
    """

    depth: float = 0.5

    dim = 2
    start = (3.0, 1.0)
    domain = ((-4.0, 4.0), (-4.0, 4.0))  # what pictures show
    critical_points = ()  # those that are known, here none

    def __post_init__(self) -> None:
        require(self.depth >= 0, "depth", self.depth, "a number >= 0")

    def __call__(self, x: Tensor) -> Tensor:
        """Values [...] at points [..., 2]."""
        squared = x.square().sum(-1)
        return 0.1 * squared + self.depth * (1 - torch.cos(2 * squared.clamp(min=1e-12).sqrt()))


if __name__ == "__main__":
    launch("descend")
