"""Rules about descents on planted signals."""

import pytest

from core.descend.diagnosis import Flat
from core.diagnosis.signals import History
from tests.signals import Fault, context, found_where_and_when_it_is, ids, remedy_is_taken, watch

FAULTS = [
    Fault("descend", "oscillation", {"gradient/cosine": -0.8}, overrides=("optimizer=sgd",)),
    Fault("descend", "saddle", {"descent/value": 0.7, "gradient/norm": 1e-05, "curvature/lowest": -4.0},
          overrides=("optimizer=sgd",)),
    Fault("descend", "plateau", {"descent/value": 0.7, "gradient/norm": 1e-05, "curvature/lowest": 0.0,
          "curvature/sharpness": 0.0001}, overrides=("optimizer=sgd",)),
    Fault("classes", "plateau", {"loss/train": 2.3}, overrides=("optimizer=sgd",)),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=ids(FAULTS))
def test_a_planted_fault_is_found_where_and_when_it_is_and_closes_when_it_goes(fault):
    found_where_and_when_it_is(fault)


@pytest.mark.parametrize("fault", FAULTS, ids=ids(FAULTS))
def test_the_remedy_is_overrides_that_the_configuration_takes(fault):
    remedy_is_taken(fault)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(
    ("gradient", "lowest", "sharpness", "wanted"),
    [(1e-5, -4.0, 4.0, ["saddle"]), (1e-4, 0.0, 1e-4, ["plateau"]), (1e-9, 2.0, 2.0, [])],
)
def test_flat_ground_is_told_in_any_unit_of_the_function(unit, gradient, lowest, sharpness, wanted):
    planted = {"gradient/norm": gradient, "curvature/lowest": lowest, "curvature/sharpness": sharpness}
    history = History()
    for step in range(10):
        fall = 2.0**-step if step < 3 else 0.0
        values = planted | {"descent/value": 0.7 + fall}
        history.add(step, {tag: unit * value for tag, value in values.items()})
    assert [sign.name for sign in Flat(points=5)(history, context("descend"))] == wanted


def test_a_point_of_the_plane_may_move_by_more_than_its_length():
    planted = {"gradient/update_ratio": 0.5, "gradient/norm": 2.0}
    assert watch(context("descend"), "descend", planted)[0] == []
    findings, _ = watch(context("classes"), "classes", planted)
    assert [f.name for f in findings] == ["update_too_large"]
