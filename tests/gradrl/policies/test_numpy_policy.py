import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.policies.encoders import ConvolutionConfig
from gradrl.policies.networks import ACTIVATIONS, ActorCritic, MLPConfig
from gradrl.policies.numpy_policy import numpy_forward

VECTOR = spaces.Box(-1, 1, (5,))
IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
MASKED = spaces.Dict({"x": VECTOR, "action_mask": spaces.MultiBinary(5)})
DISCRETE, SEVERAL, SWITCHES = spaces.Discrete(5), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)
BOX = spaces.Box(-1, 1, (3,))
TINY = ConvolutionConfig(channels=(2,), kernel_sizes=(8,), strides=(4,), features=6)


def make(action, observation=VECTOR, **options):
    cfg = MLPConfig(**{"convolutions": TINY, "orthogonal": False} | options)
    encoder, decoder = Observation(observation), action_decoder(action)
    return ActorCritic(cfg, encoder, decoder, torch.Generator().manual_seed(0))


def rows(observation=VECTOR, count=6, seed=0):
    encoder = Observation(observation)
    random = np.random.default_rng(seed)
    if encoder.dtype == np.uint8:
        return random.integers(0, 256, (count, encoder.size), np.uint8)
    obs = random.normal(0, 3, (count, encoder.size)).astype(np.float32)
    if encoder.mask is not None:
        obs[:, encoder.mask] = [[0, 1, 1, 0, 1]]
    return obs


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("hidden_sizes", [(), (16,), (16, 8)])
def test_the_numpy_policy_computes_what_torch_computes(activation, shared, hidden_sizes):
    model = make(BOX, activation=activation, hidden_sizes=hidden_sizes, shared=shared)
    obs = rows()
    untouched = obs.copy()
    with torch.no_grad():
        expected = model.policy(torch.from_numpy(obs)).mean
        torch.testing.assert_close(torch.from_numpy(model.numpy_policy().forward(obs)), expected)
    assert np.array_equal(obs, untouched)


@pytest.mark.parametrize(
    ("action", "options"),
    [
        (DISCRETE, {}),
        (SEVERAL, {}),
        (SWITCHES, {}),
        (BOX, {}),
        (BOX, {"squash": True}),
        (BOX, {"state_dependent_std": True}),
        (BOX, {"squash": True, "sde": True}),
    ],
)
@pytest.mark.parametrize("observation", [VECTOR, IMAGE, MASKED])
def test_the_most_likely_actions_are_torchs(action, options, observation):
    if observation is MASKED and action in (SWITCHES, BOX):
        return
    model, obs = make(action, observation, **options), rows(observation)
    with torch.no_grad():
        expected = model.policy(torch.from_numpy(obs)).mode().numpy()
    found = model.numpy_policy().mode(obs)
    assert found.shape == expected.shape
    assert found == pytest.approx(expected, abs=1e-5)
    assert found.dtype == expected.dtype


def test_the_numpy_policy_sees_parameters_that_change_in_place():
    model = make(DISCRETE)
    policy = model.numpy_policy()
    with torch.no_grad():
        model.actor[-1].bias += torch.tensor([0.0, 99.0, 0.0, 0.0, 0.0])
    assert policy.mode(rows(count=2)).tolist() == [1, 1]


COUNT = 40_000
FOUR_ERRORS = 4 * math.sqrt(0.25 / COUNT)


def drawn(model, observation=VECTOR):
    """Many samples in one state, and torch's policy in it."""
    obs = np.repeat(rows(observation, 1) / 3, COUNT, 0).astype(np.float32)
    sample = model.numpy_policy().sample(obs, np.random.default_rng(0))
    with torch.no_grad():
        return sample, model.policy(torch.from_numpy(obs[:1]))


@pytest.mark.parametrize("observation", [VECTOR, MASKED])
def test_drawn_choices_have_the_policys_frequencies(observation):
    sample, policy = drawn(make(DISCRETE, MASKED), MASKED)
    expected = policy.log_probs.exp()[0].numpy()
    assert sample.dtype == np.int64
    assert np.abs(np.bincount(sample, minlength=5) / COUNT - expected).max() < FOUR_ERRORS
    sample, policy = drawn(make(SEVERAL, observation), observation)
    for k, choice in enumerate(policy.choices):
        expected = choice.log_probs.exp()[0].numpy()
        found = np.bincount(sample[:, k], minlength=len(expected)) / COUNT
        assert np.abs(found - expected).max() < FOUR_ERRORS
        assert found[expected == 0].sum() == 0


def test_drawn_switches_have_the_policys_frequencies():
    sample, policy = drawn(make(SWITCHES))
    assert sample.dtype == np.int64
    assert set(np.unique(sample)) == {0, 1}
    assert np.abs(sample.mean(0) - policy.logits[0].sigmoid().numpy()).max() < FOUR_ERRORS


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("state_dependent_std", [False, True])
def test_drawn_vectors_have_the_policys_moments(squash, state_dependent_std):
    model = make(BOX, log_std=-1.0, squash=squash, state_dependent_std=state_dependent_std)
    sample, policy = drawn(model)
    assert sample.dtype == np.float32
    gaussian = policy.gaussian if squash else policy
    before = np.arctanh(sample.astype(np.float64)) if squash else sample
    std = gaussian.log_std.detach().exp().expand(1, 3)[0].numpy()
    assert before.std(0) == pytest.approx(std, rel=0.02)
    assert np.all(np.abs(before.mean(0) - gaussian.mean[0].numpy()) < 4 * std / math.sqrt(COUNT))


def test_with_state_dependent_exploration_the_numpy_policy_adds_no_noise_of_its_own():
    policy = make(BOX, sde=True).numpy_policy()
    assert np.array_equal(policy.sample(rows(), np.random.default_rng(0)), policy.mode(rows()))


def test_silu_of_very_negative_numbers_does_not_overflow():
    with np.errstate(over="raise"):
        assert numpy_forward([torch.nn.SiLU()])(np.float32([-1e4, 0, 1e4])).tolist() == [0, 0, 1e4]


def test_drawing_follows_the_given_generator():
    for action in (DISCRETE, SEVERAL, SWITCHES, BOX):
        policy = make(action).numpy_policy()
        one, two, other = (policy.sample(rows(), np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert np.array_equal(one, two)
        assert not np.array_equal(one, other)
