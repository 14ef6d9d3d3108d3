import math

import pytest
import torch
from torch import distributions as torch_distributions
from torch.distributions import kl_divergence

from gradrl.policies.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    MultiCategorical,
    SquashedGaussian,
)

LOGITS = torch.tensor([[0.5, -1.0, 2.0], [3.0, 3.0, -20.0]], dtype=torch.float64)
OTHER_LOGITS = torch.tensor([[-0.5, 1.0, 0.0], [3.0, 1.0, -2.0]], dtype=torch.float64)
MASK = torch.tensor([[1, 0, 1], [0, 1, 0]])
MEAN = torch.tensor([[0.5, -1.0], [3.0, 0.0]], dtype=torch.float64)
OTHER_MEAN = torch.tensor([[0.0, -2.0], [3.5, 1.0]], dtype=torch.float64)
LOG_STD = torch.tensor([-0.7, 0.4], dtype=torch.float64)
OTHER_LOG_STD = torch.tensor([[0.2, -0.1], [-1.0, 0.5]], dtype=torch.float64)
VECTORS = torch.tensor([[0.1, 0.2], [-4.0, 9.0]], dtype=torch.float64)
NEAR = torch.tensor([[0.1, -0.9], [-0.4, 0.999]], dtype=torch.float64)


class TorchMultiCategorical:
    """Two independent choices, [B, 1 + 2] logits."""

    def __init__(self, logits):
        self.parts = [torch_distributions.Categorical(logits=x) for x in logits.split([1, 2], -1)]

    def log_prob(self, action):
        return sum(p.log_prob(a) for p, a in zip(self.parts, action.unbind(-1), strict=True))

    def entropy(self):
        return sum(p.entropy() for p in self.parts)

    def kl(self, other):
        return sum(kl_divergence(p, q) for p, q in zip(self.parts, other.parts, strict=True))


def independent(distribution):
    return torch_distributions.Independent(distribution, 1)


def squashed(mean, log_std):
    base = torch_distributions.Normal(mean, log_std.exp())
    return independent(
        torch_distributions.TransformedDistribution(base, torch_distributions.TanhTransform(cache_size=1))
    )


KINDS = {
    "categorical": (
        Categorical,
        lambda x: torch_distributions.Categorical(logits=x),
        [(LOGITS,), (OTHER_LOGITS,)],
        torch.tensor([1, 2]),
    ),
    "several": (
        lambda x: MultiCategorical(x, (1, 2)),
        TorchMultiCategorical,
        [(LOGITS,), (OTHER_LOGITS,)],
        torch.tensor([[0, 1], [0, 0]]),
    ),
    "switches": (
        Bernoulli,
        lambda x: independent(torch_distributions.Bernoulli(logits=x)),
        [(LOGITS,), (OTHER_LOGITS,)],
        torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], dtype=torch.float64),
    ),
    "gaussian": (
        DiagonalGaussian,
        lambda mean, log_std: independent(torch_distributions.Normal(mean, log_std.exp())),
        [(MEAN, LOG_STD), (OTHER_MEAN, OTHER_LOG_STD)],
        VECTORS,
    ),
    "squashed": (SquashedGaussian, squashed, [(MEAN, LOG_STD), (OTHER_MEAN, OTHER_LOG_STD)], NEAR),
}


@pytest.mark.parametrize("kind", KINDS)
def test_log_prob_entropy_kl_and_their_gradients_agree_with_torch(kind):
    ours, theirs, (first, second), action = KINDS[kind]
    results = []
    for make in (ours, theirs):
        inputs = [x.clone().requires_grad_() for x in (*first, *second)]
        p, q = make(*inputs[: len(first)]), make(*inputs[len(first) :])
        terms = [p.log_prob(action)]
        if kind != "squashed":  # torch has neither: tested below
            terms += [p.entropy(), p.kl(q) if hasattr(p, "kl") else kl_divergence(p, q)]
        sum((i + 1) * term.sum() for i, term in enumerate(terms)).backward()
        results.append((terms, [x.grad for x in inputs if x.grad is not None]))
    torch.testing.assert_close(*results)
    assert all(term.shape == (2,) for term in results[0][0])


def test_modes_are_the_most_likely_actions():
    assert Categorical(LOGITS).mode().tolist() == [2, 0]
    assert MultiCategorical(LOGITS, (1, 2)).mode().tolist() == [[0, 1], [0, 0]]
    assert Bernoulli(LOGITS).mode().tolist() == [[1, 0, 1], [1, 1, 0]]
    assert torch.equal(DiagonalGaussian(MEAN, LOG_STD).mode(), MEAN)
    assert torch.equal(SquashedGaussian(MEAN, LOG_STD).mode(), MEAN.tanh())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_action_that_is_not_allowed_has_probability_0_and_leaves_everything_finite(dtype):
    logits = LOGITS.to(dtype).requires_grad_()
    masked, free = Categorical(logits, MASK), Categorical(OTHER_LOGITS.to(dtype), MASK)
    assert masked.log_probs.exp()[MASK == 0].eq(0).all()
    expected = torch.softmax(LOGITS[0, [0, 2]], 0)
    torch.testing.assert_close(masked.log_probs.exp()[0, [0, 2]], expected.to(dtype))
    allowed = torch_distributions.Categorical(logits=LOGITS[0, [0, 2]])
    torch.testing.assert_close(masked.entropy()[0], allowed.entropy().to(dtype))
    assert masked.entropy()[1] == 0
    others = torch_distributions.Categorical(logits=OTHER_LOGITS[0, [0, 2]])
    torch.testing.assert_close(masked.kl(free)[0], kl_divergence(allowed, others).to(dtype))
    (masked.log_prob(torch.tensor([2, 1])) + masked.entropy() + masked.kl(free)).sum().backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[MASK == 0].eq(0).all()
    assert logits.grad[0, 0] != 0
    assert masked.mode().tolist() == [2, 1]


def test_masked_actions_are_never_drawn_and_a_mask_of_ones_changes_nothing():
    count = 2000
    masked = Categorical(LOGITS.repeat(count, 1), MASK.repeat(count, 1))
    drawn = masked.sample(torch.Generator().manual_seed(0)).reshape(count, 2)
    assert set(drawn[:, 0].tolist()) == {0, 2}
    assert set(drawn[:, 1].tolist()) == {1}
    unlikely = Categorical(torch.tensor([[-1e6, 1e6]]), torch.tensor([[1, 0]]))
    assert unlikely.log_prob(torch.tensor([0])).item() == 0
    full = Categorical(LOGITS, torch.ones_like(LOGITS))
    assert torch.equal(full.log_probs, Categorical(LOGITS).log_probs)


def test_each_choice_among_several_has_its_own_mask():
    mask = torch.tensor([[1, 1, 0], [1, 0, 1]])
    policy = MultiCategorical(LOGITS, (1, 2), mask)
    assert policy.mode().tolist() == [[0, 0], [0, 1]]
    assert policy.log_prob(policy.mode()).tolist() == [0, 0]
    assert policy.entropy().tolist() == [0, 0]


def wide(x, count):
    return x[:1].float().expand(count, -1)


def test_samples_of_choices_have_the_policys_frequencies():
    count = 40_000
    four_errors = 4 * math.sqrt(0.25 / count)
    probabilities = torch.softmax(LOGITS[0], 0).float()
    generator = torch.Generator().manual_seed(0)
    drawn = Categorical(wide(LOGITS, count)).sample(generator)
    assert (drawn.bincount(minlength=3) / count - probabilities).abs().max() < four_errors
    drawn = MultiCategorical(wide(LOGITS, count), (1, 2)).sample(generator)
    assert drawn.shape == (count, 2)
    assert abs(drawn[:, 1].float().mean() - torch.sigmoid(LOGITS[0, 2] - LOGITS[0, 1])) < four_errors
    drawn = Bernoulli(wide(LOGITS, count)).sample(generator)
    assert drawn.dtype == torch.int64
    assert (drawn.float().mean(0) - LOGITS[0].sigmoid()).abs().max() < four_errors


def test_gaussian_samples_have_the_policys_moments_with_and_without_tanh():
    count = 40_000
    for kind, back in ((DiagonalGaussian, lambda x: x), (SquashedGaussian, torch.atanh)):
        policy = kind(wide(MEAN, count), LOG_STD.float())
        drawn = back(policy.sample(torch.Generator().manual_seed(0)).double())
        assert (drawn.mean(0) - MEAN[0]).abs().max() < 4 * LOG_STD.exp().max() / math.sqrt(count)
        assert drawn.std(0).tolist() == pytest.approx(LOG_STD.exp().tolist(), rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_come_from_the_given_generator_and_carry_no_gradient(kind):
    make, _, (first, _), _ = KINDS[kind]
    policy = make(*(x.clone().requires_grad_() for x in first))
    before = torch.get_rng_state()
    one, two = (policy.sample(torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two)
    assert not one.requires_grad
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", [DiagonalGaussian, SquashedGaussian])
def test_reparametrised_samples_are_the_samples_and_move_with_mean_and_deviation(kind):
    mean, log_std = MEAN.clone().requires_grad_(), LOG_STD.clone().requires_grad_()
    policy = kind(mean, log_std)
    drawn = policy.rsample(torch.Generator().manual_seed(0))
    assert torch.equal(drawn, policy.sample(torch.Generator().manual_seed(0)))
    drawn.sum().backward()
    noise = torch.empty_like(MEAN).normal_(generator=torch.Generator().manual_seed(0))
    slope = 1 - drawn.detach().square() if kind is SquashedGaussian else torch.ones_like(MEAN)
    torch.testing.assert_close(mean.grad, slope)
    torch.testing.assert_close(log_std.grad, (slope * LOG_STD.exp() * noise).sum(0))


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (1.0, -1.0), (-0.5, 0.4), (2.0, 0.0)])
def test_a_squashed_gaussian_integrates_to_1_and_has_the_entropy_of_its_density(mean, log_std):
    policy = SquashedGaussian(*(torch.tensor([[x]], dtype=torch.float64) for x in (mean, log_std)))
    action = torch.linspace(-9, 9, 20_001, dtype=torch.float64).tanh()
    log_prob = policy.log_prob(action[:, None])
    assert torch.trapezoid(log_prob.exp(), action).item() == pytest.approx(1, abs=1e-5)
    entropy = -torch.trapezoid(log_prob.exp() * log_prob, action).item()
    assert policy.entropy().item() == pytest.approx(entropy, abs=2e-4)


def test_the_divergence_of_squashed_gaussians_is_the_integral_of_its_definition():
    first = SquashedGaussian(*(torch.tensor([[x]], dtype=torch.float64) for x in (0.3, -0.5)))
    second = SquashedGaussian(*(torch.tensor([[x]], dtype=torch.float64) for x in (-0.2, 0.1)))
    action = torch.linspace(-9, 9, 20_001, dtype=torch.float64).tanh()
    p, q = (policy.log_prob(action[:, None]) for policy in (first, second))
    definition = torch.trapezoid(p.exp() * (p - q), action).item()
    assert first.kl(second).item() == pytest.approx(definition, abs=1e-5)


def test_the_joint_log_density_agrees_with_the_one_of_the_action_alone():
    policy = SquashedGaussian(MEAN, LOG_STD)
    action, log_prob = policy.rsample_with_log_prob(torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_prob, policy.log_prob(action))
    assert torch.equal(action, policy.sample(torch.Generator().manual_seed(0)))


def test_the_log_density_far_out_is_that_of_float64():
    mean = torch.tensor([[20.0], [-20.0]])  # tanh is 1 in float32: 1 - tanh^2 would be 0
    noise = torch.tensor([[0.5], [-1.0]])
    _, log_prob = SquashedGaussian(mean, torch.zeros(1)).rsample_with_log_prob(noise)
    _, exact = SquashedGaussian(mean.double(), torch.zeros(1).double()).rsample_with_log_prob(noise.double())
    u = (mean + noise).double()[:, 0].abs()
    definition = -0.5 * noise.double()[:, 0].square() - 0.5 * math.log(2 * math.pi) + 2 * u - math.log(4)
    torch.testing.assert_close(exact, definition, rtol=1e-12, atol=0)
    torch.testing.assert_close(log_prob.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_action_at_the_very_edge_has_a_finite_density_and_gradient(dtype):
    mean = torch.zeros(1, 2, dtype=dtype, requires_grad=True)
    log_prob = SquashedGaussian(mean, torch.zeros(2, dtype=dtype)).log_prob(
        torch.tensor([[1.0, -1.0]], dtype=dtype)
    )
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert mean.grad.isfinite().all()


def test_entropy_of_equal_logits_is_log_of_their_number_at_any_scale():
    for shift in (0.0, 1e4):
        assert Categorical(torch.full((1, 8), shift)).entropy().item() == pytest.approx(math.log(8))


def test_switches_with_extreme_logits_have_no_entropy_and_finite_gradients():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    policy = Bernoulli(logits)
    (policy.entropy() + policy.kl(Bernoulli(-logits.detach()))).sum().backward()
    assert policy.entropy().item() == pytest.approx(0, abs=1e-6)
    assert policy.kl(Bernoulli(-logits)).item() == pytest.approx(400)
    assert logits.grad.isfinite().all()
