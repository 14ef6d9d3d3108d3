"""What a state must look like: every way of being otherwise is one line."""

import math

import pytest
import torch

from core.form import (
    AnyTensor,
    Begun,
    Each,
    Many,
    Maybe,
    Number,
    OneOf,
    Only,
    Rows,
    Scalar,
    Table,
    require_form,
)

FORM = {
    "weight": torch.zeros(2, 3),
    "step": 0,
    "rate": 0.1,
    "on": True,
    "name": "x",
    "best": Maybe(Number(finite=False)),
    "added": Maybe(0, absent=True),
    "means": Each(Scalar()),
    "rows": Many((0, 0.0)),
    "table": Begun(Table({"a": Rows(torch.zeros(1, 2)), "b": Many(0)})),
    "kind": OneOf(("one", "two")),
}
STATE = {
    "weight": torch.ones(2, 3),
    "step": 3,
    "rate": 0.2,
    "on": False,
    "name": "y",
    "best": math.nan,
    "means": {"loss": torch.tensor(1.0, dtype=torch.float64)},
    "rows": [(1, 2.0), [3, 4]],
    "table": {"a": torch.zeros(4, 2), "b": [1, 2, 3, 4]},
    "kind": "two",
}


def test_a_state_of_the_same_form_is_taken_whatever_its_values():
    require_form(STATE, FORM)
    require_form(STATE | {"best": None, "table": {}, "rows": [], "means": {}}, FORM)
    require_form(STATE | {"added": None}, FORM)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("weight", torch.ones(3, 2), r"size mismatch for weight: \[3, 2\], not \[2, 3\]"),
        ("weight", torch.ones(2, 3, dtype=torch.float64), "weight has numbers of torch.float64"),
        ("weight", torch.ones(2, 3, dtype=torch.complex64), "weight has numbers of torch.complex64"),
        ("weight", None, "weight is None, not a tensor"),
        ("step", -1, "step is -1, not a whole number >= 0"),
        ("step", 1.5, "step is 1.5, not a whole number"),
        ("step", True, "step is True, not a whole number"),
        ("rate", math.nan, "rate is nan, not a number"),
        ("rate", math.inf, "rate is inf, not a number"),
        ("on", 1, "on is 1, not a bool"),
        ("name", ["y"], "name is a list, not a str"),
        ("best", "high", "best is 'high', not a number"),
        ("means", {"loss": torch.ones(2)}, "means.loss is a Tensor, not a tensor of one number"),
        ("means", {3: torch.tensor(1.0)}, "a key of means is 3, not a text"),
        ("rows", [(1, 2.0), (1,)], "rows.1 is a list of 1, not of 2"),
        ("table", {"a": torch.zeros(4, 2), "b": [1]}, "table has parts of different lengths"),
        ("table", {"a": torch.zeros(4, 2)}, "it lacks table.b"),
        ("added", -1, "added is -1, not a whole number >= 0"),
        ("kind", "three", "kind is 'three', not one of one, two"),
    ],
)
def test_anything_else_is_named_with_its_place(name, value, says):
    with pytest.raises(ValueError, match=says):
        require_form(STATE | {name: value}, FORM)


def test_what_may_be_none_is_still_there_but_for_what_older_states_lack():
    with pytest.raises(ValueError, match="it lacks best"):
        require_form({key: value for key, value in STATE.items() if key != "best"}, FORM)


def test_a_whole_number_of_any_length_is_a_number():
    require_form(STATE | {"step": 10**400}, FORM)


def test_a_dictionary_that_becomes_arguments_has_no_other_keys():
    require_form({"a": 1}, Only({"a": 0, "b": Maybe(0, absent=True)}))
    with pytest.raises(ValueError, match=r"life\.new is of another version"):
        require_form({"a": 1, "new": 2}, Only({"a": 0}), "life")


def test_a_tensor_of_any_shape_may_have_to_be_of_one_dtype():
    require_form(torch.zeros(2, 3), AnyTensor(torch.float32))
    require_form(torch.zeros(2, dtype=torch.int64), AnyTensor())
    with pytest.raises(ValueError, match=r"w is a Tensor, not a tensor of torch\.float32"):
        require_form(torch.zeros(2).double(), AnyTensor(torch.float32), "w")
