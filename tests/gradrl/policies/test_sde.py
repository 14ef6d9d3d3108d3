import itertools
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.policies.networks import ActorCritic, MLPConfig
from gradrl.policies.sde import EPSILON, Exploration, exploration_log_std

OBS = np.random.default_rng(5).normal(size=(4, 5)).astype(np.float32)
NONE = np.zeros(4, np.bool_)


def make(**options):
    return ActorCritic(
        MLPConfig(**{"hidden_sizes": (6,), "orthogonal": False, "sde": True, "log_std": -1.0} | options),
        Observation(spaces.Box(-1, 1, (5,))),
        action_decoder(spaces.Box(-1, 1, (2,))),
        torch.Generator().manual_seed(0),
    )


def exploration(model, seed=0):
    actor = model.make_actor(np.random.default_rng(seed))
    assert isinstance(actor, Exploration)
    return actor


def test_the_policy_in_a_state_is_the_distribution_of_actions_over_draws():
    model = make()
    with torch.no_grad():
        model.log_std += torch.randn(6, 2, generator=torch.Generator().manual_seed(1)) / 2
    state = OBS[:1]
    count = 20_000
    actor = exploration(model)
    actor.begin(count)  # a matrix of its own for every environment
    actions = actor(np.repeat(state, count, 0), np.zeros(count, np.bool_)).astype(np.float64)
    with torch.no_grad():
        policy = model.policy(torch.from_numpy(state))
    std = policy.log_std.exp()[0].numpy()
    assert np.all(np.abs(actions.mean(0) - policy.mean[0].numpy()) < 4 * std / math.sqrt(count))
    assert actions.std(0) == pytest.approx(std, rel=4 / math.sqrt(2 * count))
    assert std[0] != pytest.approx(std[1], rel=0.05)
    entropy = -policy.log_prob(torch.from_numpy(actions).float()).double()  # its mean estimates the entropy
    error = entropy.std().item() / math.sqrt(count)
    assert entropy.mean().item() == pytest.approx(policy.entropy().item(), abs=4 * error)
    correlation = np.corrcoef(actions.T)[0, 1]
    assert abs(correlation) < 4 / math.sqrt(count)  # elements of the action are independent


def test_the_variance_is_the_square_of_the_features_times_that_of_the_weights():
    features = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]], dtype=torch.float64)
    sigma = torch.tensor([[0.1, 1.0], [0.2, 2.0], [0.3, 3.0]], dtype=torch.float64)
    variance = (2 * exploration_log_std(features, sigma.log())).exp()
    expected = [[0.01 + 0.16 + 0.0225, 1 + 16 + 2.25], [0.0, 0.0]]
    torch.testing.assert_close(variance, torch.tensor(expected, dtype=torch.float64) + EPSILON)


def test_the_gradient_reaches_the_weights_deviation_and_not_the_features_through_the_variance():
    model = make()
    policy = model.policy(torch.from_numpy(OBS))
    policy.entropy().sum().backward()  # of the variance alone
    assert model.log_std.grad.abs().min() > 0
    assert all(p.grad is None for p in model.actor.parameters())
    model.policy(torch.from_numpy(OBS)).log_prob(torch.ones(4, 2)).sum().backward()
    assert all(p.grad.any() for p in model.actor.parameters())


def test_within_a_draw_the_noise_is_a_function_of_the_state():
    actor = exploration(make())
    actor.begin(4)
    first = actor(OBS, NONE)
    assert not np.array_equal(first, actor(OBS + 1, NONE))
    assert np.array_equal(first, actor(OBS, ~NONE))  # the beginning of an episode changes nothing
    assert not np.array_equal(actor(OBS[:1].repeat(4, 0), NONE)[0], actor(OBS[:1].repeat(4, 0), NONE)[1])


def draws(actor, rollouts, steps):
    """Whether the noise of each step is another one than that of the step before."""
    actions = []
    for _ in range(rollouts):
        actor.begin(4)
        actions += [actor(OBS, NONE) for _ in range(steps)]
    return [int(not np.array_equal(a, b)) for a, b in itertools.pairwise(actions)]


@pytest.mark.parametrize(
    ("interval", "expected"),
    [(None, [0, 0, 1, 0, 0]), (1, [1, 1, 1, 1, 1]), (2, [0, 1, 0, 1, 0]), (4, [0, 0, 0, 1, 0])],
)
def test_noise_is_drawn_once_per_rollout_or_at_an_interval_that_runs_across_rollouts(interval, expected):
    assert draws(exploration(make(sde_interval=interval)), rollouts=2, steps=3) == expected


def test_a_new_rollout_takes_over_the_parameters_and_keeps_the_draw():
    model = make(sde_interval=100)
    actor = exploration(model)
    actor.begin(4)
    mean = model.numpy_policy().forward(OBS)
    noise = actor(OBS, NONE) - mean
    with torch.no_grad():
        model.log_std += math.log(3)
    actor.begin(4)
    np.testing.assert_allclose(actor(OBS, NONE) - mean, 3 * noise, rtol=1e-4, atol=1e-6)


def test_squashed_actions_are_tanh_of_the_others():
    plain, squashed = (exploration(make(squash=squash)) for squash in (False, True))
    for actor in (plain, squashed):
        actor.begin(4)
    np.testing.assert_allclose(squashed(OBS, NONE), np.tanh(plain(OBS, NONE)), rtol=1e-6)


@pytest.mark.parametrize("interval", [None, 3])
def test_a_resumed_actor_continues_with_the_same_noise(interval):
    model = make(sde_interval=interval)
    actor, resumed = exploration(model), exploration(model, seed=9)
    assert actor.state_dict()["noise"] is None  # nothing drawn yet
    actor.begin(4)
    actor(OBS, NONE)
    actor(OBS, NONE)
    state = actor.state_dict()
    resumed.load_state_dict(state)
    resumed.generator.bit_generator.state = actor.generator.bit_generator.state
    for own in (actor, resumed):
        own.begin(4)
    for _ in range(5):
        assert np.array_equal(actor(OBS, NONE), resumed(OBS, NONE))


@pytest.mark.parametrize(
    "options", [{"hidden_sizes": ()}, {"shared": True}, {"hidden_sizes": (), "shared": True}]
)
def test_the_mean_is_that_of_the_policy_for_every_shape_of_network(options):
    model = make(log_std=-20.0, **options)
    actor = exploration(model)
    actor.begin(4)
    with torch.no_grad():
        expected = model.policy(torch.from_numpy(OBS)).mean.numpy()
    np.testing.assert_allclose(actor(OBS, NONE), expected, rtol=1e-5, atol=1e-6)


def test_it_has_no_memory_that_is_trained_on():
    actor = exploration(make())
    actor.begin(4)
    assert actor.recurrent_state.shape == (4, 0)
