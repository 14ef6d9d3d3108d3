import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from gradrl.networks import ACTIVATIONS, MLPActorCritic, MLPConfig
from gradrl.policies import Categorical, DiagonalGaussian
from gradrl.spaces import BoxAction, DiscreteAction

BOX = BoxAction(gym.spaces.Box(-1, 1, (3,)))


def make(action=None, seed=0, **options):
    cfg = MLPConfig(**options)
    return MLPActorCritic(cfg, 5, action or DiscreteAction(4, 0), torch.Generator().manual_seed(seed))


def test_orthogonal_layers_have_equal_singular_values_with_the_usual_gains():
    model = make(hidden_sizes=(32, 32))
    for net, last in ((model.actor, 0.01), (model.critic, 1.0)):
        layers = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
        for layer, gain in zip(layers, (math.sqrt(2), math.sqrt(2), last), strict=True):
            values = torch.linalg.svdvals(layer.weight.detach().double())
            torch.testing.assert_close(values, torch.full_like(values, gain), rtol=1e-5, atol=1e-6)
            assert not layer.bias.any()


def test_plain_initialisation_stays_within_its_bounds():
    layer = make(orthogonal=False, hidden_sizes=(64,)).actor[0]
    assert 0.9 / math.sqrt(5) < layer.weight.abs().max() <= 1 / math.sqrt(5)
    assert layer.bias.any()


def test_weights_follow_the_given_generator_and_leave_the_global_one_alone():
    before = torch.get_rng_state()
    first, second, other = make(seed=1), make(seed=1), make(seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.actor[0].weight, other.actor[0].weight)


def test_the_action_space_decides_the_kind_of_policy_and_shapes_follow():
    discrete, value = make()(torch.zeros(7, 5))
    assert isinstance(discrete, Categorical)
    assert discrete.logits.shape == (7, 4)
    assert value.shape == (7,)
    model = make(BOX, log_std=-0.5)
    continuous, _ = model(torch.zeros(7, 5))
    assert isinstance(continuous, DiagonalGaussian)
    assert continuous.mean.shape == (7, 3)
    assert model.log_std.tolist() == [-0.5] * 3
    assert model.value(torch.zeros(2, 3, 5)).shape == (2, 3)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("action", [DiscreteAction(4, 0), BOX])
@pytest.mark.parametrize("hidden_sizes", [(), (16,), (16, 8)])
def test_the_host_policy_computes_what_torch_computes(activation, action, hidden_sizes):
    model = make(action, activation=activation, hidden_sizes=hidden_sizes, orthogonal=False)
    obs = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)) * 3
    untouched = obs.clone()
    host = model.host_policy()
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(host.forward(obs.numpy())), model.actor(obs))
        assert np.array_equal(host.mode(obs.numpy()), model.policy(obs).mode().numpy()) or action is BOX
    assert torch.equal(obs, untouched)


def test_the_host_policy_sees_parameters_that_change_in_place():
    model = make()
    host = model.host_policy()
    with torch.no_grad():
        model.actor[-1].bias += torch.tensor([0.0, 9.0, 0.0, 0.0])
    assert host.mode(np.zeros((2, 5), np.float32)).tolist() == [1, 1]


def test_host_samples_have_the_policys_frequencies_and_moments():
    count = 40_000
    model = make(orthogonal=False)
    obs = torch.ones(count, 5)
    drawn = (
        np.bincount(model.host_policy().sample(obs.numpy(), np.random.default_rng(0)), minlength=4) / count
    )
    expected = torch.softmax(model.actor(obs[:1])[0], 0).detach().numpy()
    assert np.abs(drawn - expected).max() < 4 * math.sqrt(0.25 / count)
    model = make(BOX, orthogonal=False, log_std=-1.0)
    sample = model.host_policy().sample(obs.numpy(), np.random.default_rng(0))
    assert sample.dtype == np.float32
    assert sample.std(0) == pytest.approx([math.exp(-1)] * 3, rel=0.02)
    assert sample.mean(0) == pytest.approx(
        model.actor(obs[:1])[0].tolist(), abs=4 * math.exp(-1) / math.sqrt(count)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_sizes": (64, 0)}, r"hidden_sizes must be integers >= 1, got \(64, 0\)"),
        ({"activation": "gelu"}, "activation must be one of"),
        ({"log_std": float("nan")}, r"log_std must be in \[-20, 2\], got nan"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        MLPConfig(**options)
