import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from gradrl.envs.spaces import action_decoder


def test_discrete_actions_count_from_the_environments_start():
    decoder = action_decoder(spaces.Discrete(4, start=-1))
    assert (decoder.size, decoder.outputs) == (4, 4)
    assert decoder.decode(np.array([0, 3])).tolist() == [-1, 2]


def test_bounded_actions_map_from_the_unit_interval_and_are_clipped():
    decoder = action_decoder(spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)))
    decoded = decoder.decode(np.array([[-1, -1], [0, 0], [1, 1], [0.5, 0.2], [9, -9]], np.float32))
    assert decoder.bounded
    assert decoded == pytest.approx(np.array([[-2, 0], [0, 5], [2, 10], [1, 6], [2, 0]]))
    assert decoded.dtype == np.float32


def test_unbounded_elements_keep_their_unit_and_are_clipped_on_the_bounded_side_only():
    low, high = np.array([-np.inf, 0.0, -1.0]), np.array([np.inf, np.inf, 1.0])
    decoder = action_decoder(spaces.Box(low, high, dtype=np.float64))
    decoded = decoder.decode(np.array([[7.0, -3.0, 0.5], [-7.0, 8.0, 2.0]], np.float32))
    assert not decoder.bounded
    assert decoded.tolist() == [[7.0, 0.0, 0.5], [-7.0, 8.0, 1.0]]


def test_several_choices_count_from_their_starts_and_get_their_shape_back():
    space = spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[0, 1], [-1, 5]])
    decoder = action_decoder(space)
    assert decoder.sizes == (2, 3, 4, 2)
    assert (decoder.size, decoder.outputs) == (4, 11)
    assert decoder.decode(np.array([[0, 0, 0, 0], [1, 2, 3, 1]])).tolist() == [
        [[0, 1], [-1, 5]], [[1, 3], [2, 6]]
    ]  # fmt: skip


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=2),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiDiscrete([[2, 3]]),
        spaces.MultiBinary(3),
        spaces.MultiBinary((2, 2)),
        spaces.Box(-2, 5, (2, 2)),
        spaces.Box(-2, 5, (3,), np.float64),
    ],
)
def test_decoded_actions_are_what_the_vector_environment_takes(space):
    decoder = action_decoder(space)
    stored = decoder.storage(5, 3)
    assert stored.shape[:2] == (5, 3)
    assert batch_space(space, 3).contains(decoder.decode(stored[0]))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Dict({"a": spaces.Discrete(2)}), "this one is Dict"),
        (spaces.Tuple((spaces.Discrete(2),)), "this one is Tuple"),
        (spaces.Text(3), "this one is Text"),
        (spaces.Box(0, 5, (2,), np.int64), "floating point, this space has dtype int64"),
        (spaces.Box(0, 1, (0,)), "no elements"),
    ],
)
def test_other_actions_are_refused_by_name_in_one_line(space, message):
    with pytest.raises(ValueError, match=message) as caught:
        action_decoder(space)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("bound", "dtype", "bounded"),
    [
        (np.finfo(np.float32).max, np.float32, False),
        (np.finfo(np.float64).max, np.float64, False),
        (np.finfo(np.float16).max, np.float16, False),
        (1e30, np.float64, False),
        (1e6, np.float32, True),
    ],
)
def test_a_bound_that_stands_for_infinity_is_none(bound, dtype, bounded):
    action = action_decoder(spaces.Box(-bound, bound, (2,), dtype))
    decoded = action.decode(np.array([[1.0, -1.0]], np.float32))
    assert action.bounded == bounded
    assert decoded.tolist() == ([[bound, -bound]] if bounded else [[1, -1]])
