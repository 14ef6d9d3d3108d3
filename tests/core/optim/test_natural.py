"""Conjugate gradients and the natural gradient against dense linear algebra."""

import pytest
import torch

from core.optim.natural import conjugate_gradient, natural_gradient


def spd(size: int, condition: float = 100.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A symmetric positive definite matrix with this condition number, and a right-hand side; float64."""
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    eigenvalues = torch.logspace(0, torch.tensor(condition).log10().item(), size, dtype=torch.float64)
    return q * eigenvalues @ q.T, torch.randn(size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 2, 5, 12])
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_it_is_exact_after_d_iterations(size, damping):
    a, b = spd(size)
    x = conjugate_gradient(lambda v: a @ v, b, iterations=size, tolerance=0.0, damping=damping)
    exact = torch.linalg.solve(a + damping * torch.eye(size, dtype=a.dtype), b)
    torch.testing.assert_close(x, exact, rtol=0, atol=1e-8)


def test_each_iterate_is_the_best_of_its_krylov_space():
    a, b = spd(8)
    basis = [b]
    for k in range(1, 5):
        q, _ = torch.linalg.qr(torch.stack(basis, 1))
        best = q @ torch.linalg.solve(q.T @ a @ q, q.T @ b)  # least (x - x*)^T A (x - x*) in the span
        x = conjugate_gradient(lambda v: a @ v, b, iterations=k, tolerance=0.0)
        torch.testing.assert_close(x, best, rtol=1e-9, atol=1e-12)
        basis.append(a @ basis[-1])


def test_distinct_eigenvalues_are_what_counts():
    """The identity takes one iteration in any dimension, and three eigenvalues take three."""
    a = torch.diag(torch.tensor([1.0, 1.0, 5.0, 5.0, 5.0, 9.0], dtype=torch.float64))
    b = torch.arange(1.0, 7.0, dtype=torch.float64)
    x = conjugate_gradient(lambda v: a @ v, b, iterations=3, tolerance=0.0)
    torch.testing.assert_close(x, b / a.diagonal(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("tolerance", [0.3, 1e-3, 1e-6])
def test_it_stops_once_the_residual_is_small_enough_and_not_before(tolerance):
    a, b = spd(30, condition=1000.0)
    calls = 0

    def operator(v: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return a @ v

    x = conjugate_gradient(operator, b, iterations=200, tolerance=tolerance)
    assert (b - a @ x).norm() <= tolerance * b.norm() * 1.0001
    earlier = conjugate_gradient(operator, b, iterations=calls - 1, tolerance=tolerance)
    assert (b - a @ earlier).norm() > tolerance * b.norm()
    assert calls < 200


def test_more_iterations_than_needed_and_a_zero_right_hand_side_leave_no_nan():
    a, b = spd(4)
    x = conjugate_gradient(lambda v: a @ v, b, iterations=50, tolerance=0.0)
    torch.testing.assert_close(x, torch.linalg.solve(a, b), rtol=0, atol=1e-8)
    assert torch.equal(conjugate_gradient(lambda v: a @ v, torch.zeros_like(b)), torch.zeros_like(b))
    assert torch.equal(conjugate_gradient(lambda v: a @ v, b, iterations=0), torch.zeros_like(b))


def test_it_stops_at_a_direction_of_negative_curvature():
    a = torch.diag(torch.tensor([2.0, -3.0], dtype=torch.float64))
    b = torch.tensor([1.0, 1.0], dtype=torch.float64)  # b^T A b < 0 at once
    assert torch.equal(conjugate_gradient(lambda v: a @ v, b), torch.zeros_like(b))


def test_the_operator_may_differentiate_and_the_solution_carries_no_gradient():
    w = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    loss = (w.pow(4) / 12).sum()  # Hessian diag(w^2)
    (g,) = torch.autograd.grad(loss, w, create_graph=True)
    with torch.no_grad():
        x = conjugate_gradient(
            lambda v: torch.autograd.grad(g @ v, w, retain_graph=True)[0], torch.ones(2, dtype=torch.float64)
        )
    assert not x.requires_grad
    torch.testing.assert_close(x, torch.tensor([1.0, 0.25], dtype=torch.float64))


def test_the_natural_step_has_the_direction_of_the_solution_and_the_price_asked_for():
    f, g = spd(10)
    step = natural_gradient(lambda v: f @ v, g, max_kl=0.01, iterations=10, tolerance=0.0, damping=0.0)
    x = torch.linalg.solve(f, g)
    torch.testing.assert_close(step, (0.02 / (x @ g)).sqrt() * x, rtol=0, atol=1e-8)
    assert (step @ f @ step / 2).item() == pytest.approx(0.01)
    damped = natural_gradient(lambda v: f @ v, g, max_kl=0.01, iterations=10, damping=5.0)
    assert (damped @ f @ damped / 2).item() == pytest.approx(0.01)
    assert torch.nn.functional.cosine_similarity(damped, step, dim=0) < 0.999


def test_no_other_step_of_that_price_gains_more():
    f, g = spd(6)
    best = natural_gradient(lambda v: f @ v, g, max_kl=0.5, damping=0.0)
    generator = torch.Generator().manual_seed(3)
    for _ in range(200):
        other = best + 0.3 * torch.randn(6, generator=generator, dtype=torch.float64)
        other = other * (1.0 / (other @ f @ other)).sqrt()  # half of its square is 0.5
        assert g @ other <= g @ best


def test_it_does_not_depend_on_how_the_parameters_are_written():
    """theta = M phi turns g to M^T g and F to M^T F M; the step turns as a point, a gradient not."""
    f, g = spd(5)
    m = torch.randn(5, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    step = natural_gradient(lambda v: f @ v, g, max_kl=0.1, iterations=40, tolerance=0.0, damping=0.0)
    other = natural_gradient(
        lambda v: m.T @ f @ m @ v, m.T @ g, max_kl=0.1, iterations=40, tolerance=0.0, damping=0.0
    )
    torch.testing.assert_close(m @ other, step, rtol=1e-6, atol=1e-9)


def test_a_gradient_of_zero_makes_no_step():
    f, g = spd(3)
    assert torch.equal(natural_gradient(lambda v: f @ v, 0 * g, max_kl=0.1), torch.zeros_like(g))


@pytest.mark.parametrize(
    ("function", "options", "name"),
    [
        (conjugate_gradient, {"iterations": -1}, "iterations"),
        (conjugate_gradient, {"damping": -1.0}, "damping"),
        (conjugate_gradient, {"tolerance": float("nan")}, "tolerance"),
        (natural_gradient, {"max_kl": 0.0}, "max_kl"),
    ],
)
def test_options_out_of_range_are_refused_by_name(function, options, name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        function(lambda v: v, torch.ones(2), **options)
