import copy
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.func import functional_call, grad, vmap

from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.policies.actor import StatelessActor
from gradrl.policies.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    MultiCategorical,
    SquashedGaussian,
)
from gradrl.policies.encoders import ConvolutionConfig
from gradrl.policies.networks import ActorCritic, MLPConfig
from gradrl.policies.sde import Exploration

VECTOR = spaces.Box(-1, 1, (5,))
IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
DISCRETE, BOX = spaces.Discrete(4), spaces.Box(-1, 1, (3,))
MASKED = spaces.Dict({"x": VECTOR, "action_mask": spaces.MultiBinary(4)})
TINY = ConvolutionConfig(channels=(2,), kernel_sizes=(8,), strides=(4,), features=6)


def make(action=DISCRETE, observation=VECTOR, seed=0, **options):
    cfg = MLPConfig(**{"convolutions": TINY} | options)
    return ActorCritic(
        cfg, Observation(observation), action_decoder(action), torch.Generator().manual_seed(seed)
    )


def test_orthogonal_layers_have_equal_singular_values_with_the_usual_gains():
    model = make(hidden_sizes=(32, 32))
    for net, last in ((model.actor, 0.01), (model.critic, 1.0)):
        layers = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
        for layer, gain in zip(layers, (math.sqrt(2), math.sqrt(2), last), strict=True):
            values = torch.linalg.svdvals(layer.weight.detach().double())
            torch.testing.assert_close(values, torch.full_like(values, gain), rtol=1e-5, atol=1e-6)
            assert not layer.bias.any()


def test_shared_layers_keep_the_gains():
    model = make(hidden_sizes=(32, 16), shared=True)
    gains = [(model.trunk[0], math.sqrt(2)), (model.trunk[2], math.sqrt(2))]
    for layer, gain in [*gains, (model.actor[0], 0.01), (model.critic[0], 1.0)]:
        values = torch.linalg.svdvals(layer.weight.detach().double())
        torch.testing.assert_close(values, torch.full_like(values, gain), rtol=1e-5, atol=1e-6)


def test_plain_initialisation_stays_within_its_bounds():
    layer = make(orthogonal=False, hidden_sizes=(64,)).actor[0]
    assert 0.9 / math.sqrt(5) < layer.weight.abs().max() <= 1 / math.sqrt(5)
    assert layer.bias.any()


def test_the_first_initial_weights_are_those_that_results_were_made_with():
    """A change here changes every curve of every seed."""
    weights = [0.8906772136688232, 0.35948053002357483, 0.08306395262479782, 0.8367601633071899]
    assert make(seed=1, hidden_sizes=(2,)).actor[0].weight[0, :4].tolist() == pytest.approx(weights, rel=1e-5)
    last = make(seed=1, hidden_sizes=(2,), orthogonal=False).critic[2]  # behind all other draws
    assert last.weight[0].tolist() == [0.6209187507629395, -0.11778206378221512]
    assert last.bias.tolist() == [0.3026130199432373]


def test_weights_follow_the_given_generator_and_leave_the_global_one_alone():
    before = torch.get_rng_state()
    first, second, other = make(seed=1), make(seed=1), make(seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.actor[0].weight, other.actor[0].weight)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("action", "options", "kind", "shape"),
    [
        (DISCRETE, {}, Categorical, (7,)),
        (spaces.MultiDiscrete([2, 3]), {}, MultiCategorical, (7, 2)),
        (spaces.MultiBinary(3), {}, Bernoulli, (7, 3)),
        (BOX, {}, DiagonalGaussian, (7, 3)),
        (BOX, {"state_dependent_std": True}, DiagonalGaussian, (7, 3)),
        (BOX, {"sde": True}, DiagonalGaussian, (7, 3)),
        (BOX, {"squash": True}, SquashedGaussian, (7, 3)),
        (BOX, {"squash": True, "sde": True}, SquashedGaussian, (7, 3)),
        (BOX, {"squash": True, "state_dependent_std": True}, SquashedGaussian, (7, 3)),
    ],
)
def test_the_action_space_decides_the_kind_of_policy_and_shapes_follow(shared, action, options, kind, shape):
    model = make(action, shared=shared, **options)
    obs = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    policy, value = model(obs)
    assert type(policy) is kind
    assert policy.mode().shape == shape
    assert policy.log_prob(policy.mode()).shape == policy.entropy().shape == value.shape == (7,)
    alone, together = model.policy(obs), model.value(obs)
    torch.testing.assert_close(alone.log_prob(policy.mode()), policy.log_prob(policy.mode()))
    torch.testing.assert_close(together, value)
    assert model.value(torch.zeros(2, 3, 5)).shape == (2, 3)


@pytest.mark.parametrize("squash", [False, True])
def test_the_initial_deviation_is_the_configured_one_in_every_state(squash):
    obs = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    for options in ({}, {"state_dependent_std": True}):
        policy = make(BOX, log_std=-0.5, squash=squash, **options).policy(obs)
        log_std = (policy.gaussian if squash else policy).log_std.expand(4, 3)
        torch.testing.assert_close(log_std, torch.full((4, 3), -0.5), atol=0.05, rtol=0)


def test_a_state_dependent_deviation_moves_with_the_state_and_stays_within_its_range():
    model = make(BOX, state_dependent_std=True, orthogonal=False)
    assert model.log_std is None
    near, far = torch.zeros(1, 5), torch.ones(1, 5)
    assert not torch.equal(model.policy(near).log_std, model.policy(far).log_std)
    with torch.no_grad():
        model.actor[-1].bias[3:] = torch.tensor([100.0, -100.0, 0.0])
    assert model.policy(near).log_std[0, :2].tolist() == [2.0, -20.0]


@pytest.mark.parametrize("hidden_sizes", [(), (8,)])
@pytest.mark.parametrize("observation", [VECTOR, IMAGE])
def test_shared_parameters_are_those_that_both_losses_reach(observation, hidden_sizes):
    for shared in (False, True):
        model = make(observation=observation, shared=shared, hidden_sizes=hidden_sizes, orthogonal=False)
        encoded = Observation(observation)
        obs = torch.randint(256, (6, encoded.size), generator=torch.Generator().manual_seed(0)).float()
        policy, value = model(obs / 100)
        parameters = dict(model.named_parameters())
        reached = []
        for loss in (policy.log_prob(policy.mode()).sum(), value.sum()):
            gradients = torch.autograd.grad(
                loss, [*parameters.values()], allow_unused=True, retain_graph=True
            )
            names = zip(parameters, gradients, strict=True)
            reached.append({name for name, gradient in names if gradient is not None})
        found = model.shared_parameters()
        assert {name for name, _ in found} == reached[0] & reached[1]
        assert all(parameters[name] is parameter for name, parameter in found)
        assert reached[0] | reached[1] == set(parameters)
        assert bool(found) == (shared and (observation is IMAGE or bool(hidden_sizes)))


def test_a_mask_of_the_observation_forbids_actions_and_is_not_seen_by_the_network():
    model = make(observation=MASKED, orthogonal=False)
    x = torch.randn(1, 5, generator=torch.Generator().manual_seed(0)).expand(3, 5)
    mask = torch.tensor([[1.0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0]])
    policy, value = model(torch.cat([x, mask], -1))
    probabilities = policy.log_probs.exp()
    assert probabilities[mask == 0].eq(0).all()
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(3))
    torch.testing.assert_close(
        probabilities[1, 1] / probabilities[1, 3], probabilities[0, 1] / probabilities[0, 3]
    )
    torch.testing.assert_close(value, value[:1].expand(3))


def test_a_mask_of_several_choices_covers_them_side_by_side():
    space = spaces.Dict({"x": VECTOR, "action_mask": spaces.MultiBinary(5)})
    model = make(spaces.MultiDiscrete([2, 3]), space)
    mask = torch.tensor([[0.0, 1, 0, 0, 1]])
    assert model.policy(torch.cat([torch.zeros(1, 5), mask], -1)).mode().tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("observation", "action", "options", "message"),
    [
        (MASKED, spaces.Discrete(3), {}, "the action_mask has 4 elements for 3 actions"),
        (MASKED, spaces.MultiDiscrete([2, 3]), {}, "the action_mask has 4 elements for 5 actions"),
        (MASKED, BOX, {}, "an action_mask needs Discrete or MultiDiscrete actions"),
        (MASKED, spaces.MultiBinary(4), {}, "an action_mask needs Discrete or MultiDiscrete actions"),
        (
            VECTOR,
            spaces.Box(-np.inf, 1, (3,)),
            {"squash": True},
            "policy.squash=true needs actions with bounds",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(observation, action, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        make(action, observation, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shared", [False, True])
def test_values_of_bytes_keep_the_leading_axes_and_none_at_all_are_none(shared):
    model = make(observation=IMAGE, shared=shared)
    obs = torch.randint(256, (2, 3, 36 * 36), generator=torch.Generator().manual_seed(0)).byte()
    values = model.value(obs)
    torch.testing.assert_close(values, torch.stack([model(steps)[1] for steps in obs]))
    assert values.unique().numel() == 6
    assert model.value(obs[0, :0]).shape == (0,)  # final observations of a rollout without any


EVERY = [
    (DISCRETE, VECTOR, {}),
    (DISCRETE, MASKED, {}),
    (DISCRETE, IMAGE, {"shared": True, "hidden_sizes": ()}),
    (spaces.MultiDiscrete([2, 3]), IMAGE, {}),
    (spaces.MultiBinary(3), spaces.Dict({"image": IMAGE, "x": VECTOR}), {}),
    (BOX, VECTOR, {"state_dependent_std": True}),
    (BOX, VECTOR, {"sde": True, "hidden_sizes": ()}),
    (BOX, VECTOR, {"sde": True, "shared": True}),
    (BOX, IMAGE, {"squash": True}),
]


def every(action, observation, options):
    """A model without small layers, rows and actions for it."""
    model = make(action, observation, orthogonal=False, **options)
    encoder = Observation(observation)
    g = torch.Generator().manual_seed(0)
    obs = torch.randint(256, (3, encoder.size), generator=g)
    if encoder.mask is not None:
        obs[:, encoder.mask] = 1
    obs = obs.byte() if encoder.dtype == np.uint8 else obs.float() / 50
    with torch.no_grad():
        return model, obs, model.policy(obs).sample(g)


@pytest.mark.parametrize(("action", "observation", "options"), EVERY)
def test_copies_and_other_parameters_give_policies_of_their_own(action, observation, options):
    model, obs, chosen = every(action, observation, options)
    first = model.policy(obs).log_prob(chosen).detach()
    twin = copy.deepcopy(model)
    others = {name: p.detach() * 1.5 for name, p in model.named_parameters()}
    policy, value = functional_call(model, others, (obs,))
    assert torch.equal(model.policy(obs).log_prob(chosen), first)
    model.load_state_dict(others)
    torch.testing.assert_close(policy.log_prob(chosen), model.policy(obs).log_prob(chosen))
    torch.testing.assert_close(value, model.value(obs))
    assert not torch.equal(policy.log_prob(chosen), first)
    assert torch.equal(twin.policy(obs).log_prob(chosen), first)
    assert model.policy(obs).kl(twin.policy(obs)).min() > 0


@pytest.mark.parametrize(("action", "observation", "options"), EVERY)
def test_gradients_of_single_samples_at_once_are_those_one_by_one(action, observation, options):
    model, obs, chosen = every(action, observation, options)

    def loss(parameters, obs, chosen):
        policy, value = functional_call(model, parameters, (obs[None],))
        return (policy.log_prob(chosen[None]) + policy.entropy() + value).sum()

    parameters = {name: p.detach() for name, p in model.named_parameters()}
    together = vmap(grad(loss), (None, 0, 0))(parameters, obs, chosen)
    for i in range(len(obs)):
        torch.testing.assert_close(
            {name: g[i] for name, g in together.items()}, grad(loss)(parameters, obs[i], chosen[i])
        )


def test_state_dependent_exploration_acts_by_itself_unless_the_most_likely_action_is_wanted():
    rng = np.random.default_rng(0)
    assert isinstance(make(BOX, sde=True).make_actor(rng), Exploration)
    for model, deterministic in ((make(BOX, sde=True), True), (make(sde=True), False), (make(BOX), False)):
        actor = model.make_actor(rng, deterministic=deterministic)
        assert isinstance(actor, StatelessActor)
        assert actor.deterministic is deterministic


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_sizes": (64, 0)}, r"hidden_sizes must be a list of integers >= 1, got \[64, 0\]"),
        ({"activation": "gelu"}, "activation must be one of"),
        ({"log_std": float("nan")}, r"log_std must be in \[-20, 2\], got nan"),
        ({"sde_interval": 0}, "sde_interval must be an integer >= 1 or null, got 0"),
        ({"sde": True, "state_dependent_std": True}, "sde must be false with state_dependent_std, got True"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        MLPConfig(**options)
