"""Classification of points: the contract's thresholds, from both sides."""

import pytest
import torch
from torch import Tensor

from core.curvature import Hessian, classify_point
from core.curvature.critical import classify, derivatives


def diagonal(*eigenvalues: float) -> Tensor:
    return torch.diag(torch.tensor(eigenvalues, dtype=torch.float64))


def kind(gradient: tuple[float, ...], *eigenvalues: float) -> str:
    return classify(torch.tensor(gradient, dtype=torch.float64), diagonal(*eigenvalues)).kind


FLAT = (0.0, 0.0)


@pytest.mark.parametrize(
    ("eigenvalues", "expected", "index"),
    [
        ((1.0, 3.0), "minimum", 0),
        ((-1.0, -3.0), "maximum", 2),
        ((-1.0, 3.0), "saddle", 1),
        ((0.0, 0.0), "degenerate", 0),
        ((0.0, 3.0), "degenerate", 0),
        ((-3.0, 0.0), "degenerate", 1),
        ((2e-6, 1.0), "minimum", 0),  # eps is 1e-6 below |lambda|max = 1
        ((0.9e-6, 1.0), "degenerate", 0),
        ((2e-6, 3e-6), "minimum", 0),
        ((0.9e-6, 0.8e-6), "minimum", 0),  # however small |lambda|max is
        ((0.9e-12, 0.8e-6), "minimum", 0),
        ((0.7e-12, 0.8e-6), "degenerate", 0),
        ((0.9e-3, 1e3), "degenerate", 0),  # and 1e-6 |lambda|max above
        ((1.1e-3, 1e3), "minimum", 0),
        ((-0.9e-3, 1e3), "degenerate", 0),
        ((-1.1e-3, 1e3), "saddle", 1),
        ((1.1e-3, -1e3), "saddle", 1),
    ],
)
def test_the_eigenvalues_decide_what_a_flat_point_is(eigenvalues, expected, index):
    found = classify(torch.zeros(2), diagonal(*eigenvalues))
    assert (found.kind, found.saddle_index) == (expected, index)
    assert found.eigenvalues == pytest.approx(sorted(eigenvalues), abs=1e-12)


def test_a_saddle_may_have_flat_directions_and_falls_in_as_many_as_its_index():
    found = classify(torch.zeros(5), diagonal(-2.0, 0.0, 1.0, -3.0, -1e-9))
    assert (found.kind, found.saddle_index) == ("saddle", 2)


@pytest.mark.parametrize(
    ("gradient", "eigenvalues", "expected"),
    [
        ((1e-4, 0.0), (0.5, 1.0), "minimum"),
        ((1.01e-4, 0.0), (0.5, 1.0), "slope"),
        ((0.8e-4, 0.8e-4), (0.5, 1.0), "slope"),  # the norm counts, 1.13e-4
        ((1e-4, 0.0), (1e-3, 2e-3), "slope"),  # a twentieth away from the minimum
        ((1e-7, 0.0), (1e-3, 2e-3), "minimum"),
        ((0.09, 0.0), (1.0, 1e3), "minimum"),
        ((0.11, 0.0), (1.0, 1e3), "slope"),
        ((0.09, 0.0), (1.0, -1e3), "saddle"),
        ((0.11, 0.0), (0.0, 0.0), "slope"),
    ],
)
def test_a_steep_point_is_a_slope_whatever_its_eigenvalues(gradient, eigenvalues, expected):
    assert kind(gradient, *eigenvalues) == expected


def test_the_index_counts_all_negative_eigenvalues_of_a_slope_too():
    found = classify(torch.tensor([3.0, 4.0]), diagonal(-1.0, -2.0))
    assert (found.kind, found.saddle_index, found.gradient_norm) == ("slope", 2, 5.0)


def test_a_rotated_hessian_gives_the_same_answer():
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))
    found = classify(torch.zeros(4), basis @ diagonal(-2.0, 1.0, 3.0, 7.0) @ basis.T)
    assert found.eigenvalues == pytest.approx((-2.0, 1.0, 3.0, 7.0))
    assert (found.kind, found.saddle_index) == ("saddle", 1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        classify(torch.tensor([bad, 0.0]), diagonal(1.0, 1.0))
    with pytest.raises(ValueError, match="finite"):
        classify(torch.zeros(2), diagonal(bad, 1.0))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"got shapes \[3\] and \[2, 2\]"):
        classify(torch.zeros(3), diagonal(1.0, 1.0))


def test_the_derivatives_are_those_of_a_cubic_by_hand_in_float64_whatever_comes_in():
    x = torch.tensor([2.0, -1.0])  # float32
    value, gradient, hessian = derivatives(lambda p: p[0] ** 3 + 2 * p[0] * p[1] ** 2, x)
    assert value.item() == 12.0
    assert gradient.tolist() == [14.0, -8.0]
    assert hessian.tolist() == [[12.0, -4.0], [-4.0, 8.0]]
    assert {t.dtype for t in (value, gradient, hessian)} == {torch.float64}
    assert not x.requires_grad


def test_a_linear_function_and_an_unused_variable_have_zeros_in_the_hessian():
    x = torch.ones(3, dtype=torch.float64)
    assert derivatives(lambda p: 2 * p[0] - p[2], x)[2].tolist() == [[0.0] * 3] * 3
    assert derivatives(lambda p: p[0] ** 2 + p[1], x)[2].tolist() == [[2.0, 0.0, 0.0], [0.0] * 3, [0.0] * 3]


def test_a_point_of_no_variables_is_refused():
    with pytest.raises(ValueError, match="classify wants at least one variable"):
        classify(torch.zeros(0), torch.zeros(0, 0))
    for x in (torch.zeros(0), torch.zeros(()), torch.zeros(2, 1)):
        with pytest.raises(ValueError, match=r"derivatives wants a point \[n\] with n >= 1, got shape \["):
            derivatives(lambda p: p.square().sum(), x)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("point", [(1.0, 1.0), (1e-6, 0.0), (0.5, 0.0)])
def test_the_kind_of_a_point_does_not_depend_on_the_unit_of_the_function(unit, point):
    def bowl(x: Tensor) -> Tensor:  # a minimum at 0, a saddle at (0.5, 0)
        return unit * (x[0] ** 2 * (1.5 - 2 * x[0]) + x[1] ** 2)

    wanted = {(1.0, 1.0): "slope", (1e-6, 0.0): "minimum", (0.5, 0.0): "saddle"}[point]
    _, gradient, hessian = derivatives(bowl, torch.tensor(point, dtype=torch.float64))
    assert classify(gradient, hessian).kind == wanted
    x = torch.tensor(point, dtype=torch.float64, requires_grad=True)
    assert classify_point(Hessian(bowl(x), [x]), torch.Generator().manual_seed(0)).kind == wanted
