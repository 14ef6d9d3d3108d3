"""What rules are told of what was logged, where some of it is not a number."""

import itertools
import math

import pytest

from core.diagnosis.signals import COURSE, History


def test_values_that_are_not_numbers_are_in_no_order():
    history = History()
    for step, value in enumerate([1.0, math.nan, 3.0, 4.0, 5.0]):
        history.add(step, {"loss/value": value, "layer/a/dead_units": value, "layer/b/dead_units": 0.5})
    assert history.recent("loss/value", 3) == [3.0, 4.0, 5.0]
    assert history.recent("loss/value", 4) == []
    assert history.layers_last("", "dead_units", 4) == {"b": [0.5] * 4}


@pytest.mark.parametrize("count", [COURSE, COURSE + 1, 3 * COURSE, 10 * COURSE])
def test_a_thinned_course_begins_with_the_first_value_and_is_evenly_spaced(count):
    history = History()
    for step in range(count):
        history.add(step, {"loss/value": float(step)})
    course = history.course("loss/value")
    assert COURSE / 2 < len(course) <= COURSE
    assert course[0] == 0.0
    (stride,) = {after - before for before, after in itertools.pairwise(course)}
    assert stride == 2 ** math.ceil(math.log2(count / COURSE))


def test_the_usual_value_is_known_from_eight_on():
    history = History()
    for step in range(8):
        assert history.usual("loss/value") is None
        history.add(step, {"loss/value": float(step**2)})
    assert history.usual("loss/value") == (9 + 16) / 2


def test_of_one_point_the_last_value_counts_once():
    history = History()
    for step, value in [(0, 1.0), (1, 2.0), (1, 5.0), (2, 3.0)]:
        history.add(step, {"loss/value": value})
    assert history.recent("loss/value", 3) == [1.0, 5.0, 3.0]
    assert history.recent("loss/value", 4) == []
