"""Where numbers left their range first, from what was measured."""

import math

import pytest

from core.replay.origin import (
    BEGINNING,
    FACTOR,
    JUMP,
    LEAP,
    OVERFLOW,
    RECENT,
    Usual,
    Weights,
    earlier,
    place_of,
)
from core.replay.ranges import Call, Evaluation, Range


def of(size: float) -> Range:
    odd = 0.0 if math.isfinite(size) else 1.0
    return Range(0.0 if odd else -size, 0.0 if odd else size, 0.0, odd, (4, 1), (2,) * bool(odd), int(odd))


def evaluation(order: int = 0, **sizes: float) -> Evaluation:
    """Two layers: in, a, b, loss, and the gradients at b and a; each 1 unless given."""
    size = dict.fromkeys(("x", "a", "b", "loss", "at_b", "at_a", "grad", "weight_a", "weight_b"), 1.0) | sizes
    a = Call("a", "Linear", [of(size["x"])], [of(size["a"])], [of(size["at_a"])], [], ("a.weight",))
    b = Call(
        "b", "Linear", [of(size["a"])], [of(size["b"])], [of(size["at_b"])], [of(size["at_a"])], ("b.weight",)
    )
    return Evaluation(
        order,
        "",
        1,
        1,
        order,
        parameters={"a.weight": size["weight_a"], "b.weight": size["weight_b"]},
        batch={"x": of(size["x"])},
        calls=[a, b],
        losses={"loss": size["loss"]},
        way_back=[b, a],
        gradients={"b.weight": of(size["grad"]), "a.weight": of(size["grad"])},
    )


def lost(key, size):
    return not math.isfinite(size)


@pytest.mark.parametrize(
    ("sizes", "how", "name"),
    [
        ({"x": math.inf, "a": math.inf, "b": math.inf, "loss": math.nan}, "batch", "x"),
        ({"a": math.inf, "b": math.inf, "loss": math.nan}, "forward", "a"),
        ({"b": math.nan, "loss": math.nan}, "forward", "b"),
        ({"loss": math.inf}, "loss", "loss"),
        ({"at_b": math.nan, "at_a": math.nan, "grad": math.nan}, "loss", "gradient"),
        ({"at_a": math.nan, "grad": math.nan}, "backward", "b"),
        ({"grad": math.nan}, "backward", "b"),
    ],
)
def test_the_first_of_all_in_the_order_of_the_passes_is_where_it_was_born(sizes, how, name):
    found = place_of(evaluation(**sizes), lost)
    assert found is not None
    assert (found.how, found.name) == (how, name)


def test_where_all_is_in_order_nothing_was_born():
    assert place_of(evaluation(), lost) is None


def usual(count: int = 10) -> tuple[Usual, Weights]:
    weights = Weights()
    found = Usual(weights)
    for order in range(count):
        add(found, weights, evaluation(order))
    return found, weights


def add(found: Usual, weights: Weights, each: Evaluation) -> None:
    found.add(each)
    weights.add(each)


def test_an_explosion_begins_where_the_input_is_as_usual_and_the_output_is_not():
    found, weights = usual()
    first = evaluation(10, b=FACTOR, loss=FACTOR)
    add(found, weights, first)
    add(found, weights, evaluation(11, a=2 * FACTOR, b=2 * FACTOR))
    assert found.since is not None
    assert found.since[0] is first
    assert (found.since[1].how, found.since[1].name) == ("forward", "b")
    assert found.times == 2 * FACTOR


def test_what_returns_to_its_range_was_no_explosion():
    found, weights = usual()
    add(found, weights, evaluation(10, b=FACTOR))
    add(found, weights, evaluation(11))
    assert found.since is None
    assert found.times == 1.0


def test_just_within_the_range_there_is_none():
    found, weights = usual()
    add(found, weights, evaluation(10, b=0.99 * FACTOR))
    assert found.since is None


@pytest.mark.parametrize(("weight", "how", "name"), [(JUMP, "update", "a"), (0.99 * JUMP, "forward", "b")])
def test_an_update_is_to_blame_that_has_moved_parameters_in_front_of_the_place(weight, how, name):
    found, weights = usual()
    add(found, weights, evaluation(10, weight_a=weight, b=FACTOR))
    assert found.since is not None
    assert (found.since[1].how, found.since[1].name) == (how, name)


def test_parameters_out_of_range_are_enough():
    found, weights = usual()
    add(found, weights, evaluation(10, weight_b=FACTOR))
    assert found.since is not None
    assert (found.since[1].how, found.since[1].name) == ("update", "b")


def moved(order: int, a: float, b: float) -> Evaluation:
    each = evaluation(order)
    each.moves = {"a.weight": a, "b.weight": b}
    return each


@pytest.mark.parametrize(
    ("count", "a", "b", "leap"),
    [
        (RECENT, 0.25, 0.5 * LEAP, (LEAP, "b")),
        (RECENT, 0.25, 0.499 * LEAP, None),
        (RECENT, 0.5 * LEAP, 0.75 * LEAP, (2 * LEAP, "a")),  # of several the one that has moved the most
        (RECENT - 1, 0.25, 0.5 * LEAP, None),  # too few to compare with
    ],
)
def test_an_update_that_moves_a_module_much_farther_than_those_before_is_a_leap(count, a, b, leap):
    weights = Weights()
    found = Usual(weights)
    for order in range(count):
        add(found, weights, moved(order, 0.25 / (1 + order % 3), 0.5 / (1 + order % 2)))
    last = moved(count, a, b)
    add(found, weights, last)
    add(found, weights, moved(count + 1, a, b))  # as far again is no leap any more
    assert found.since is None
    if leap is None:
        assert found.leap is None
    else:
        assert found.leap is not None
        times, shown, birth = found.leap
        assert (times, birth.how, birth.name, shown) == (leap[0], "leap", leap[1], last)


def test_growth_before_a_number_that_is_not_finite_is_its_beginning_only_if_it_is_large():
    found, weights = usual()
    add(found, weights, evaluation(10, b=FACTOR))
    found.lose(evaluation(11, b=math.inf, loss=math.nan))
    assert found.since is None
    found, weights = usual()
    add(found, weights, evaluation(10, b=OVERFLOW))
    found.lose(evaluation(11, b=math.inf, loss=math.nan))
    assert found.since is not None
    assert found.since[0].order == 10


def test_a_size_in_front_of_the_number_that_is_not_finite_is_its_beginning():
    found, _ = usual()
    found.lose(evaluation(10, x=OVERFLOW, a=OVERFLOW, b=math.inf, loss=math.inf))
    assert found.since is not None
    assert (found.since[1].how, found.since[1].name) == ("batch", "x")


def test_infinity_on_purpose_is_no_fault():
    weights = Weights()
    found = Usual(weights)
    add(found, weights, evaluation(0, b=math.inf))  # a mask: the loss is finite
    born = found.born(evaluation(1, b=math.inf, loss=math.nan))
    assert born is not None
    assert (born.how, born.name) == ("loss", "loss")


def test_what_is_usual_is_known_from_the_beginning_alone():
    found, weights = usual(2 * BEGINNING)
    for order in range(40, 60):
        add(found, weights, evaluation(order, b=3.0 ** (order - 40)))
    assert found.since is not None
    assert found.since[0].order == 40 + math.ceil(math.log(FACTOR, 3))


def test_the_evaluations_before_one_are_those_of_its_player():
    course = [evaluation(i) for i in range(6)]
    course[3].player = "other"
    assert [e.order for e in earlier(course, course[5], 3)] == [1, 2, 4]
    assert earlier(course, course[0], 3) == []
