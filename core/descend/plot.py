"""What a network says over the plane of its samples, where these have two numbers and two classes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.descend.objectives import Data

GRID = 41  # points along each axis
FRAMES = 40  # moments of a training that are kept, at most
MARGIN = 0.15  # of the samples' extent, on each side


@dataclass(frozen=True)
class Plot:
    """Points over a plane.

    Attributes:
        x: along the first axis, [GRID].
        y: along the second, [GRID].
    """

    x: Tensor
    y: Tensor

    @classmethod
    def of(cls, data: Data) -> "Plot":
        """A plane that holds all samples, those held out too."""
        every = torch.cat([data.x, data.held_out_x]).cpu()
        low, high = every.min(0).values, every.max(0).values
        margin = MARGIN * (high - low)
        lines = zip((low - margin).tolist(), (high + margin).tolist(), strict=True)
        return cls(*(torch.linspace(*ends, GRID, dtype=torch.float64) for ends in lines))

    @torch.no_grad()
    def row(self, network: nn.Module, step: int) -> Tensor:
        """The step, and the probability of class 1 at each point of the grid, [1 + GRID^2], float32.

        The network has one output, the logit of class 1, or one for each class.
        """
        grid = torch.cartesian_prod(self.y, self.x).flip(1)
        output = network(grid.to(next(network.parameters()).device)).cpu()
        share = output.softmax(1)[:, 1] if output.shape[1] == 2 else output[:, 0].sigmoid()
        return torch.cat([torch.tensor([float(step)]), share.float()])
