import pytest
import torch

from gradrl.returns import explained_variance, generalized_advantage_estimate


def random_rollout(t=7, n=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    reward, value, next_value = (torch.randn(t, n, generator=g, dtype=torch.float64) for _ in range(3))
    terminated, truncated = (torch.rand(t, n, generator=g) < 0.2 for _ in range(2))
    return reward, value, next_value, terminated, truncated


def slow_gae(reward, value, next_value, terminated, truncated, gamma, lam):
    """The definition, one environment and one start at a time: sum of (gamma lambda)^k delta_{t+k}."""
    out = torch.zeros_like(reward)
    steps, envs = reward.shape
    for n in range(envs):
        for start in range(steps):
            weight = 1.0
            for t in range(start, steps):
                alive = 0.0 if terminated[t, n] else 1.0
                out[start, n] += weight * (reward[t, n] + gamma * alive * next_value[t, n] - value[t, n])
                if terminated[t, n] or truncated[t, n]:
                    break
                weight *= gamma * lam
    return out


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("gamma", "lam"), [(0.99, 0.95), (1.0, 1.0), (0.9, 0.0), (0.0, 0.5)])
def test_gae_is_the_weighted_sum_of_its_definition(gamma, lam, seed):
    rollout = random_rollout(seed=seed)
    expected = slow_gae(*rollout, gamma, lam)
    torch.testing.assert_close(generalized_advantage_estimate(*rollout, gamma, lam), expected)


def test_with_lambda_one_and_no_end_the_advantage_is_the_discounted_return_minus_the_value():
    reward, value, _, _, _ = random_rollout()
    nothing = torch.zeros_like(reward, dtype=torch.bool)
    last = torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64)
    next_value = torch.cat([value[1:], last[None]])
    advantage = generalized_advantage_estimate(reward, value, next_value, nothing, nothing, 0.9, 1.0)
    returns = sum(0.9**k * reward[k] for k in range(7)) + 0.9**7 * last
    torch.testing.assert_close(advantage[0], returns - value[0])


def test_a_termination_is_worth_nothing_and_a_truncation_the_value_of_its_final_observation():
    reward, value, next_value = (torch.tensor([[x]], dtype=torch.float64) for x in (1.0, 5.0, 7.0))
    yes, no = torch.tensor([[True]]), torch.tensor([[False]])
    terminated = generalized_advantage_estimate(reward, value, next_value, yes, no, 0.5, 0.9)
    truncated = generalized_advantage_estimate(reward, value, next_value, no, yes, 0.5, 0.9)
    both = generalized_advantage_estimate(reward, value, next_value, yes, yes, 0.5, 0.9)
    assert terminated.item() == 1.0 - 5.0
    assert truncated.item() == 1.0 + 0.5 * 7.0 - 5.0
    assert both.item() == terminated.item()


@pytest.mark.parametrize("end", [0, 1])
def test_nothing_flows_back_over_the_end_of_an_episode(end):
    reward, value, next_value, _, _ = random_rollout(t=4, n=1)
    ends = [torch.zeros(4, 1, dtype=torch.bool) for _ in range(2)]
    ends[end][1] = True
    first = generalized_advantage_estimate(reward, value, next_value, *ends, 0.99, 0.95)
    reward[2:] += 100.0
    second = generalized_advantage_estimate(reward, value, next_value, *ends, 0.99, 0.95)
    assert torch.equal(first[:2], second[:2])
    assert not torch.equal(first[2:], second[2:])


def test_rewards_without_a_time_axis_are_refused():
    x = torch.zeros(3)
    with pytest.raises(ValueError, match=r"five tensors of one shape \[T, N\]"):
        generalized_advantage_estimate(x, x, x, x.bool(), x.bool(), 0.9, 0.9)


def test_explained_variance_at_its_three_landmarks():
    target = torch.tensor([1.0, 2.0, 4.0])
    assert explained_variance(target, target) == 1.0
    assert explained_variance(torch.full((3,), 9.0), target).item() == pytest.approx(0.0, abs=1e-6)
    assert explained_variance(-target, target).item() == pytest.approx(-3.0)
    assert explained_variance(target, torch.ones(3)) == 0.0
