import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from gradrl.envs.observations import Observation, unscaled_images

NESTED = spaces.Dict({
    "camera": spaces.Box(0, 255, (40, 50, 3), np.uint8),
    "joints": spaces.Tuple((
        spaces.Box(-1, 1, (2, 2), np.float64),
        spaces.Dict({"mode": spaces.Discrete(3, start=5), "lamps": spaces.MultiBinary(2)}),
    )),
    "action_mask": spaces.Box(0, 1, (4,), np.int8),
    "gear": spaces.MultiDiscrete([2, 3], start=[1, 0]),
})  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "raw"),
    [
        *((dtype, np.float32) for dtype in (np.float32, np.float16, np.int16)),
        *((dtype, np.float64) for dtype in (np.float64, np.int32, np.int64)),
    ],
)
def test_box_observations_are_flattened_and_keep_their_precision(dtype, raw):
    encoder = Observation(spaces.Box(-1, 1, (2, 3), dtype))
    obs = np.arange(12).reshape(2, 2, 3).astype(dtype)
    assert encoder.size == 6
    assert encoder.encode(obs).dtype == encoder.raw_dtype == raw
    assert encoder.dtype == np.float32
    assert encoder.encode(obs).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


def test_a_plain_vector_is_encoded_without_a_copy():
    obs = np.zeros((4, 3), np.float32)
    assert np.shares_memory(Observation(spaces.Box(-1, 1, (3,))).encode(obs), obs)


def test_a_scalar_box_is_one_number():
    encoder = Observation(spaces.Box(-1, 1, ()))
    assert encoder.encode(np.array([0.5, 1.0])).tolist() == [[0.5], [1.0]]
    assert encoder.encode_one(np.float32(0.5)).tolist() == [0.5]


def test_discrete_observations_are_one_hot_from_their_start():
    encoder = Observation(spaces.Discrete(3, start=5))
    assert encoder.encode(np.array([5, 7])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert encoder.encode_one(6).tolist() == [0, 1, 0]


def test_every_choice_of_a_multi_discrete_observation_is_one_hot():
    encoder = Observation(spaces.MultiDiscrete([[2, 3], [1, 2]], start=[[0, 1], [0, -1]]))
    assert encoder.encode(np.array([[[1, 3], [0, -1]]])).tolist() == [[0, 1, 0, 0, 1, 1, 1, 0]]


def test_switches_are_numbers():
    encoder = Observation(spaces.MultiBinary((2, 2)))
    assert encoder.encode(np.array([[[1, 0], [0, 1]]], np.int8)).tolist() == [[1, 0, 0, 1]]


def kinds(space):
    return [(part.kind, part.shape) for part in Observation(space).parts]


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((4, 84, 84), ("image", (4, 84, 84))),  # stacked grey frames
        ((84, 84, 4), ("image", (4, 84, 84))),
        ((210, 160, 3), ("image", (3, 210, 160))),
        ((3, 36, 36), ("image", (3, 36, 36))),
        ((3, 36, 35), ("vector", (3780,))),
        ((7, 7, 3), ("vector", (147,))),
        ((84, 84), ("vector", (7056,))),
        ((84, 4, 84), ("vector", (28224,))),
        ((2, 4, 84, 84), ("vector", (56448,))),
    ],
)
def test_images_are_bytes_of_rank_3_with_two_long_sides(shape, kind):
    assert kinds(spaces.Box(0, 255, shape, np.uint8)) == [kind]
    assert kinds(spaces.Box(0, 1, shape, np.float32)) == [("vector", (int(np.prod(shape)),))]


def test_images_stay_bytes_with_channels_first():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)
    last, first = (Observation(spaces.Box(0, 255, shape, np.uint8)) for shape in ((40, 50, 3), (3, 40, 50)))
    rows = last.encode(pixels)
    assert rows.dtype == last.dtype == np.uint8
    assert np.array_equal(rows.reshape(2, 3, 40, 50), pixels.transpose(0, 3, 1, 2))
    assert np.array_equal(first.encode(pixels.transpose(0, 3, 1, 2)), rows)


def test_parts_of_dictionaries_and_tuples_stand_side_by_side_with_the_mask_kept_apart():
    encoder = Observation(NESTED)
    assert encoder.dtype == np.float32
    assert [part.kind for part in encoder.parts] == ["image", "vector", "vector", "vector", "vector"]
    assert [part.stop for part in encoder.parts[:-1]] == [part.start for part in encoder.parts[1:]]
    assert encoder.mask == slice(encoder.size - 4, encoder.size)
    one = {
        "camera": np.full((40, 50, 3), 7, np.uint8),
        "joints": (
            np.array([[0.1, 0.2], [0.3, 0.4]]),
            {"mode": 6, "lamps": np.array([0, 1], np.int8)},
        ),
        "action_mask": np.array([1, 0, 1, 1], np.int8),
        "gear": np.array([2, 0]),
    }
    row = encoder.encode_one(one)
    sizes = {part.shape: row[part.start : part.stop].tolist() for part in encoder.parts}
    assert sizes[3, 40, 50] == [7] * 6000
    assert sizes[4,] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert sizes[2,] == [0, 1]
    assert sizes[3,] == [0, 1, 0]
    assert sizes[5,] == [0, 1, 1, 0, 0]
    assert row[encoder.mask].tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize("space", [NESTED, spaces.Tuple((spaces.Discrete(2), spaces.Box(-1, 1, (3,))))])
def test_batches_are_the_rows_of_their_members(space):
    encoder, batched = Observation(space), batch_space(space, 3)
    batched.seed(0)
    batch = batched.sample()
    rows = encoder.encode(batch)
    assert rows.shape == (3, encoder.size)
    for n, member in enumerate(gym.vector.utils.iterate(batched, batch)):
        assert np.array_equal(encoder.encode_one(member), rows[n])


def test_images_stay_bytes_beside_a_mask_whose_every_number_but_0_allows():
    image = spaces.Box(0, 255, (1, 36, 36), np.uint8)
    encoder = Observation(spaces.Dict({"action_mask": spaces.Box(0, 1, (3,)), "image": image}))
    row = encoder.encode_one({"image": np.full((1, 36, 36), 200, np.uint8), "action_mask": [0.0, 0.5, 1.0]})
    assert row.dtype == encoder.dtype == np.uint8
    assert row[-4:].tolist() == [200, 0, 1, 1]


def test_a_mask_deeper_down_is_a_part_like_any_other():
    inner = spaces.Dict({"action_mask": spaces.MultiBinary(2)})
    encoder = Observation(spaces.Dict({"inner": inner, "x": spaces.Box(-1, 1, (1,))}))
    assert encoder.mask is None
    assert encoder.size == 3


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Text(3), r"this one is Text"),
        (
            spaces.Dict({"a": spaces.Text(3)}),
            r"at a is Text.*; .*FilterObservation in env\.wrappers",
        ),
        (spaces.Sequence(spaces.Discrete(2)), r"this one is Sequence"),
        (spaces.Dict({"a": spaces.Tuple((spaces.Text(3),))}), r"this one at a\.0 is Text\([^;]*$"),
        (spaces.Box(0, 1, (0,)), r"Box.* has no elements"),
        (spaces.Dict({}), r"Dict\(\) has no elements"),
        (spaces.Dict({"action_mask": spaces.MultiBinary(2)}), r"Dict.* has no elements"),
        (
            spaces.Dict({"action_mask": spaces.Discrete(2), "x": spaces.Box(-1, 1, (1,))}),
            r"action_mask must be a Box or MultiBinary of 0 and 1, this one is Discrete\(2\)",
        ),
    ],
)
def test_other_observations_are_refused_by_name_in_one_line(space, message):
    with pytest.raises(ValueError, match=message) as caught:
        Observation(space)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "wrong"), [([2, 4], 4), ([1, -1], -1), ([0, 3], 0), ([3, 2], None)])
def test_an_integer_outside_of_its_space_is_refused(value, wrong):
    """Of 1 to 3 and 0 to 3; one beyond would be a row of the other, and -1 the last one."""
    encoder = Observation(spaces.MultiDiscrete([3, 4], start=[1, 0]))
    if wrong is None:
        assert encoder.encode_one(np.array(value)).tolist() == [0, 0, 1, 0, 0, 1, 0]
        return
    low, high = (1, 3) if wrong == value[0] else (0, 3)
    with pytest.raises(ValueError, match=f"observation {wrong}, outside its space: {low} to {high}$"):
        encoder.encode_one(np.array(value))


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Box(0, 255, (64, 64, 3), np.float32), True),
        (spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(0, 255, (3, 64, 64), np.float64)}), True),
        (spaces.Box(0, 255, (64, 64, 3), np.uint8), False),
        (spaces.Box(0, 1, (64, 64, 3), np.float32), False),
        (spaces.Box(0, 255, (4, 4, 3), np.float32), False),
    ],
)
def test_images_of_numbers_up_to_255_that_are_no_bytes_are_known(space, expected):
    assert unscaled_images(space) == expected
