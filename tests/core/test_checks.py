"""`core.checks`: ranges in types, at their edges, with NaN and null, and the text that describes them."""

from dataclasses import dataclass
from typing import Annotated

import pytest
from annotated_types import Ge, Gt, Interval

from core.checks import Finite, checked, require

INF, NAN = float("inf"), float("nan")


@dataclass(frozen=True, kw_only=True)
@checked
class Options:
    count: Annotated[int, Ge(1)] = 1
    share: Annotated[float, Interval(gt=0, le=1)] = 0.5
    points: Annotated[int, Interval(ge=3, le=501)] = 3
    weight: Annotated[float, Ge(0), Finite] = 0.0
    limit: Annotated[float, Gt(0)] = 1.0
    stop: Annotated[float | None, Gt(0), Finite] = None
    start: Annotated[int, Ge(0)] | None = None
    sizes: tuple[Annotated[int, Ge(1)], ...] = ()
    free: float = 0.0

    def __post_init__(self) -> None:
        require(self.points > self.count, "points", self.points, f"above count ({self.count})")


@pytest.mark.parametrize(
    ("name", "value"),
    [("count", 1), ("share", 1.0), ("points", 501), ("weight", 0.0), ("limit", INF), ("stop", None),
     ("stop", 1e-9), ("start", None), ("start", 0), ("sizes", (1, 2)), ("free", NAN)],
)  # fmt: skip
def test_a_value_at_the_edge_of_its_range_is_let_through(name, value):
    assert getattr(Options(**{name: value}), name) is value


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("count", 0, "an integer >= 1"),
        ("share", 0.0, r"in \(0, 1\]"),
        ("share", NAN, r"in \(0, 1\]"),
        ("points", 502, r"an integer in \[3, 501\]"),
        ("weight", INF, "a finite number >= 0"),
        ("weight", -1e-9, "a finite number >= 0"),
        ("limit", NAN, "a number > 0"),
        ("stop", 0.0, "a finite number > 0 or null"),
        ("start", -1, "an integer >= 0 or null"),
        ("sizes", (1, 0), "a list of integers >= 1"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(name, value, allowed):
    with pytest.raises(ValueError, match=f"^{name} must be {allowed}, got "):
        Options(**{name: value})


def test_ranges_are_checked_before_what_concerns_two_options():
    with pytest.raises(ValueError, match=r"^points must be above count \(3\), got 3$"):
        Options(count=3)
    with pytest.raises(ValueError, match=r"^count must be an integer >= 1, got 0$"):
        Options(count=0, points=3)


def test_a_subclass_checks_its_own_fields_and_those_it_inherits():
    @dataclass(frozen=True, kw_only=True)
    @checked
    class More(Options):
        extra: Annotated[int, Ge(2)] = 2

    with pytest.raises(ValueError, match=r"^extra must be"):
        More(extra=1)
    with pytest.raises(ValueError, match=r"^count must be"):
        More(count=0)
