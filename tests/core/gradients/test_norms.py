import math

import pytest
import torch

from core.gradients import global_norm, layer_norms
from core.gradients.norms import GradientView, layer_dots


@pytest.mark.parametrize("size", [1, 7, 16_384, 1_000_003])
def test_norms_agree_with_float64_to_a_millionth(size):
    random = torch.randn(size, generator=torch.Generator().manual_seed(size))
    tensors = [random, torch.full((size,), 1e-3), torch.full((size,), 0.7e-3), random.exp()]
    exact = torch.stack([t.double().square().sum().sqrt() for t in tensors])
    torch.testing.assert_close(layer_norms(tensors), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(global_norm(tensors), exact.square().sum().sqrt(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("size", [4, 40_000])
@pytest.mark.parametrize("value", [1e20, 1e-22, 1e-40])
def test_squares_that_float32_cannot_hold_neither_overflow_nor_vanish(value, size):
    tensor = torch.full((size,), value)
    exact = tensor[0].item() * size**0.5
    assert global_norm([tensor]).item() == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("size", [4, 40_000])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_number_that_is_not_finite_shows_in_the_norm(value, size):
    tensor = torch.ones(size)
    tensor[size // 2] = value
    assert not layer_norms([tensor]).isfinite().any()


def test_large_tensors_that_are_not_contiguous_or_hold_zeros_are_right_too():
    wide = torch.randn(200, 300, generator=torch.Generator().manual_seed(0))
    ours = layer_norms([wide.t(), wide[:, ::2], torch.zeros(20_000)])
    exact = [wide.double().norm().item(), wide[:, ::2].double().norm().item(), 0.0]
    assert ours.tolist() == pytest.approx(exact, rel=1e-6)


def test_dtypes_may_be_mixed_in_one_list():
    tensors = [
        torch.full((3, 3), 2.0, dtype=d)
        for d in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    ]
    assert layer_norms(tensors).tolist() == [6.0] * 4
    assert layer_norms([torch.full((30_000,), 3.0, dtype=torch.float16)]).item() == pytest.approx(
        3 * 30_000**0.5
    )


@pytest.mark.parametrize("size", [5, 100_003])
def test_dot_products_agree_with_float64(size):
    a, b = torch.randn(2, size, generator=torch.Generator().manual_seed(1))
    half = a.half()
    exact = [(a.double() @ b.double()).item(), (half.double() @ half.double()).item()]
    bound = 1e-5 * (a.norm() * b.norm()).item()
    assert layer_dots([a, half], [b, half]).tolist() == pytest.approx(exact, abs=bound)


def test_bfloat16_is_not_rounded_to_its_own_precision():
    assert layer_norms([torch.ones(10_000, dtype=torch.bfloat16)]).item() == 100.0


def test_empty_tensors_and_empty_lists_have_norm_zero():
    assert layer_norms([torch.zeros(0), torch.ones(4)]).tolist() == [0.0, 2.0]
    assert layer_norms([]).numel() == 0


def test_sparse_and_non_contiguous_tensors_count_every_element_once():
    sparse = torch.sparse_coo_tensor([[0, 0, 3]], [3.0, 0.0, 4.0], (5,))
    transposed = torch.arange(6.0).reshape(2, 3).t()
    assert layer_norms([sparse, transposed]).tolist() == pytest.approx([5.0, 55.0**0.5])


def test_duplicate_entries_of_a_sparse_gradient_add_before_they_are_squared():
    sparse = torch.sparse_coo_tensor([[1, 1]], [3.0, 4.0], (5,))
    assert layer_norms([sparse]).item() == pytest.approx(7.0)


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("factor", [0.0, 0.25, 0.75, 0.999, 1.0, 3.0, math.nan])
def test_shrinking_multiplies_by_a_factor_below_1_and_the_norms_are_those_of_what_is_left(factor, each):
    random = torch.Generator().manual_seed(0)
    values = [torch.randn(5, 3, generator=random), torch.randn(7, generator=random, dtype=torch.float64)]
    before = [value.clone() for value in values]
    view = GradientView(["a", "b"], values, values)
    factors = [factor if not math.isnan(factor) else 1.0, 0.5] if each else [factor, factor]
    if each:
        view.shrink_each_(torch.tensor(factors, dtype=torch.float64))
    else:
        view.shrink_(torch.tensor(factor, dtype=torch.float64))
    for value, old, by in zip(values, before, factors, strict=True):
        assert torch.equal(value, old * by if by < 1.0 else old)
    exact = [math.sqrt(sum(x**2 for x in value.flatten().tolist())) for value in values]
    assert view.norms.tolist() == pytest.approx(exact, rel=1e-6)
    assert view.norm.item() == pytest.approx(math.hypot(*exact), rel=1e-6)
