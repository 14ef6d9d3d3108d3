"""Rules about descents on planted signals."""

import pytest

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


def test_a_point_of_the_plane_may_move_by_more_than_its_length():
    planted = {"gradient/update_ratio": 0.5, "gradient/norm": 2.0}
    assert watch(context("descend"), "descend", planted)[0] == []
    findings, _ = watch(context("classes"), "classes", planted)
    assert [f.name for f in findings] == ["update_too_large"]
