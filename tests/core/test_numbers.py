"""Numbers as text: for people to read, and plain for a terminal."""

import math

import pytest

from core.numbers import beats, number, percent, plain_number, seconds, tick, ticks


def test_numbers_are_written_for_people():
    assert [number(v) for v in (None, 0, 1536000, 2.0, 21.456, 0.0123456, 1.5e-7, -0.5)] == [
        "–", "0", "1,536,000", "2", "21.5", "0.0123", "1.5·10⁻⁷", "−0.500",
    ]  # fmt: skip
    assert number(9.99e-4) == "1·10⁻³"
    assert [tick(v) for v in (0, 250_000, 1_500_000, 0.05, 1e-4, -2000)] == [
        "0",
        "250k",
        "1.5M",
        "0.05",
        "10⁻⁴",
        "−2k",
    ]
    assert percent(0.9368) == "93.7 %"
    assert [seconds(v) for v in (27.4, 300, 9000, None)] == ["27 s", "5 min", "2.5 h", "–"]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1e19, 4, "10¹⁹"), (2.5e28, 4, "2.5·10²⁸"), (1e8, 1, "100M"), (9e11, 1, "900G"), (123456, 2, "120k")],
)
def test_large_labels_have_no_programmers_exponent(value, digits, text):
    assert tick(value, digits) == text


def test_a_tick_of_two_digits_is_no_power_of_ten_where_it_is_short():
    values = [0.012, 9.96, 99.6, 123.0, 999.0, 1000.0, 123456.0]
    assert [tick(x, 2) for x in values] == ["0.012", "10", "100", "120", "1000", "1k", "120k"]


def test_ticks_of_one_axis_differ_where_their_values_do():
    assert ticks([1000.2, 1000.4, 1000.6]) == ["1,000.2", "1,000.4", "1,000.6"]
    assert ticks([-0.5, 1.0001, 1.00012]) == ["−0.5", "1.0001", "1.00012"]
    assert ticks([123450, 123455]) == ["123,450", "123,455"]
    assert ticks([0, 250_000, 1_500_000]) == ["0", "250k", "1.5M"]
    assert ticks([1e-5, 1e-4]) == ["10⁻⁵", "10⁻⁴"]
    assert ticks([1.2345e-5, 1.2346e-5]) == ["1.2345e-05", "1.2346e-05"]
    assert ticks([2.0, 2.0]) == ["2", "2"]


def test_plain_numbers_have_four_digits_and_separate_thousands():
    values = (0.0, 0.00012345, 3.14159, 999.4, 999.5, 1234.5, -1e6, float("nan"))
    assert [plain_number(v) for v in values] == [
        "0", "0.0001234", "3.142", "999.4", "1,000", "1,234", "-1,000,000", "nan",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("score", "best", "higher"),
    [
        (1.0, None, True),
        (1.0, 0.5, True),
        (0.5, 1.0, False),
        (1.0, 1.0, False),
        (-math.inf, None, True),
        (math.nan, None, False),
        (math.nan, 1.0, False),
        (1.0, math.nan, True),
        (math.nan, math.nan, False),
    ],
)
def test_a_score_that_is_not_a_number_is_never_the_best(score, best, higher):
    assert beats(score, best) == higher
