import json
import math

import numpy as np
import pytest
from gymnasium import spaces

from gradrl.envs.plain_spaces import from_plain, to_plain

SPACES = [
    spaces.Box(-1, 1, (3,), np.float32),
    spaces.Box(np.float32([-4.8, -np.inf]), np.float32([0.1, np.inf])),
    spaces.Box(np.array([[0, 5]]), np.array([[7, 9]]), dtype=np.int64),
    spaces.Box(0, 255, (40, 50, 3), np.uint8),
    spaces.Box(-1, 1, (), np.float64),
    spaces.Discrete(3, start=-5),
    spaces.MultiDiscrete([[2, 3], [4, 1]], start=[[0, 1], [2, 3]]),
    spaces.MultiDiscrete([2, 3], dtype=np.int32),
    spaces.MultiBinary(4),
    spaces.MultiBinary((2, 3)),
    spaces.Dict({"z": spaces.Discrete(2), "a": spaces.Tuple((spaces.MultiBinary(1), spaces.Discrete(3)))}),
]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: str(space)[:40])
def test_a_space_comes_back_through_strict_json(space):
    text = json.dumps(to_plain(space), allow_nan=False)
    again = from_plain(json.loads(text))
    assert again == space
    assert again.dtype == space.dtype


def test_the_order_of_parts_is_kept():
    space = spaces.Dict([("z", spaces.Discrete(2)), ("a", spaces.Discrete(3))])
    assert list(from_plain(json.loads(json.dumps(to_plain(space)))).spaces) == ["z", "a"]


def test_equal_bounds_are_one_number_however_many_there_are():
    assert len(json.dumps(to_plain(spaces.Box(0, 255, (210, 160, 3), np.uint8)))) < 200


def test_a_space_of_no_supported_kind_cannot_be_written_down():
    with pytest.raises(ValueError, match="Text"):
        to_plain(spaces.Text(3))


@pytest.mark.parametrize(
    "plain",
    [
        None,
        [],
        {},
        {"kind": "Text"},
        {"kind": "Box"},
        {"kind": "Box", "shape": [2], "dtype": "float32", "low": [0, 0, 0], "high": 1},
        {"kind": "Box", "shape": [2], "dtype": "nothing", "low": 0, "high": 1},
        {"kind": "Box", "shape": [2], "dtype": "uint8", "low": 0, "high": 300},
        {"kind": "Box", "shape": [2], "dtype": "float32", "low": "x", "high": 1},
        {"kind": "Box", "shape": [10**6, 10**6], "dtype": "float32", "low": 0, "high": 1},
        {"kind": "Box", "shape": [-1], "dtype": "float32", "low": 0, "high": 1},
        {"kind": "Discrete", "n": 0, "start": 0},
        {"kind": "Discrete", "n": 10**12, "start": 0},
        {"kind": "Discrete", "n": "2.5", "start": 0},
        {"kind": "MultiDiscrete", "nvec": [2], "start": [1, 2, 3], "dtype": "int64"},
        {"kind": "MultiDiscrete", "nvec": "ab", "start": [0], "dtype": "int64"},
        {"kind": "Tuple", "spaces": 3},
        {"kind": "Dict", "spaces": {"a": {"kind": "Tuple", "spaces": [{"kind": "Discrete", "n": -1}]}}},
        {"kind": "Discrete", "n": math.nan, "start": 0},
    ],
)
def test_what_is_no_space_is_refused_in_one_line(plain):
    with pytest.raises(ValueError, match=r"^no space: ") as caught:
        from_plain(plain)
    assert "\n" not in str(caught.value)
