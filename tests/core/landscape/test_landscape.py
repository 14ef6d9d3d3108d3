"""Directions, surfaces, planes and spectra of a loss, against definitions and closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from core.gradients import Objective
from core.landscape.curvature import spectrum_of
from core.landscape.directions import filter_normalised, origin_of
from core.landscape.figures import loss_scale
from core.landscape.plane import path_plane
from core.landscape.surface import CONVOLUTIONS, losses_at, surface_of
from core.landscape.views import bend


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Point(nn.Module):
    """Parameters that are their own output."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(x)

    def forward(self, _: Tensor) -> Tensor:
        return self.x


def quadratic(a: Tensor, x: Tensor) -> Objective:
    """x^T A x / 2."""
    return Objective(Point(x), lambda forward, one: 0.5 * forward(one) @ a @ forward(one), [torch.ones(1)])


def regression(module: nn.Module, *shape: int, batch: int = 16) -> Objective:
    """Mean squared error on random samples of a shape."""
    x = torch.randn(batch, *shape, generator=generator(1))
    y = torch.randn(module(x).shape, generator=generator(2))
    return Objective(module, lambda forward, x, y: mse_loss(forward(x), y), (x, y))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_the_surface_of_a_quadratic_is_the_closed_form():
    root = torch.randn(6, 6, generator=generator(), dtype=torch.float64)
    a, x = root @ root.T, torch.randn(6, generator=generator(1), dtype=torch.float64)
    directions = torch.randn(2, 6, generator=generator(2), dtype=torch.float64)
    along, across = torch.linspace(-1, 1, 5), torch.linspace(-2, 2, 7)
    found = surface_of(quadratic(a, x), directions, along, across)
    assert found.values.shape == (7, 5)
    assert found.pointwise is None
    for i, v in enumerate(across.double()):
        for j, u in enumerate(along.double()):
            point = x + u * directions[0] + v * directions[1]
            assert found.values[i, j] == pytest.approx(float(0.5 * point @ a @ point), abs=1e-6)


def test_every_filter_of_a_direction_is_as_long_as_the_networks_own_and_biases_stay():
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(3, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36 * 4, 5)
    )
    objective = regression(net, 2, 7, 7)
    pieces = filter_normalised(objective, generator()).split([p.numel() for p in objective.parameters])
    named = dict(zip(objective.names, pieces, strict=True))
    for name, axis in {"0.weight": 0, "1.weight": 1, "4.weight": 0}.items():
        weight = net.get_parameter(name).detach().transpose(0, axis).flatten(1)
        direction = named[name].view_as(net.get_parameter(name)).transpose(0, axis).flatten(1)
        torch.testing.assert_close(direction.norm(dim=1), weight.norm(dim=1))
        assert torch.nn.functional.cosine_similarity(direction, weight).abs().max() < 0.95  # another way
    for name in ("0.bias", "1.bias", "2.weight", "2.bias", "4.bias"):
        assert not named[name].any()


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_filter_is_what_one_output_depends_on_in_grouped_layers_too(layer, groups):
    net = layer(4, 8, 2, groups=groups)
    with torch.no_grad():
        net.weight.mul_(torch.arange(1.0, net.weight.numel() + 1).view_as(net.weight))
    objective = regression(net, 4, 3, 3)
    pieces = filter_normalised(objective, generator()).split([p.numel() for p in objective.parameters])
    direction = pieces[objective.names.index("weight")].view_as(net.weight)
    outputs = net(torch.ones(1, 4, 3, 3)).sum((0, 2, 3))
    for output in outputs:
        (slope,) = torch.autograd.grad(output, net.weight, retain_graph=True)
        own = slope != 0
        assert own.sum() == 4 // groups * 4  # inputs of its group, times the kernel
        torch.testing.assert_close(direction[own].norm(), net.weight[own].norm())


def test_a_filter_direction_scales_with_the_layer_that_it_moves():
    first, second = nn.Linear(3, 4), nn.Linear(3, 4)
    second.load_state_dict({name: 10 * x for name, x in first.state_dict().items()})
    small, large = (filter_normalised(regression(net, 3), generator()) for net in (first, second))
    torch.testing.assert_close(large, 10 * small)


def test_without_a_matrix_there_is_no_filter():
    with pytest.raises(ValueError, match="no filters"):
        filter_normalised(quadratic(torch.eye(3), torch.ones(3)), generator())


NETWORKS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2)), (5,)),
    "dropout": (lambda: nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 2)), (5,)),
    "batch norm": (lambda: nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)), (5,)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten()), (1, 6, 6)),
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_many_points_at_once_give_the_losses_of_single_points(name):
    make, shape = NETWORKS[name]
    objective = regression(make(), *shape)
    buffers = {key: b.clone() for key, b in objective.module.named_buffers()}
    directions = torch.stack([filter_normalised(objective, generator(i)) for i in range(2)])
    coordinates = torch.randn(9, 2, generator=generator(3))
    before = torch.get_rng_state()
    whole, pointwise = losses_at(objective, directions, coordinates)
    chunks, _ = losses_at(objective, directions, coordinates, memory=1)
    assert pointwise == (CONVOLUTIONS if name == "convolution" else None)
    for at, loss in zip(coordinates, whole, strict=True):
        point = origin_of(objective) + at @ directions
        pieces = point.split([p.numel() for p in objective.parameters])
        parameters = {
            n: piece.view_as(p)
            for n, piece, p in zip(objective.names, pieces, objective.parameters, strict=True)
        }
        assert float(loss) == pytest.approx(float(objective(parameters).detach()), rel=1e-5)
    torch.testing.assert_close(chunks, whole, rtol=1e-5, atol=1e-7)
    assert all(torch.equal(b, buffers[key]) for key, b in objective.module.named_buffers())
    assert torch.equal(torch.get_rng_state(), before)


class Branching(nn.Module):
    """Decides on a value: cannot be mapped."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return y if y.sum() > 0 else 2 * y


def test_what_cannot_be_mapped_is_evaluated_point_by_point_and_says_so():
    objective = regression(Branching(), 3)
    direction = filter_normalised(objective, generator())[None]
    losses, pointwise = losses_at(objective, direction, torch.tensor([[0.0], [1.0]]))
    assert "data-dependent control flow" in str(pointwise)
    assert float(losses[0]) == pytest.approx(float(objective().detach()))
    with torch.no_grad():
        objective.module.linear.weight += direction[0, :6].view(2, 3)
    assert float(losses[1]) == pytest.approx(float(objective().detach()), rel=1e-5)


def test_a_path_in_a_known_plane_is_recovered():
    basis, _ = torch.linalg.qr(torch.randn(50, 2, generator=generator(), dtype=torch.float64))
    flat = torch.randn(9, 2, generator=generator(1), dtype=torch.float64) * torch.tensor([5.0, 1.0])
    path = flat @ basis.T + torch.randn(50, generator=generator(2), dtype=torch.float64)
    plane = path_plane(path)
    assert float(plane.shares.sum()) == pytest.approx(1.0, abs=1e-12)
    assert float(plane.distances.max()) < 1e-6  # the root of rounding
    torch.testing.assert_close(plane.axes @ plane.axes.T, torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(plane.axes @ basis @ basis.T, plane.axes)  # the axes lie in the plane
    torch.testing.assert_close(path[-1] + plane.coordinates @ plane.axes, path)
    assert plane.coordinates[0].min() >= 0
    assert plane.coordinates[-1].abs().max() < 1e-12


def test_a_stepped_helix_leaves_its_plane_by_its_height():
    # Two turns around the last point in quarter steps, one at height c, one at -c: no mixed moments, so the
    # plane is that of the turns, and every point but the last is c away from it.
    radius, c = 2.0, 0.5
    angles = [math.pi / 2 * k for k in range(8)]
    points = [(radius * math.cos(t), radius * math.sin(t), c if k < 4 else -c) for k, t in enumerate(angles)]
    path = torch.tensor([*points, (0.0, 0.0, 0.0)], dtype=torch.float64)
    plane = path_plane(path)
    torch.testing.assert_close(plane.distances, torch.tensor([c] * 8 + [0.0], dtype=torch.float64))
    total = 8 * radius**2 + 8 * c**2
    torch.testing.assert_close(plane.shares, torch.full((2,), 4 * radius**2 / total, dtype=torch.float64))


def test_distances_and_shares_are_those_of_a_singular_value_decomposition():
    path = torch.randn(7, 30, generator=generator()).cumsum(0)
    plane = path_plane(path)
    differences = (path - path[-1]).double().numpy()
    _, singular, rows = np.linalg.svd(differences, full_matrices=False)
    rest = differences - differences @ rows[:2].T @ rows[:2]
    np.testing.assert_allclose(plane.shares, singular[:2] ** 2 / (singular**2).sum(), rtol=1e-6)
    np.testing.assert_allclose(plane.distances, np.linalg.norm(rest, axis=1), rtol=1e-5, atol=1e-5)
    assert plane.axes.dtype == torch.float32


def test_a_straight_path_lies_in_its_plane_and_one_that_stands_still_has_none():
    line = torch.linspace(3, 0, 4, dtype=torch.float64)[:, None] * torch.ones(5, dtype=torch.float64)
    plane = path_plane(line)
    assert plane.shares.tolist() == pytest.approx([1.0, 0.0])
    assert float(plane.distances.max()) < 1e-12
    torch.testing.assert_close(plane.axes @ plane.axes.T, torch.eye(2, dtype=torch.float64))
    with pytest.raises(ValueError, match="have not moved"):
        path_plane(torch.ones(4, 5))
    with pytest.raises(ValueError, match="not finite"):
        path_plane(torch.full((4, 5), torch.nan))


def test_the_spectrum_of_a_known_matrix():
    # 3000 eigenvalues of 2, 1000 of -1: trace 5000, a share 1000 / 7000 of the absolute mass is negative.
    values = torch.cat([torch.full((3000,), 2.0), torch.full((1000,), -1.0)]).double()
    objective = Objective(
        Point(torch.ones(4000, dtype=torch.float64)),
        lambda forward, one: 0.5 * (values * forward(one).square()).sum(),
        [torch.ones(1)],
    )
    found = spectrum_of(objective, generator())
    assert (found.size, found.top, found.bottom) == (4000, pytest.approx([2, -1]), pytest.approx([-1, 2]))
    assert found.trace == pytest.approx(5000, abs=4 * found.trace_error)
    assert found.trace_error < 50
    assert found.negative_mass == pytest.approx(1 / 7, abs=0.02)
    density = found.density
    assert float(density.weights[density.nodes < 0.0].sum()) == pytest.approx(0.25, abs=0.03)
    assert found.gradient_norm == pytest.approx(math.sqrt(3000 * 4 + 1000))
    area = torch.trapezoid(found.density.density, found.density.grid)
    assert float(area) == pytest.approx(1.0)


def test_losses_of_a_bowl_are_shown_evenly_and_those_of_a_ravine_by_decades():
    x, y = np.meshgrid(np.linspace(-1, 1, 51), np.linspace(-1, 1, 51))
    bowl = loss_scale(x**2 + y**2 - 0.3)
    assert bowl.linear
    np.testing.assert_allclose(np.diff(bowl.levels), 2 / 14)
    ravine = loss_scale(x**2 + 1e4 * y**4 - 0.3)
    assert not ravine.linear
    ratios = np.diff(ravine.levels)[1:] / np.diff(ravine.levels)[:-1]
    assert (ratios >= 1).all()
    assert ratios[-1] > 1.5  # far up the bands grow like a power
    assert (ravine.levels[0], ravine.levels[-1]) == (pytest.approx(-0.3), pytest.approx(1e4 + 0.7))
    np.testing.assert_allclose(ravine.height(ravine.levels), np.linspace(0, 1, 15))


def test_a_scale_bears_what_is_flat_or_not_finite():
    for values in (np.full(4, 3.0), np.array([np.nan, np.inf]), np.array([1.0, np.nan, 2.0])):
        scale = loss_scale(values)
        assert (np.diff(scale.levels) > 0).all()
    assert np.isnan(scale.height(np.array([np.inf, np.nan]))).all()


@pytest.mark.parametrize("slope", [0.0, 3.0])
def test_how_far_a_loss_bends_down_is_told_without_its_slope(slope):
    """c(t) = slope t - t^2 + t^4: curvature -2 at the centre, and the mean of both sides is 0 at 1."""
    steps = torch.logspace(-2, 0.5, 200, dtype=torch.float64)

    def change(t: Tensor) -> Tensor:
        return slope * t - t**2 + t**4

    assert bend(steps, change(steps), change(-steps)) == pytest.approx(1.0, abs=2e-3)
    near = steps[steps < 0.9]
    assert bend(near, change(near), change(-near)) == float(near[-1])  # as far as that is known
    assert bend(steps, steps**2, steps**2) == 0.0
    lost = torch.where(steps < 0.5, change(steps), torch.inf)
    assert 0.45 < bend(steps, lost, change(-steps)) <= 0.5
