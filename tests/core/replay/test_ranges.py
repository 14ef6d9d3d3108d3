"""How large a tensor is, and where it holds what is no number."""

import math

import numpy as np
import pytest
import torch

from core.gradients.localise import tensors_in
from core.replay.ranges import range_of


def test_a_range_is_that_of_the_numbers_in_float64():
    x = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32) * 1e3
    found = range_of(torch.from_numpy(x))
    assert found is not None
    exact = x.astype(np.float64)
    assert (found.low, found.high, found.odd) == (exact.min(), exact.max(), 0.0)
    assert found.mean == pytest.approx(np.abs(exact).mean(), rel=1e-6)
    assert found.largest == np.abs(exact).max()
    assert (found.shape, found.rows, found.num_rows) == ((7, 5), (), 0)


def test_of_numbers_that_are_none_the_share_and_the_rows_are_known():
    x = torch.arange(12.0).reshape(4, 3)
    x[1, 2], x[3, 0] = math.nan, -math.inf
    found = range_of(x)
    assert found is not None
    assert (found.low, found.high) == (0.0, 11.0)
    assert found.odd == pytest.approx(2 / 12)
    assert (found.rows, found.num_rows, found.largest) == ((1, 3), 2, math.inf)
    kept = [0, 1, 2, 3, 4, 6, 7, 8, 10, 11]
    assert found.mean == pytest.approx(sum(kept) / len(kept))


def test_only_the_first_rows_are_named_and_all_are_counted():
    found = range_of(torch.full((20, 2), math.nan))
    assert found is not None
    assert (found.rows, found.num_rows, found.low, found.high) == (tuple(range(8)), 20, 0.0, 0.0)


@pytest.mark.parametrize("tensor", [torch.zeros(3, dtype=torch.int64), torch.zeros(0), torch.ones(2) > 0])
def test_what_cannot_be_infinite_has_no_range(tensor):
    assert range_of(tensor) is None


def test_a_number_alone_has_no_rows():
    found = range_of(torch.tensor(math.inf))
    assert found is not None
    assert (found.rows, found.odd, found.shape) == ((), 1.0, ())


def test_tensors_are_found_in_whatever_a_module_returns():
    a, b, c = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    assert [t.numel() for t in tensors_in((a, [b, {"c": c}], "no tensor"))] == [1, 2, 3]
