"""Numbers along an axis: round ones, of which not too many."""

import pytest

from core.draw.ticks import power_ticks, whole_ticks


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0, 5, [0, 2, 4]),
        (0, 4, [0, 1, 2, 3, 4]),
        (0, 1000, [0, 500, 1000]),
        (0, 41_000, [0, 10_000, 20_000, 30_000, 40_000]),
        (990, 1010, [990, 995, 1000, 1005, 1010]),
        (7, 7, [7]),
        (0, 0, [0]),
        (3e9, 4.1e9, [3_000_000_000, 3_500_000_000, 4_000_000_000]),
    ],
)
def test_whole_numbers(low, high, found):
    assert whole_ticks(low, high) == found


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (1e-3, 1e1, [1e-3, 1e-2, 1e-1, 1.0, 10.0]),
        (1e-9, 1e1, [1e-9, 1e-6, 1e-3, 1.0]),
        (0.02, 30.0, [0.1, 1.0, 10.0]),
        (0.15, 3.0, [0.2, 0.5, 1.0, 2.0]),
        (3.1, 7.2, [4.0, 5.0, 6.0, 7.0]),
        (3.1, 3.2, [3.1, 3.2]),
        (1.0, 1.0000023, [1.0, 1.0000023]),
        (1e-308, 1e308, [1e-248, 1e-124, 1.0, 1e124, 1e248]),
    ],
)
def test_numbers_along_a_logarithm(low, high, found):
    assert power_ticks(low, high) == pytest.approx(found, rel=1e-9)


def test_there_are_never_too_many():
    for high in range(1, 5000, 7):
        assert 1 <= len(whole_ticks(0, high)) <= 5
        assert 2 <= len(power_ticks(1e-3, 1e-3 + high / 100)) <= 5
