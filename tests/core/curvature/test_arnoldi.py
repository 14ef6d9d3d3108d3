"""`core.curvature.arnoldi`: against dense eigenvalues, and where the Krylov space closes early."""

import pytest
import torch
from torch import Tensor

from core.curvature.arnoldi import arnoldi


def matrix(size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sorted_by_parts(values: Tensor) -> Tensor:
    keys = [(round(v.real.item(), 6), round(v.imag.item(), 6), i) for i, v in enumerate(values)]
    return values[[i for *_, i in sorted(keys)]]


@pytest.mark.parametrize("size", [1, 2, 7, 30])
def test_as_many_steps_as_dimensions_give_every_eigenvalue(size: int) -> None:
    a = matrix(size)
    found = arnoldi(lambda u: a @ u, torch.ones(size, dtype=torch.float64), size)
    expected = torch.linalg.eigvals(a)
    torch.testing.assert_close(sorted_by_parts(found.values), sorted_by_parts(expected), rtol=1e-8, atol=1e-8)
    assert found.residuals.max() < 1e-8


def test_a_rotation_has_imaginary_eigenvalues() -> None:
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    found = arnoldi(lambda u: turn @ u, torch.tensor([1.0, 0.0], dtype=torch.float64), 2)
    torch.testing.assert_close(found.values.real, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)
    assert sorted(found.values.imag.tolist()) == pytest.approx([-1.0, 1.0], abs=1e-12)


def test_the_outermost_eigenvalues_come_first_and_the_residual_tells_how_well() -> None:
    a = matrix(200) / 200**0.5
    a[0, 0], a[0, 1:] = 5.0, 0.0
    found = arnoldi(lambda u: a @ u, torch.ones(200, dtype=torch.float64), 25)
    assert found.values[0].real.item() == pytest.approx(5.0, abs=1e-6)
    assert found.residuals[0] < 1e-6 < found.residuals[-1]


def test_an_invariant_start_ends_it_at_once() -> None:
    a = torch.diag(torch.arange(1.0, 6.0, dtype=torch.float64))
    found = arnoldi(lambda u: a @ u, torch.eye(5, dtype=torch.float64)[2], 5)
    assert found.values.tolist() == [3.0 + 0.0j]
    assert found.residuals.tolist() == [0.0]


def test_a_residual_is_the_ritz_vectors_own() -> None:
    a, start = matrix(20), torch.ones(20, dtype=torch.float64)
    found = arnoldi(lambda u: a @ u, start, 6)
    columns = [start]
    for _ in range(5):
        columns.append(a @ columns[-1])
    q, _ = torch.linalg.qr(torch.stack(columns, dim=1))
    values, vectors = torch.linalg.eig(q.T @ a @ q)
    x = q.to(vectors.dtype) @ vectors
    expected = (a.to(vectors.dtype) @ x - x * values).norm(dim=0) / x.norm(dim=0)
    order = values.abs().argsort(descending=True)
    torch.testing.assert_close(found.residuals, expected[order], rtol=1e-6, atol=1e-9)


def test_what_cannot_be_projected() -> None:
    with pytest.raises(ValueError, match="steps >= 1, got 0"):
        arnoldi(lambda u: u, torch.ones(2), 0)
    with pytest.raises(ValueError, match="not zero"):
        arnoldi(lambda u: u, torch.zeros(2), 1)
    with pytest.raises(FloatingPointError, match="not finite"):
        arnoldi(lambda u: u * float("nan"), torch.ones(2), 1)
