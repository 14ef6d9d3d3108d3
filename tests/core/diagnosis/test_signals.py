"""What rules are told of what was logged, where some of it is not a number."""

import math

from core.diagnosis.signals import History


def test_values_that_are_not_numbers_are_in_no_order():
    history = History()
    for step, value in enumerate([1.0, math.nan, 3.0, 4.0, 5.0]):
        history.add(step, {"loss/value": value, "layer/a/dead_units": value, "layer/b/dead_units": 0.5})
    assert history.recent("loss/value", 3) == [3.0, 4.0, 5.0]
    assert history.recent("loss/value", 4) == []
    assert history.layers_last("", "dead_units", 4) == {"b": [0.5] * 4}
