import numpy as np
import pytest
import torch

from gradrl.agents.vtrace import VTrace, VTraceConfig
from gradrl.returns import discounted_return
from tests.gradrl.small import in_float64, parameters, small_agent, small_model, small_rollout
from tests.gradrl.test_returns import slow_vtrace


def make(**options):
    return small_agent(VTrace, VTraceConfig, **options)


def estimates(agent, data):
    """Values of the learner, and those of what each step led to."""
    with torch.no_grad():
        value = agent.model.value(data.obs)
        return value[:-1], data.next_value(value, agent.model.value(data.final_obs))


def test_a_policy_that_is_always_the_newest_has_the_targets_of_an_n_step_actor_critic():
    agent = make(policy_lag=1)
    for seed in range(3):
        data = small_rollout(seed=seed)
        value, next_value = estimates(agent, data)
        batch = agent.observe(data)
        returns = discounted_return(data.reward, next_value, data.terminated, data.truncated, 0.99)
        torch.testing.assert_close(batch.target, returns.flatten())
        torch.testing.assert_close(batch.advantage, (returns - value).flatten())
        metrics = agent.update(data, 0.0)
        assert metrics["policy/ratio_max"].item() == pytest.approx(1.0, abs=1e-6)


def test_with_an_older_policy_the_targets_are_those_of_the_slow_reference():
    model = small_model().double()
    agent = make(policy_lag=3, rho_bar=1.2, c_bar=0.9, lr=0.1, model=model)
    acted = small_model().double()  # as the policy was at the beginning
    for seed in range(2):
        agent.update(in_float64(small_rollout(seed=seed)), 0.0)
    data = in_float64(small_rollout(seed=7))
    obs, action = data.obs[:-1].flatten(0, 1), data.action.flatten()
    with torch.no_grad():
        log_ratio = model.policy(obs).log_prob(action) - acted.policy(obs).log_prob(action)
    assert log_ratio.exp().min() < 0.9
    assert log_ratio.exp().max() > 1.2
    value, next_value = estimates(agent, data)
    target, advantage = slow_vtrace(
        log_ratio.view_as(value),
        data.reward,
        value,
        next_value,
        data.terminated,
        data.truncated,
        0.99,
        1.2,
        0.9,
    )
    batch = agent.observe(data)
    torch.testing.assert_close(batch.target, target.flatten())
    torch.testing.assert_close(batch.advantage, advantage.flatten())
    metrics = agent.update(data, 0.0)
    torch.testing.assert_close(metrics["policy/approx_kl"], (log_ratio.exp() - 1 - log_ratio).mean())
    torch.testing.assert_close(metrics["policy/advantage_std"], advantage.std(correction=0))


def test_the_acting_policy_is_refreshed_every_so_many_updates_and_saved_with_its_age():
    agent, start = make(policy_lag=3), small_model()
    same = lambda one, other: all(  # noqa: E731
        map(torch.equal, one.state_dict().values(), other.state_dict().values())
    )
    for update in range(1, 7):
        before = agent.acting.state_dict()["critic.0.weight"].clone()
        agent.update(small_rollout(seed=update), 0.0)
        refreshed = update % 3 == 0
        assert same(agent.acting, agent.model) == refreshed
        assert torch.equal(agent.acting.state_dict()["critic.0.weight"], before) != refreshed
        if update < 3:
            assert same(agent.acting, start)
        if update == 4:
            resumed = make(policy_lag=3)
            resumed.load_state_dict(agent.state_dict())
            assert same(resumed.acting, agent.acting)
            assert not same(resumed.acting, resumed.model)
            assert resumed.age == 1


def test_the_actor_is_the_acting_copy():
    agent = make(policy_lag=10, lr=0.5)
    agent.update(small_rollout(), 0.0)
    actor = agent.make_actor(np.random.default_rng(0))
    actor.begin(500)
    obs = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    acted = torch.from_numpy(actor(obs.numpy(), np.zeros(500, np.bool_)))
    chance = small_model().policy(obs).log_prob(acted).exp()
    learner = agent.model.policy(obs).log_prob(acted).exp()
    # E[p(a)] over a ~ p is sum p^2, larger than under any other policy by sum (p - q)^2.
    assert chance.log().mean() > learner.log().mean() + 0.01


def test_learning_moves_only_the_learner():
    agent = make(policy_lag=5)
    before = parameters(agent)
    agent.update(small_rollout(), 0.0)
    assert not any(p.requires_grad for p in agent.acting.parameters())
    assert all(map(torch.equal, agent.acting.parameters(), before))
