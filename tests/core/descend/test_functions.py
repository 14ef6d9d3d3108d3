"""Analytic functions: values, Hessian eigenvalues and kinds of all known critical points."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from core.curvature.critical import classify, derivatives
from core.descend.function_descent import FunctionDescent
from core.descend.functions import (
    Ackley,
    Beale,
    Booth,
    DoubleWell,
    Function,
    Himmelblau,
    MonkeySaddle,
    PlaneFunction,
    Quadratic,
    Rastrigin,
    Rosenbrock,
    SixHumpCamel,
    require_form,
)
from core.descend.pictures.basin_map import draw_basins
from core.descend.pictures.maps import draw_paths, levels_of
from core.descend.trajectory import Trajectory
from core.gradients import GradientStep

SMOOTH = [
    Rosenbrock(),
    Beale(),
    Himmelblau(),
    MonkeySaddle(),
    DoubleWell(),
    SixHumpCamel(),
    Booth(),
    Rastrigin(),
    Quadratic(),
]
IN_MORE_DIMENSIONS = [Rosenbrock(dim=7), Rastrigin(dim=1), Rastrigin(dim=5), Quadratic(dim=6)]
EVERY = [*SMOOTH, Ackley(), *IN_MORE_DIMENSIONS, Ackley(dim=4)]


def name(function: Function) -> str:
    return f"{type(function).__name__}{function.dim}"


def tensor(*point: float) -> Tensor:
    return torch.tensor(point, dtype=torch.float64)


RASTRIGIN_TOP, RASTRIGIN_HOLE = 2 + 40 * math.pi**2, 396.586138
TABLE = [
    (Rosenbrock(), (1, 1), 0, (0.399361, 1001.600639), 0),
    (Beale(), (3, 0.5), 0, (0.301464, 48.979786), 0),
    (Beale(), (0, 1), 14.203125, (-27.75, 27.75), 1),
    (Beale(), (0.10053794, -2.64451359), 9.864512, (-0.781027, 867.752179), 1),
    (Himmelblau(), (3, 2), 0, (25.715729, 82.284271), 0),
    (Himmelblau(), (-2.80511809, 3.13131252), 0, (64.840373, 80.550072), 0),
    (Himmelblau(), (-3.77931025, -3.28318599), 0, (70.714355, 133.785615), 0),
    (Himmelblau(), (3.58442834, -1.84812653), 0, (28.690677, 105.418908), 0),
    (Himmelblau(), (3.38515418, 0.07385188), 13.311926, (-14.135178, 97.547878), 1),
    (Himmelblau(), (0.08667750, 2.88425470), 67.719150, (-31.706622, 75.507609), 1),
    (Himmelblau(), (-3.07302575, -0.08135304), 104.015163, (-39.651496, 72.435248), 1),
    (Himmelblau(), (-0.12796135, -1.95371498), 178.337239, (-50.610239, 20.284050), 1),
    (Himmelblau(), (-0.27084459, -0.92303856), 181.616522, (-45.605229, -16.066020), 2),
    (MonkeySaddle(), (0, 0), 0, (0, 0), 0),
    (DoubleWell(), (1, 0), 0, (2, 8), 0),
    (DoubleWell(), (-1, 0), 0, (2, 8), 0),
    (DoubleWell(), (0, 0), 1, (-4, 2), 1),
    (SixHumpCamel(), (0.08984201, -0.71265640), -1.03162845, (7.682251, 16.493195), 0),
    (SixHumpCamel(), (-0.08984201, 0.71265640), -1.03162845, (7.682251, 16.493195), 0),
    (Booth(), (1, 3), 0, (2, 18), 0),
    (Rastrigin(), (0, 0), 0, (RASTRIGIN_TOP, RASTRIGIN_TOP), 0),
    (Rastrigin(), (0.99495864, 0), 0.994959, (RASTRIGIN_HOLE, 396.784176), 0),
    (Rastrigin(), (0.50254604, 0), 20.251273, (-392.733662, 396.784176), 1),
    (Rastrigin(), (-0.50254604, 0.50254604), 40.502546, (-392.733662, -392.733662), 2),
    (Quadratic(condition_number=7.0), (0, 0), 0, (1, 7), 0),
    (Quadratic(dim=3, condition_number=100.0), (0, 0, 0), 0, (1, 10, 100), 0),
]


@pytest.mark.parametrize(("function", "x", "value", "eigenvalues", "index"), TABLE, ids=str)
def test_values_eigenvalues_and_indices_are_the_analytic_ones(function, x, value, eigenvalues, index):
    root = tensor(*x)
    for _ in range(3):  # from eight decimals to all of them
        _, gradient, curvature = derivatives(function, root)
        root = root - torch.linalg.pinv(curvature) @ gradient
    torch.testing.assert_close(root, tensor(*x), rtol=0, atol=1e-8)
    found, gradient, curvature = derivatives(function, root)
    point = classify(gradient, curvature)
    assert found.item() == pytest.approx(value, abs=1e-6)
    assert point.eigenvalues == pytest.approx(eigenvalues, abs=1e-6)
    assert point.saddle_index == index
    assert point.gradient_norm < 1e-12


@pytest.mark.parametrize("function", [*SMOOTH, *IN_MORE_DIMENSIONS], ids=name)
def test_every_listed_critical_point_is_one_of_its_kind(function):
    assert function.critical_points
    for known in function.critical_points:
        value, gradient, curvature = derivatives(function, tensor(*known.point))
        found = classify(gradient, curvature)
        assert found.kind == known.kind, known
        assert value.item() == pytest.approx(known.value, abs=1e-9)
        assert found.gradient_norm < 2e-7, known


@pytest.mark.parametrize(("function", "x", "value", "eigenvalues", "index"), TABLE, ids=str)
def test_eight_decimals_of_a_critical_point_are_enough_to_tell_its_kind(
    function, x, value, eigenvalues, index
):
    """What `steps=0` writes."""
    dim, flat = len(x), any(v == 0 for v in eigenvalues)
    kind = "degenerate" if flat else "minimum" if index == 0 else "maximum" if index == dim else "saddle"
    fields = FunctionDescent(function, x, torch.device("cpu")).fields()
    assert (fields["critical_point"], fields["saddle_index"]) == (kind, index)
    assert fields["hessian_eigenvalues"] == pytest.approx(eigenvalues, abs=1e-4)


@pytest.mark.parametrize(
    "function", [*SMOOTH[:3], *SMOOTH[4:], Rosenbrock(dim=5), Rastrigin(dim=3), Quadratic(dim=6)], ids=name
)
def test_a_descent_from_nearby_comes_to_the_minimum_and_says_so(function):
    for known in (c for c in function.critical_points if c.kind == "minimum"):
        offset = [0.04 * (-1) ** i for i in range(function.dim)]
        start = [a + b for a, b in zip(known.point, offset, strict=True)]
        descent = FunctionDescent(function, start, torch.device("cpu"))
        optimizer = torch.optim.LBFGS([descent.x], line_search_fn="strong_wolfe", tolerance_change=1e-16)
        step = GradientStep(descent.named, optimizer)
        for _ in range(3):
            step(descent.next())
        fields = descent.fields()
        assert fields["critical_point"] == "minimum", known
        assert fields["x"] == pytest.approx(known.point, abs=1e-5)


def newton(function: Function, x: Tensor) -> Tensor:
    """Roots of the gradient that Newton's method finds from many starts, [k, 2]."""
    for _ in range(40):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
        rows = [torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True)[0] for i in range(2)]
        step = (torch.linalg.pinv(torch.stack(rows, 1)) @ slope[..., None])[..., 0]
        x = x - step / torch.linalg.vector_norm(step, dim=1, keepdim=True).clamp(min=1)
    return x[torch.linalg.vector_norm(slope, dim=1) < 1e-9].detach()


@pytest.mark.parametrize("function", [*SMOOTH[:3], *SMOOTH[4:8]], ids=name)
def test_no_critical_point_of_the_domain_is_missing_from_the_list(function):
    box = ((-1.0, 1.0), (-1.0, 1.0)) if isinstance(function, Rastrigin) else function.domain
    axes = [torch.linspace(low, high, 16, dtype=torch.float64) for low, high in box]
    roots = newton(function, torch.cartesian_prod(*axes) + 1e-3)
    low, high = tensor(*(b[0] for b in box)), tensor(*(b[1] for b in box))
    inside = roots[((roots >= low) & (roots <= high)).all(1)]
    known = torch.stack([tensor(*c.point) for c in function.critical_points])
    distance = torch.cdist(inside, known)
    assert distance.amin(1).max() < 1e-7  # every root is listed
    assert distance.amin(0).max() < 1e-7  # every listed point is found


@pytest.mark.parametrize("function", EVERY, ids=name)
def test_a_batch_of_points_gives_the_values_of_each_and_bad_points_are_refused(function):
    x = torch.randn(3, 4, function.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = function(x)
    assert values.shape == (3, 4)
    alone = torch.stack([function(row) for row in x.reshape(-1, function.dim)])
    torch.testing.assert_close(values.flatten(), alone, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match=r"got points of|too many values"):
        function(torch.zeros(4, function.dim + 1))


@pytest.mark.parametrize("function", EVERY, ids=name)
def test_the_start_is_in_the_domain_and_no_critical_point(function):
    assert len(function.start) == function.dim
    for x, (low, high) in zip(function.start, function.domain, strict=False):
        assert low < x < high
    assert classify(*derivatives(function, tensor(*function.start))[1:]).kind == "slope"


@pytest.mark.parametrize("dim", [2, 3, 10])
def test_ackleys_minimum_is_the_tip_of_a_cone(dim):
    function = Ackley(dim=dim)
    assert function(torch.zeros(dim, dtype=torch.float64)).item() == 0.0
    x = torch.zeros(dim, dtype=torch.float64)
    x[0] = 1e-9
    _, gradient, _ = derivatives(function, x)
    assert torch.linalg.vector_norm(gradient).item() == pytest.approx(4 / math.sqrt(dim), abs=1e-6)


def test_rosenbrock_in_many_dimensions_is_the_sum_of_its_links():
    x = tensor(0.3, -1.2, 0.7, 2.0)
    links = [Rosenbrock()(x[i : i + 2]) for i in range(3)]
    assert Rosenbrock(dim=4)(x).item() == pytest.approx(sum(link.item() for link in links))


@pytest.mark.parametrize("kappa", [10.0, 100.0, 1000.0])
def test_gradient_descent_on_the_quadratic_has_its_best_rate(kappa):
    """At the step 2 / (L + mu) the distance shrinks by (kappa - 1) / (kappa + 1) a step, exactly."""
    function = Quadratic(condition_number=kappa)
    x = tensor(*function.start)
    for _ in range(50):
        previous = torch.linalg.vector_norm(x)
        x = x - 2 / (1 + kappa) * derivatives(function, x)[1]
    rate = torch.linalg.vector_norm(x) / previous
    assert rate.item() == pytest.approx((kappa - 1) / (kappa + 1), rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rosenbrock(dim=1), "dim must be an integer >= 2, got 1"),
        (lambda: Quadratic(dim=1), "dim must be an integer >= 2, got 1"),
        (lambda: Ackley(dim=0), "dim must be an integer >= 1, got 0"),
        (lambda: Rastrigin(dim=0), "dim must be an integer >= 1, got 0"),
        (lambda: Quadratic(condition_number=0.9), "condition_number must be"),
        (lambda: Quadratic(condition_number=math.inf), "condition_number must be"),
    ],
)
def test_options_out_of_range_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Own:
    """A function of one's own, of two variables."""

    dim, start, domain, critical_points = 2, (1.0, -1.0), ((-2.0, 2.0), (-2.0, 2.0)), ()

    def __init__(self, formula):
        self.formula = formula

    def __call__(self, x):
        return self.formula(x)


@pytest.mark.parametrize(
    ("formula", "got"),
    [
        (lambda x: x.detach().sum(-1), r"\[\] without a gradient of points \[2\]"),
        (
            lambda x: x.square().sum(-1, keepdim=True),
            r"makes \[1\] of points \[2\] and \[3, 1\] of",
        ),
        (lambda x: x[0] ** 2 + x[1] ** 2, r"makes \[2\] of points \[3, 2\]"),
        (lambda x: 3.0, r"makes float of points \[2\]"),
        (lambda x: 1 / 0, r"Own fails on points \[2\]: ZeroDivisionError"),
    ],
    ids=["no graph", "keepdim", "not batched", "no tensor", "fails"],
)
def test_a_function_of_another_form_is_refused_in_one_line_that_says_which_is_wanted(formula, got):
    with pytest.raises(ValueError, match=got) as caught:
        require_form(Own(formula))
    assert "\n" not in str(caught.value)
    require_form(Own(lambda x: x.square().sum(-1)))
    require_form(Own(lambda x: 0 * x.sum(-1) + 3))


@pytest.mark.parametrize("value", [3.0, -1e9, 0.0])
def test_a_function_that_is_the_same_everywhere_is_drawn_as_a_plain(value):
    levels = levels_of(np.full((4, 4), value))
    assert len(levels) == 2
    assert levels[0] < value < levels[1]
    plane = PlaneFunction(lambda x: 0 * x.sum(-1) + value, ((-1.0, 1.0), (-1.0, 1.0)), (), "Constant")
    still = Trajectory(
        name="sgd", steps=[0, 1], value=[value] * 2, gradient_norm=[0.0] * 2, ended="degenerate",
        path=torch.zeros(2, 2, dtype=torch.float64), path_steps=[0, 1],
    )  # fmt: skip
    for picture in (draw_paths(plane, [still]), draw_basins(plane, {"sgd": torch.zeros(60, 60, 2)})):
        assert picture.pixels.std() > 0
