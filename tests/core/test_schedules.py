import math

import pytest

from core.optim.schedules import Constant, Cosine, Linear


@pytest.mark.parametrize("schedule", [Constant(), Linear(final=0.2), Cosine(final=0.2)])
def test_every_schedule_begins_at_one(schedule):
    assert schedule(0.0) == 1.0


def test_linear_and_cosine_end_at_their_final_value_and_stay_there():
    for schedule in (Linear(final=0.25), Cosine(final=0.25)):
        assert schedule(1.0) == pytest.approx(0.25)
        assert schedule(1.5) == pytest.approx(0.25)


def test_cosine_follows_half_a_period():
    assert Cosine(final=0.0)(1 / 3) == pytest.approx((1 + math.cos(math.pi / 3)) / 2)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_a_final_value_outside_the_unit_interval_is_refused(bad):
    for kind in (Linear, Cosine):
        with pytest.raises(ValueError, match="final must be in"):
            kind(final=bad)
