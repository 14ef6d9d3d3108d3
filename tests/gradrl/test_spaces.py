import gymnasium as gym
import numpy as np
import pytest

from gradrl.spaces import action_decoder, observation_encoder


def test_box_observations_are_flattened_to_float32():
    encoder = observation_encoder(gym.spaces.Box(-1, 1, (2, 3), np.float64))
    obs = np.arange(12.0).reshape(2, 2, 3)
    assert encoder.size == 6
    assert encoder.encode(obs).dtype == np.float32
    assert encoder.encode(obs).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


def test_a_scalar_box_is_one_number():
    assert observation_encoder(gym.spaces.Box(-1, 1, ())).encode(np.array([0.5, 1.0])).tolist() == [
        [0.5],
        [1.0],
    ]


def test_discrete_observations_are_one_hot_from_their_start():
    encoder = observation_encoder(gym.spaces.Discrete(3, start=5))
    assert encoder.encode(np.array([5, 7])).tolist() == [[1, 0, 0], [0, 0, 1]]


def test_small_byte_arrays_are_vectors_and_images_are_refused():
    assert observation_encoder(gym.spaces.Box(0, 255, (7, 7, 3), np.uint8)).size == 147
    with pytest.raises(ValueError, match=r"images of shape \(64, 48, 3\) need a convolutional policy"):
        observation_encoder(gym.spaces.Box(0, 255, (64, 48, 3), np.uint8))


def test_discrete_actions_count_from_the_environments_start():
    decoder = action_decoder(gym.spaces.Discrete(4, start=-1))
    assert decoder.size == 4
    assert decoder.decode(np.array([0, 3])).tolist() == [-1, 2]


def test_bounded_actions_map_from_the_unit_interval_and_are_clipped():
    decoder = action_decoder(gym.spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)))
    decoded = decoder.decode(np.array([[-1, -1], [0, 0], [1, 1], [0.5, 0.2], [9, -9]], np.float32))
    assert decoded == pytest.approx(np.array([[-2, 0], [0, 5], [2, 10], [1, 6], [2, 0]]))
    assert decoded.dtype == np.float32


def test_unbounded_elements_keep_their_unit_and_are_clipped_on_the_bounded_side_only():
    low, high = np.array([-np.inf, 0.0, -1.0]), np.array([np.inf, np.inf, 1.0])
    decoder = action_decoder(gym.spaces.Box(low, high, dtype=np.float64))
    decoded = decoder.decode(np.array([[7.0, -3.0, 0.5], [-7.0, 8.0, 2.0]], np.float32))
    assert decoded.tolist() == [[7.0, 0.0, 0.5], [-7.0, 8.0, 1.0]]


def test_actions_of_higher_rank_get_their_shape_back():
    decoder = action_decoder(gym.spaces.Box(-1, 1, (2, 2)))
    assert decoder.storage(5, 3).shape == (5, 3, 4)
    assert decoder.decode(np.zeros((3, 4), np.float32)).shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (gym.spaces.Dict({"a": gym.spaces.Discrete(2)}), "Dict"),
        (gym.spaces.Tuple((gym.spaces.Discrete(2),)), "Tuple"),
        (gym.spaces.MultiDiscrete([2, 3]), "MultiDiscrete"),
        (gym.spaces.MultiBinary(3), "MultiBinary"),
        (gym.spaces.Text(3), "Text"),
    ],
)
def test_other_spaces_are_refused_by_name_in_one_line(space, name):
    for reader in (observation_encoder, action_decoder):
        with pytest.raises(ValueError, match=f"this one is {name}") as caught:
            reader(space)
        assert "\n" not in str(caught.value)


def test_integer_boxes_and_empty_ones_are_refused():
    with pytest.raises(ValueError, match="floating point, this space has dtype int64"):
        action_decoder(gym.spaces.Box(0, 5, (2,), np.int64))
    with pytest.raises(ValueError, match="no elements"):
        observation_encoder(gym.spaces.Box(0, 1, (0,)))
