import math

import pytest
import torch

from gradrl.losses import (
    clipped_surrogate_loss,
    mean_metrics,
    normalize_advantage,
    policy_gradient_loss,
    surrogate_loss,
    value_loss,
    weighted_terms,
)


@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_the_expected_policy_gradient_of_a_softmax_bandit_is_the_exact_one(baseline):
    """dJ/dlogit_a = pi(a) (Q_a - V), whatever the baseline."""
    logits = torch.tensor([0.3, -1.0, 0.8], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    pi = logits.detach().softmax(0)
    expected = torch.zeros(3, dtype=torch.float64)
    for action in range(3):  # the expectation over actions, by enumeration
        log_prob = logits.log_softmax(0)[action : action + 1]
        loss = policy_gradient_loss(log_prob, q[action : action + 1] - baseline)
        expected -= pi[action] * torch.autograd.grad(loss, logits)[0]
    torch.testing.assert_close(expected, pi * (q - pi @ q))


def test_the_surrogate_is_the_gain_by_importance_sampling():
    """Its mean over the actions of the old policy is the mean of A over those of the new one."""
    new, old = torch.tensor([0.2, 0.5, 0.3]).double(), torch.tensor([0.6, 0.3, 0.1]).double()
    advantage = torch.tensor([1.0, -2.0, 3.0]).double()
    losses = [
        surrogate_loss(n.log()[None], o.log()[None], a[None])[0]
        for n, o, a in zip(new, old, advantage, strict=True)
    ]
    assert (old @ torch.stack(losses)).item() == pytest.approx(-(new @ advantage).item())
    _, metrics = surrogate_loss(new.log(), old.log(), advantage)
    assert metrics["policy/ratio_min"].item() == pytest.approx(1 / 3)
    assert metrics["policy/ratio_max"].item() == pytest.approx(3.0)


def test_at_the_acting_policy_the_gradient_of_the_surrogate_is_the_policy_gradient():
    g = torch.Generator().manual_seed(0)
    log_prob = torch.randn(20, generator=g).requires_grad_()
    advantage = torch.randn(20, generator=g)
    surrogate, _ = surrogate_loss(log_prob, log_prob.detach(), advantage)
    for loss in (surrogate, policy_gradient_loss(log_prob, advantage)):
        torch.testing.assert_close(torch.autograd.grad(loss, log_prob)[0], -advantage / 20)


def test_the_surrogate_is_its_definition_in_float64():
    g = torch.Generator().manual_seed(0)
    new, old, advantage = (torch.randn(50, generator=g, dtype=torch.float64) for _ in range(3))
    loss, metrics = clipped_surrogate_loss(new, old, advantage, 0.2)
    total, kl, outside = 0.0, 0.0, 0
    for a, b, c in zip(new.tolist(), old.tolist(), advantage.tolist(), strict=True):
        ratio = 2.718281828459045 ** (a - b)
        total -= min(ratio * c, min(max(ratio, 0.8), 1.2) * c) / 50
        kl += (ratio - 1 - (a - b)) / 50
        outside += not 0.8 <= ratio <= 1.2
    assert loss.item() == pytest.approx(total)
    assert metrics["policy/approx_kl"].item() == pytest.approx(kl)
    assert metrics["policy/clip_fraction"].item() == pytest.approx(outside / 50)
    assert metrics["policy/ratio_max"].item() == pytest.approx((new - old).exp().max().item())


@pytest.mark.parametrize(("log_ratio", "advantage"), [(0.5, +1.0), (-0.5, -1.0)])
def test_no_gradient_once_the_ratio_has_left_the_interval(log_ratio, advantage):
    new = torch.tensor([log_ratio], requires_grad=True)
    loss, metrics = clipped_surrogate_loss(new, torch.zeros(1), torch.tensor([advantage]), clip_coef=0.2)
    loss.backward()
    assert new.grad.item() == 0.0
    assert metrics["policy/clip_fraction"] == 1.0


@pytest.mark.parametrize(("log_ratio", "advantage"), [(0.5, -1.0), (-0.5, +1.0), (0.1, 1.0), (0.0, -2.0)])
def test_the_gradient_is_the_policy_gradient_where_moving_back_helps(log_ratio, advantage):
    new = torch.tensor([log_ratio], requires_grad=True)
    clipped_surrogate_loss(new, torch.zeros(1), torch.tensor([advantage]), 0.2)[0].backward()
    assert new.grad.item() == pytest.approx(-advantage * torch.tensor(log_ratio).exp().item())


def test_both_clipped_losses_have_the_gradient_of_their_definition_in_float64():
    g = torch.Generator().manual_seed(2)
    new, old, advantage, target = (torch.randn(200, generator=g, dtype=torch.float64) for _ in range(4))
    advantage[:20] = 0.0  # ties: both branches are 0
    new[20:40] = old[20:40]  # ties: neither is clipped
    new.requires_grad_()
    ratio = (new - old).exp()
    surrogate = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
    clipped = old + (new - old).clamp(-0.5, 0.5)
    squares = 0.5 * torch.maximum((new - target).square(), (clipped - target).square()).mean()
    losses = [clipped_surrogate_loss(new, old, advantage, 0.2)[0], value_loss(new, target, old, 0.5)]
    for loss, definition in zip(losses, (surrogate, squares), strict=True):
        torch.testing.assert_close(loss, definition, rtol=1e-12, atol=0.0)
        ours, theirs = (torch.autograd.grad(x, new)[0] for x in (loss, definition))
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


def test_a_value_within_the_limit_has_its_whole_gradient_whatever_rounding_makes_of_it():
    g = torch.Generator().manual_seed(3)
    value, target, old = (torch.randn(1000, generator=g) for _ in range(3))
    value.requires_grad_()
    old = 100 * old
    assert not torch.equal(old + (value - old), value)
    value_loss(value, target, old, clip_coef=1000.0).backward()
    torch.testing.assert_close(value.grad, (value - target).detach() / 1000)


def test_a_value_that_is_no_number_reaches_the_gradient_though_it_is_clipped():
    value = torch.tensor([math.nan, 1.0], requires_grad=True)
    value_loss(value, torch.zeros(2), torch.ones(2), clip_coef=0.2).backward()
    assert value.grad.isnan().tolist() == [True, False]


@pytest.mark.parametrize("advantage", [1.0, -1.0, math.nan])
def test_what_is_no_number_reaches_the_gradient_where_the_step_is_skipped_for_it(advantage):
    new = torch.tensor([0.1 if math.isnan(advantage) else math.nan, 0.0], requires_grad=True)
    loss, _ = clipped_surrogate_loss(new, torch.zeros(2), torch.tensor([advantage, 1.0]), 0.2)
    loss.backward()
    assert loss.isnan()
    assert new.grad.isnan().tolist() == [True, False]


def test_a_clip_coefficient_on_the_device_gives_the_same_as_a_number():
    g = torch.Generator().manual_seed(1)
    new, old, advantage = (torch.randn(20, generator=g) for _ in range(3))
    by_number, by_tensor = (
        clipped_surrogate_loss(new, old, advantage, eps)[0] for eps in (0.3, torch.tensor(0.3))
    )
    assert by_number == by_tensor


def test_kl_is_zero_for_equal_policies_and_never_negative():
    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    assert clipped_surrogate_loss(x, x, x, 0.2)[1]["policy/approx_kl"] == 0.0
    assert clipped_surrogate_loss(x, x.flip(0), x, 0.2)[1]["policy/approx_kl"] > 0.0


def test_columns_against_rows_are_refused_instead_of_broadcast():
    with pytest.raises(ValueError, match="three tensors of one shape"):
        clipped_surrogate_loss(torch.zeros(4), torch.zeros(4, 1), torch.zeros(4), 0.2)
    with pytest.raises(ValueError, match="surrogate_loss wants three tensors of one shape"):
        surrogate_loss(torch.zeros(4), torch.zeros(4), torch.zeros(4, 1))
    with pytest.raises(ValueError, match="policy_gradient_loss wants two tensors of one shape"):
        policy_gradient_loss(torch.zeros(4), torch.zeros(4, 1))
    with pytest.raises(ValueError, match="one shape"):
        value_loss(torch.zeros(4), torch.zeros(4, 1))


def test_value_loss_is_half_the_mean_squared_error():
    value, target = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])
    assert value_loss(value, target) == 0.5 * (4.0 + 1.0) / 2


def test_clipping_a_value_only_ever_raises_its_loss_and_stops_its_gradient():
    value = torch.tensor([3.0, 1.05], requires_grad=True)
    old, target = torch.tensor([1.0, 1.0]), torch.tensor([5.0, 5.0])
    loss = value_loss(value, target, old, clip_coef=0.1)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * ((1.1 - 5.0) ** 2 + (1.05 - 5.0) ** 2) / 2)
    assert value.grad[0] == 0.0
    assert value.grad[1].item() == pytest.approx((1.05 - 5.0) / 2)
    assert value_loss(value, target, old, clip_coef=100.0) == value_loss(value, target)


def test_clipping_without_the_old_value_is_refused():
    with pytest.raises(ValueError, match="needs old_value"):
        value_loss(torch.zeros(2), torch.zeros(2), clip_coef=0.2)


def test_normalised_advantages_have_mean_zero_and_deviation_one_whatever_their_scale():
    advantage = torch.randn(64, generator=torch.Generator().manual_seed(0)) * 50 + 7
    normal = normalize_advantage(advantage)
    assert normal.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert normal.std().item() == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(normalize_advantage(advantage * 10 - 3), normal)


def test_one_advantage_alone_stays_and_equal_ones_become_zero():
    assert normalize_advantage(torch.tensor([3.0])) == 3.0
    assert torch.equal(normalize_advantage(torch.full((4,), 2.0)), torch.zeros(4))


def test_the_terms_add_up_to_policy_plus_value_minus_entropy():
    losses, metrics = weighted_terms(*map(torch.tensor, (3.0, 5.0, 7.0)), value_coef=0.5, entropy_coef=0.25)
    assert losses == {"policy": 3.0, "value": 2.5, "entropy": -1.75}
    assert metrics["loss/entropy"] == -7.0
    assert metrics["policy/entropy"] == 7.0
    assert metrics["loss/value"] == 5.0


def test_of_several_steps_the_mean_counts_and_of_extremes_the_extreme():
    rows = [(1.0, 0.5, 2.0), (3.0, 0.9, 8.0), (8.0, 0.1, 5.0)]
    names = "loss/policy", "policy/ratio_min", "policy/ratio_max"
    history = [dict(zip(names, map(torch.tensor, row), strict=True)) for row in rows]
    means = mean_metrics(history)
    assert [means[name].item() for name in names] == pytest.approx([4.0, 0.1, 8.0])
