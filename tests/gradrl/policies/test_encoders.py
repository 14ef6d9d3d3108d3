import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.nn import functional

from gradrl.envs.observations import Observation
from gradrl.policies.encoders import ConvolutionConfig, Encoder, needs_encoder

SMALL = ConvolutionConfig(channels=(3, 4), kernel_sizes=(8, 4), strides=(4, 2), features=5)
MIXED = spaces.Dict({
    "camera": spaces.Box(0, 255, (36, 40, 3), np.uint8),
    "speed": spaces.Box(-1, 1, (2,)),
    "action_mask": spaces.MultiBinary(4),
    "map": spaces.Box(0, 255, (1, 36, 36), np.uint8),
    "gear": spaces.Discrete(3),
})  # fmt: skip


def encoder_of(space, cfg=SMALL, orthogonal=True, seed=0):
    observation = Observation(space)
    return observation, Encoder(cfg, observation, orthogonal, torch.Generator().manual_seed(seed))


def test_the_default_is_the_network_of_mnih_et_al():
    _, encoder = encoder_of(spaces.Box(0, 255, (4, 84, 84), np.uint8), ConvolutionConfig())
    layers = [tuple(p.shape) for p in encoder.parameters() if p.dim() > 1]
    assert layers == [(32, 4, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3), (512, 3136)]
    assert encoder.size == 512


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (0,)])
def test_features_are_convolutions_of_pixels_in_the_unit_interval(lead):
    observation, encoder = encoder_of(spaces.Box(0, 255, (36, 40, 3), np.uint8))
    pixels = torch.randint(256, (*lead, 3, 36, 40), generator=torch.Generator().manual_seed(0))
    features = encoder(pixels.flatten(-3).byte())
    assert observation.dtype == np.uint8
    assert features.shape == (*lead, 5)
    first, second, last = ([*encoder.images[0]][i] for i in (0, 2, 5))
    x = pixels.reshape(-1, 3, 36, 40) / 255
    x = functional.conv2d(x, first.weight, first.bias, 4).relu()
    x = functional.conv2d(x, second.weight, second.bias, 2).relu()
    expected = (x.flatten(1) @ last.weight.T + last.bias).relu().reshape(*lead, 5)
    torch.testing.assert_close(features, expected)


def test_vectors_stand_beside_image_features_and_the_mask_is_left_out():
    observation, encoder = encoder_of(MIXED)
    assert encoder.size == 5 + 2 + 5 + 3
    rows = torch.rand(2, observation.size, generator=torch.Generator().manual_seed(0))
    features = encoder(rows)
    start = 0
    for part in observation.parts:
        size = part.shape[0] if part.kind == "vector" else 5
        if part.kind == "vector":
            assert torch.equal(features[:, start : start + size], rows[:, part.start : part.stop])
        start += size
    changed = rows.clone()
    changed[:, observation.mask] += 1
    assert torch.equal(encoder(changed), features)
    for part in observation.parts:
        changed = rows.clone()
        changed[:, part.start : part.stop] = 0
        assert not torch.equal(encoder(changed), features)


def test_a_plain_vector_needs_no_encoder_while_images_and_masks_do():
    assert not needs_encoder(Observation(spaces.Box(-1, 1, (3,))))
    assert not needs_encoder(Observation(spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3)))))
    assert needs_encoder(Observation(spaces.Box(0, 255, (36, 36, 1), np.uint8)))
    masked = spaces.Dict({"x": spaces.Discrete(2), "action_mask": spaces.MultiBinary(2)})
    assert needs_encoder(Observation(masked))


def test_orthogonal_convolutions_have_equal_singular_values():
    _, encoder = encoder_of(spaces.Box(0, 255, (36, 40, 3), np.uint8))
    for p in encoder.parameters():
        if p.dim() > 1:
            values = torch.linalg.svdvals(p.detach().flatten(1).double())
            torch.testing.assert_close(values, torch.full_like(values, math.sqrt(2)), rtol=1e-5, atol=1e-6)
        else:
            assert not p.any()


def test_plain_weights_stay_within_the_bound_of_their_fan_in():
    _, encoder = encoder_of(spaces.Box(0, 255, (36, 40, 3), np.uint8), orthogonal=False)
    weight = encoder.images[0][0].weight
    bound = 1 / math.sqrt(3 * 8 * 8)
    assert 0.9 * bound < weight.abs().max() <= bound


def test_weights_follow_the_given_generator_and_leave_the_global_one_alone():
    before = torch.get_rng_state()
    first, second, other = (encoder_of(MIXED, seed=seed)[1] for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_images_too_small_for_the_convolutions_are_refused():
    cfg = ConvolutionConfig(channels=(2, 2), kernel_sizes=(8, 12), strides=(4, 2))
    with pytest.raises(ValueError, match=r"images of shape \(3, 36, 40\) are too small"):
        encoder_of(spaces.Box(0, 255, (36, 40, 3), np.uint8), cfg)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strides": (4, 2)}, r"strides must be 3 integers >= 1, one per convolution, got \[4, 2\]"),
        ({"channels": (32, 0, 1)}, r"channels must be 3 integers >= 1"),
        ({"features": 0}, "features must be an integer >= 1, got 0"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        ConvolutionConfig(**options)
