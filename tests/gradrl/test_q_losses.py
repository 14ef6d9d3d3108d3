"""Against the definitions, element by element in float64."""

import math

import numpy as np
import pytest
import torch

from gradrl.policies.distributions import SquashedGaussian
from gradrl.q_losses import (
    critic_loss,
    expected_soft_value,
    smoothed_action,
    soft_value,
    td_target,
    temperature_loss,
)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_only_the_end_of_the_world_cuts_the_target():
    reward, value = drawn(5), drawn(5, seed=1)
    terminated = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    target = td_target(reward, terminated, value, 0.9)
    for b in range(5):
        expected = reward[b] if terminated[b] else reward[b] + 0.9 * value[b]
        assert target[b].item() == pytest.approx(float(expected), abs=1e-12)


def test_the_critics_loss_is_the_sum_of_their_own_half_mean_squares_and_each_has_its_own_gradient():
    q, target = drawn(2, 6).requires_grad_(), drawn(6, seed=1)
    loss = critic_loss(q, target)
    expected = sum(
        0.5 * sum(float((q[c, b] - target[b]).detach()) ** 2 for b in range(6)) / 6 for c in range(2)
    )
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    loss.backward()
    torch.testing.assert_close(q.grad, (q.detach() - target) / 6)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (2, 6, 1)])
def test_critics_of_another_shape_would_broadcast_and_are_refused(shape):
    with pytest.raises(ValueError, match="critic_loss"):
        critic_loss(torch.zeros(shape), torch.zeros(6))
    with pytest.raises(ValueError, match="td_target"):
        td_target(torch.zeros(6), torch.zeros(6), torch.zeros(shape if len(shape) > 1 else (6, 1)), 0.9)


def test_smoothing_adds_clipped_noise_and_stays_in_the_box():
    action = torch.zeros(20000, 1)
    noise = smoothed_action(action, 0.2, 0.5, torch.Generator().manual_seed(0))
    raw = torch.empty_like(action).normal_(std=0.2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(noise, raw.clamp(-0.5, 0.5))
    assert noise.abs().max() == 0.5
    assert (noise.abs() == 0.5).float().mean().item() == pytest.approx(
        math.erfc(2.5 / math.sqrt(2)), abs=2e-3
    )
    edge = smoothed_action(torch.ones(1000, 1), 0.2, 0.5, torch.Generator().manual_seed(0))
    assert edge.max() == 1.0
    assert edge.min() >= 0.5
    torch.testing.assert_close(smoothed_action(action, 0.0, 0.5, torch.Generator()), action)


def test_the_soft_value_takes_the_smaller_critic_and_counts_entropy():
    q, log_prob = drawn(3, 4), drawn(4, seed=1)
    value = soft_value(q, log_prob, 0.3)
    for b in range(4):
        expected = min(float(q[c, b]) for c in range(3)) - 0.3 * float(log_prob[b])
        assert value[b].item() == pytest.approx(expected, abs=1e-12)


def test_the_expected_soft_value_is_the_sum_over_the_actions():
    q, logits = drawn(2, 4, 3), drawn(4, 3, seed=1)
    log_probs = logits.log_softmax(-1)
    value = expected_soft_value(q, log_probs, 0.3)
    for b in range(4):
        p = [math.exp(float(logits[b, a])) for a in range(3)]
        p = [x / sum(p) for x in p]
        expected = sum(
            p[a] * (min(float(q[0, b, a]), float(q[1, b, a])) - 0.3 * math.log(p[a])) for a in range(3)
        )
        assert value[b].item() == pytest.approx(expected, abs=1e-12)


def test_the_policy_that_maximises_the_expected_soft_value_is_the_softmax_of_the_values():
    q = drawn(1, 1, 4)
    logits = (q[0] / 0.3).requires_grad_()
    value = expected_soft_value(q, logits.log_softmax(-1), 0.3).sum()
    value.backward()
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-12, rtol=0)
    assert value.item() == pytest.approx(0.3 * torch.logsumexp(q / 0.3, -1).item())


def test_the_temperature_rises_below_the_target_entropy_and_falls_above():
    log_temperature = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    for entropy in (-3.0, -2.0, 1.0):
        log_temperature.grad = None
        temperature_loss(log_temperature, torch.tensor(entropy), -2.0).backward()
        assert log_temperature.grad.item() == pytest.approx(entropy + 2.0)


def test_the_policy_gradient_of_a_squashed_gaussian_bandit_is_that_of_numerical_integration():
    """d/d(mean, log_std) of E[Q(a) - alpha log pi(a)], reparameterised, against an integral over actions."""
    alpha = 0.2

    def q(a):
        return 3 * a - 2 * a**2 + a**3

    def integral(mean, log_std):  # over u = atanh(a); pi(a) = N(u) / (1 - a^2), so that pi(a) da = N(u) du
        u = np.linspace(mean - 12 * math.exp(log_std), mean + 12 * math.exp(log_std), 200_001)
        log_normal = -0.5 * ((u - mean) / math.exp(log_std)) ** 2 - log_std - 0.5 * math.log(2 * math.pi)
        a = np.tanh(u)
        log_pi = log_normal + 2 * np.log(np.cosh(u))
        return np.trapezoid(np.exp(log_normal) * (q(a) - alpha * log_pi), u)

    mean, log_std, h = 0.4, -0.7, 1e-4
    expected = [
        (integral(mean + h, log_std) - integral(mean - h, log_std)) / (2 * h),
        (integral(mean, log_std + h) - integral(mean, log_std - h)) / (2 * h),
    ]
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)  # of the expectation over standard normal noise
    parameters = [torch.tensor([[x]], dtype=torch.float64, requires_grad=True) for x in (mean, log_std)]
    policy = SquashedGaussian(*(p.expand(60, 1) for p in parameters))
    action, log_prob = policy.rsample_with_log_prob(torch.from_numpy(nodes)[:, None])
    value = soft_value(q(action[:, 0])[None], log_prob, alpha)
    objective = (torch.from_numpy(weights / weights.sum()) * value).sum()
    assert objective.item() == pytest.approx(integral(mean, log_std), abs=1e-6)
    gradients = torch.autograd.grad(objective, parameters)
    assert [g.item() for g in gradients] == pytest.approx(expected, abs=1e-5)
