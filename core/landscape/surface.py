"""The loss of a frozen batch at many points of a plane or a line through parameter space.

Many parameter vectors are evaluated at once by `torch.func.vmap`, as many as fit in a bounded memory; a
network that cannot be mapped is evaluated point by point, as is one with convolutions on the CPU, and the
result says why.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn.modules.conv import _ConvNd

from core.curvature.products import Layout
from core.gradients import Objective
from core.gradients.objective import own_randomness

# With weights of its own for every sample a convolution becomes a grouped one: two layers of a DCGAN took
# four times as long as point by point.
CONVOLUTIONS = "convolutions are faster so on the CPU"
MEMORY = 256_000_000  # bytes that the points evaluated at once may take, about


@dataclass(frozen=True)
class Surface:
    """A loss over a plane; float64 on the CPU.

    Attributes:
        x, y: coordinates along the two directions, [X] and [Y].
        values: the loss at (x[j], y[i]), [Y, X]; not finite where it is not.
        pointwise: why it was evaluated point by point; None = many points at once.
    """

    x: Tensor
    y: Tensor
    values: Tensor
    pointwise: str | None


def surface_of(objective: Objective, directions: Tensor, x: Tensor, y: Tensor) -> Surface:
    """The loss at the parameters + x d_0 + y d_1 for all pairs of x and y.

    Args:
        objective: loss and frozen batch.
        directions: [2, d].
        x: coordinates along the first, [X].
        y: coordinates along the second, [Y].
    """
    x, y = x.double(), y.double()
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    values, pointwise = losses_at(objective, directions, grid.flatten(0, 1))
    return Surface(x, y, values.view(len(y), len(x)), pointwise)


def losses_at(
    objective: Objective, directions: Tensor, coordinates: Tensor, memory: int = MEMORY
) -> tuple[Tensor, str | None]:
    """The loss at the parameters + coordinates @ directions; nothing of the module is changed.

    Args:
        objective: loss and frozen batch; the buffers of its module are the same at every point.
        directions: of all parameters, flat, [k, d].
        coordinates: [n, k].
        memory: bytes that the points evaluated at once may take.

    Returns:
        The losses, float64 [n] on the CPU; and why they were taken point by point, or None.
    """
    layout = Layout(objective.parameters)
    origin = layout.join(objective.parameters)
    directions = directions.to(layout.device, layout.dtype)
    coordinates = coordinates.to(layout.device, layout.dtype)
    rows = coordinates.split(max(1, memory // bytes_of_point(objective)))
    losses: list[Tensor] = []
    convolves = any(isinstance(module, _ConvNd) for module in objective.module.modules())
    pointwise = CONVOLUTIONS if convolves and layout.device.type == "cpu" else None
    for some in rows:
        points = origin + some @ directions
        if pointwise is None:
            try:
                losses.append(_mapped(objective, layout, points))
                continue
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, ValueError) as error:
                pointwise = str(error).strip().splitlines()[0]
        losses += [_single(objective, layout, point)[None] for point in points]
    return torch.cat(losses).cpu(), pointwise


def bytes_of_point(objective: Objective) -> int:
    """What one point takes: its parameters, and what a forward pass would keep for the backward pass."""
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        objective()
    return sum(p.numel() * p.element_size() for p in objective.parameters) + sum(kept.values())


def _mapped(objective: Objective, layout: Layout, points: Tensor) -> Tensor:
    """Losses of several points at once, float64 [c].

    The buffers are mapped too: a running statistic that each point writes must be its own.
    """
    columns = points.split(layout.sizes, dim=1)
    named = zip(objective.names, columns, layout.parameters, strict=True)
    parameters = {name: x.reshape(-1, *p.shape).to(p.dtype) for name, x, p in named}
    for name, buffer in objective.module.named_buffers():
        parameters[name] = buffer.expand(len(points), *buffer.shape).clone()

    def loss(at: dict[str, Tensor]) -> Tensor:
        return objective.on(objective.batch, at)

    with own_randomness(objective), torch.no_grad():
        return vmap(loss, randomness="same")(parameters).double()


def _single(objective: Objective, layout: Layout, point: Tensor) -> Tensor:
    parameters = dict(zip(objective.names, layout.split(point), strict=True))
    return objective(parameters).detach().double()
