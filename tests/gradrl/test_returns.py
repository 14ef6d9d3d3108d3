import pytest
import torch

from gradrl.returns import (
    discounted_return,
    explained_variance,
    generalized_advantage_estimate,
    generalized_estimates,
    vtrace,
)
from tests.gradrl import rollouts


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
    with pytest.raises(ValueError, match=r"discounted_return wants four tensors of one shape \[T, N\]"):
        discounted_return(x, x, x.bool(), x.bool(), 0.9)
    y = torch.zeros(3, 1)
    with pytest.raises(ValueError, match=r"vtrace wants six tensors of one shape \[T, N\]"):
        vtrace(torch.zeros(3, 2), y, y, y, y.bool(), y.bool(), 0.9)


def slow_return(reward, next_value, terminated, truncated, gamma):
    """The definition, one environment and one start at a time."""
    out = torch.zeros_like(reward)
    steps, envs = reward.shape
    for n in range(envs):
        for start in range(steps):
            weight = 1.0
            for t in range(start, steps):
                out[start, n] += weight * reward[t, n]
                weight *= gamma
                if terminated[t, n] or truncated[t, n] or t == steps - 1:
                    out[start, n] += 0.0 if terminated[t, n] else weight * next_value[t, n]
                    break
    return out


@pytest.mark.parametrize("gamma", [1.0, 0.9, 0.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_discounted_return_is_the_sum_of_its_definition(gamma, seed):
    reward, _, next_value, *ends = random_rollout(seed=seed)
    returns = discounted_return(reward, next_value, *ends, gamma)
    torch.testing.assert_close(returns, slow_return(reward, next_value, *ends, gamma))


def test_a_discounted_return_less_the_value_is_the_advantage_with_lambda_one():
    # Only where V(s_{t+1}) inside an episode is the value that the next row holds do the sums telescope.
    reward, value, next_value, terminated, truncated = random_rollout(t=20)
    inside = ~(terminated | truncated)[:-1]
    next_value[:-1] = torch.where(inside, value[1:], next_value[:-1])
    advantage = generalized_advantage_estimate(reward, value, next_value, terminated, truncated, 0.97, 1.0)
    returns = discounted_return(reward, next_value, terminated, truncated, 0.97)
    torch.testing.assert_close(advantage + value, returns)


def slow_vtrace(log_ratio, reward, value, next_value, terminated, truncated, gamma, rho_bar, c_bar):
    """Equation 1 of the paper as it stands: a sum over t of gamma^(t-s) (prod c_i) delta_t."""
    ratio = log_ratio.exp()
    target, advantage = value.clone(), torch.zeros_like(value)
    steps, envs = reward.shape
    for n in range(envs):
        for s in range(steps):
            weight = 1.0
            for t in range(s, steps):
                behind = 0.0 if terminated[t, n] else gamma * next_value[t, n]
                rho = min(rho_bar, ratio[t, n].item())
                target[s, n] += weight * rho * (reward[t, n] + behind - value[t, n])
                if terminated[t, n] or truncated[t, n]:
                    break
                weight *= gamma * min(c_bar, ratio[t, n].item())
        for s in range(steps):
            last = s == steps - 1 or truncated[s, n]
            following = 0.0 if terminated[s, n] else next_value[s, n] if last else target[s + 1, n]
            rho = min(rho_bar, ratio[s, n].item())
            advantage[s, n] = rho * (reward[s, n] + gamma * following - value[s, n])
    return target, advantage


def consistent(rollout):
    """The rollout with next_value = value of the next row inside of an episode."""
    reward, value, next_value, terminated, truncated = rollout
    inside = ~(terminated | truncated)[:-1]
    next_value[:-1] = torch.where(inside, value[1:], next_value[:-1])
    return reward, value, next_value, terminated, truncated


@pytest.mark.parametrize(("rho_bar", "c_bar"), [(1.0, 1.0), (2.0, 0.5), (0.3, 0.3), (1e9, 1e9)])
@pytest.mark.parametrize("seed", range(3))
def test_vtrace_is_equation_1(rho_bar, c_bar, seed):
    rollout = consistent(random_rollout(seed=seed))
    log_ratio = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for fast, slow in zip(
        vtrace(log_ratio, *rollout, 0.9, rho_bar, c_bar),
        slow_vtrace(log_ratio, *rollout, 0.9, rho_bar, c_bar),
        strict=True,
    ):
        torch.testing.assert_close(fast, slow)


def test_vtrace_of_the_acting_policy_itself_is_the_n_step_return():
    reward, value, next_value, *ends = consistent(random_rollout())
    target, advantage = vtrace(torch.zeros_like(reward), reward, value, next_value, *ends, 0.9)
    returns = discounted_return(reward, next_value, *ends, 0.9)
    torch.testing.assert_close(target, returns)
    torch.testing.assert_close(advantage, returns - value)


def test_vtrace_without_bounds_finds_the_value_of_another_policy_in_a_two_state_chain():
    """Two states, two actions: a=1 moves to the other state and pays 1 from state 0, a=0 stays and pays 0.

    From state 0 with two steps to go and nothing after, V_pi = p + (1 - p) p, p = pi(1|0) (state 1 pays
    nothing). The mean of the targets over all paths of mu must be just that, for any V.
    """
    p, m = 0.8, 0.3
    expected = p + (1 - p) * p
    total = 0.0
    values = {0: 0.7, 1: -0.4}
    for first in (0, 1):
        for second in (0, 1):
            states = [0, first]
            chance, log_ratio, reward = 1.0, [], []
            for state, action in zip(states, (first, second), strict=True):
                mu, pi = (m, p) if action else (1 - m, 1 - p)
                chance *= mu
                log_ratio.append([torch.tensor(pi / mu, dtype=torch.float64).log()])
                reward.append([float(state == 0 and action == 1)])
            one = [torch.tensor(x, dtype=torch.float64) for x in (log_ratio, reward)]
            value = torch.tensor([[values[state]] for state in states], dtype=torch.float64)
            next_value = torch.cat([value[1:], torch.zeros(1, 1)])
            ends = torch.tensor([[False], [True]]), torch.zeros(2, 1, dtype=torch.bool)
            target, _ = vtrace(*one, value, next_value, *ends, 1.0, rho_bar=1e9, c_bar=1e9)
            total += chance * target[0, 0].item()
    assert total == pytest.approx(expected)


@pytest.mark.parametrize("end", [0, 1])
def test_no_trace_crosses_the_end_of_an_episode(end):
    reward, value, next_value, _, _ = random_rollout(t=4, n=1)
    log_ratio = torch.full_like(reward, 0.1)
    ends = [torch.zeros(4, 1, dtype=torch.bool) for _ in range(2)]
    ends[end][1] = True
    first = vtrace(log_ratio, reward, value, next_value, *ends, 0.99)
    reward[2:] += 100.0
    second = vtrace(log_ratio, reward, value, next_value, *ends, 0.99)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a[:2], b[:2])
        assert not torch.equal(a[2:], b[2:])


def test_explained_variance_at_its_three_landmarks():
    target = torch.tensor([1.0, 2.0, 4.0])
    assert explained_variance(target, target) == 1.0
    assert explained_variance(torch.full((3,), 9.0), target).item() == pytest.approx(0.0, abs=1e-6)
    assert explained_variance(-target, target).item() == pytest.approx(-3.0)
    assert explained_variance(target, torch.ones(3)) == 0.0


@pytest.mark.parametrize("constant", [0.0, 0.1, 123.456, -1e6])
@pytest.mark.parametrize("size", [2, 64, 2048])
def test_targets_that_do_not_vary_have_no_variance_to_explain(size, constant):
    value = torch.randn(size, generator=torch.Generator().manual_seed(0))
    assert explained_variance(value, torch.full((size,), constant)) == 0
    assert explained_variance(value, (constant - value) + value) == 0  # they vary by rounding alone


@pytest.mark.parametrize(
    ("deviation", "offset"), [(1e-8, 0.0), (1e-25, 0.0), (0.1, 1000.0), (1e8, 0.0), (1e20, 0.0)]
)
def test_small_and_distant_targets_are_explained_as_in_float64(deviation, offset):
    generator = torch.Generator().manual_seed(0)
    spread, error = deviation * torch.randn(2, 4096, generator=generator, dtype=torch.float64)
    value, target = offset + spread, offset + spread + error / 2
    exact = 1 - (error / 2).var(correction=0) / target.var(correction=0)
    assert explained_variance(value.float(), target.float()).item() == pytest.approx(exact.item(), abs=1e-3)


def test_estimates_have_targets_of_advantage_plus_value():
    data = rollouts.random_rollout(6, 3)
    value, next_value = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1))
    estimates = generalized_estimates(data, value, next_value, 0.9, 0.8)
    ends = data.terminated, data.truncated
    advantage = generalized_advantage_estimate(data.reward, value, next_value, *ends, 0.9, 0.8)
    torch.testing.assert_close(estimates.advantage, advantage)
    torch.testing.assert_close(estimates.target, advantage + value)
