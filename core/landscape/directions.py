"""Directions in parameter space that a slice or a surface of a loss is taken along.

Rectified networks are the same function when one layer is scaled up and the next one down, so a step of
length 1 along a random direction means nothing by itself. Filter normalisation makes it a step of the
network's own size: every filter of the direction is as long as the network's filter that it moves.

Source: Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets", arXiv:1712.09913, section 4.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from core.curvature.products import Layout
from core.gradients import Objective


def origin_of(objective: Objective) -> Tensor:
    """The parameters as they now are, flat, [d], a copy."""
    return Layout(objective.parameters).join(objective.parameters)


def filter_normalised(objective: Objective, generator: torch.Generator) -> Tensor:
    """A random direction, every filter of which is as long as the network's own, flat, [d].

        d_f <- d_f |w_f| / |d_f|,   d normal

    A filter is what makes one output: a row of a matrix, a kernel [in, h, w] of a convolution, in a
    transposed convolution [in, out / groups, h, w] the slice of one output and of the inputs of its group.
    Parameters of one dimension (biases, gains) and of none stay where they are, their direction is 0.

    Args:
        objective: whose parameters, as they now are, give the lengths.
        generator: draws the direction, on the CPU.

    Raises:
        ValueError: no parameter has two dimensions or more.
    """
    layout = Layout(objective.parameters)
    pieces: list[Tensor | None] = []
    for name, weight in zip(objective.names, objective.parameters, strict=True):
        drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float32).to(weight)
        pieces.append(_scaled(drawn, weight.detach(), _transposed_groups(objective.module, name)))
    if all(piece is None for piece in pieces):
        raise ValueError("no parameter has two dimensions or more, so there are no filters to normalise by")
    return layout.join(pieces)


def _transposed_groups(module: nn.Module, name: str) -> int | None:
    """Groups of the transposed convolution that a parameter belongs to; None where it belongs to none."""
    inside = dict(module.named_modules())
    while name:
        name = name.rpartition(".")[0]
        if isinstance(layer := inside.get(name), _ConvTransposeNd):
            return layer.groups
    return None


def _scaled(drawn: Tensor, weight: Tensor, groups: int | None) -> Tensor | None:
    """The direction with the weight's own filter lengths; None for what has no filters."""
    if weight.dim() < 2:
        return None
    if groups is not None:  # [groups, in / groups, out / groups, h, w]: a filter is a group and an output
        weight, drawn = (x.unflatten(0, (groups, -1)) for x in (weight, drawn))
    outputs = {0} if groups is None else {0, 2}
    others = [i for i in range(weight.dim()) if i not in outputs]
    wanted, own = (torch.linalg.vector_norm(x, dim=others, keepdim=True) for x in (weight, drawn))
    scaled = drawn * wanted / own.clamp(min=torch.finfo(drawn.dtype).tiny)
    return scaled if groups is None else scaled.flatten(0, 1)
