import math

import pytest
import torch
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Independent, Normal

from gradrl.policies import Categorical, DiagonalGaussian

LOGITS = torch.tensor([[0.5, -1.0, 2.0], [3.0, 3.0, -20.0]], dtype=torch.float64)
MEAN = torch.tensor([[0.5, -1.0], [3.0, 0.0]], dtype=torch.float64)
LOG_STD = torch.tensor([-0.7, 0.4], dtype=torch.float64)


def test_categorical_agrees_with_torch():
    ours, theirs = Categorical(LOGITS), TorchCategorical(logits=LOGITS)
    action = torch.tensor([1, 2])
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    assert ours.mode().tolist() == [2, 0]


def test_gaussian_agrees_with_torch():
    ours = DiagonalGaussian(MEAN, LOG_STD)
    theirs = Independent(Normal(MEAN, LOG_STD.exp()), 1)
    action = torch.tensor([[0.1, 0.2], [-4.0, 9.0]], dtype=torch.float64)
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    assert torch.equal(ours.mode(), MEAN)


def test_gradients_of_log_prob_agree_with_torch():
    for ours, theirs, action in (
        (lambda x: Categorical(x), lambda x: TorchCategorical(logits=x), torch.tensor([0, 1])),
        (
            lambda x: DiagonalGaussian(x, LOG_STD),
            lambda x: Independent(Normal(x, LOG_STD.exp()), 1),
            torch.ones(2, 2, dtype=torch.float64),
        ),
    ):
        start = LOGITS if action.dim() == 1 else MEAN
        gradients = []
        for make in (ours, theirs):
            x = start.clone().requires_grad_()
            policy = make(x)
            (policy.log_prob(action) + policy.entropy()).sum().backward()
            gradients.append(x.grad)
        torch.testing.assert_close(*gradients)


def test_categorical_samples_have_the_policys_frequencies():
    count = 40_000
    policy = Categorical(LOGITS[:1].float().expand(count, 3))
    drawn = policy.sample(torch.Generator().manual_seed(0)).bincount(minlength=3) / count
    expected = torch.softmax(LOGITS[0], 0).float()
    assert (drawn - expected).abs().max() < 4 * math.sqrt(0.25 / count)  # four standard errors


def test_gaussian_samples_have_the_policys_moments():
    count = 40_000
    policy = DiagonalGaussian(MEAN[:1].float().expand(count, 2), LOG_STD.float())
    drawn = policy.sample(torch.Generator().manual_seed(0))
    assert (drawn.mean(0) - MEAN[0].float()).abs().max() < 4 * LOG_STD.exp().max() / math.sqrt(count)
    assert drawn.std(0).tolist() == pytest.approx(LOG_STD.exp().tolist(), rel=0.02)


@pytest.mark.parametrize("policy", [Categorical(LOGITS), DiagonalGaussian(MEAN, LOG_STD)])
def test_samples_come_from_the_given_generator_and_not_from_the_global_one(policy):
    before = torch.get_rng_state()
    first, second = (policy.sample(torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_entropy_of_equal_logits_is_log_of_their_number_at_any_scale():
    for shift in (0.0, 1e4):
        assert Categorical(torch.full((1, 8), shift)).entropy().item() == pytest.approx(math.log(8))
