import pytest
import torch

from core.gradients import global_norm, layer_norms


@pytest.mark.parametrize("size", [1, 7, 1_000_003])
def test_norms_agree_with_float64_to_a_millionth(size):
    tensors = [torch.randn(size, generator=torch.Generator().manual_seed(size)), torch.full((size,), 1e-3)]
    exact = torch.stack([t.double().square().sum().sqrt() for t in tensors])
    torch.testing.assert_close(layer_norms(tensors), exact, rtol=1e-7, atol=0)
    torch.testing.assert_close(global_norm(tensors), exact.square().sum().sqrt(), rtol=1e-7, atol=0)


def test_a_gradient_of_1e20_has_a_finite_norm():
    assert global_norm([torch.full((4,), 1e20)]).item() == pytest.approx(2e20)


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
