"""NPG and TRPO against a dense Fisher matrix, from its definition, in float64."""

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from gradrl.agents.npg import NPG, NPGConfig
from gradrl.agents.on_policy import frozen_policy
from gradrl.agents.trpo import TRPO, TRPOConfig
from gradrl.losses import surrogate_loss
from tests.gradrl.small import BOX, DISCRETE, in_float64, parameters, small_agent, small_model, small_rollout

SPACES = pytest.mark.parametrize("space", [DISCRETE, BOX], ids=["categorical", "gaussian"])


def make(agent, config, space=DISCRETE, **options):
    model = small_model(space, hidden=(4,)).double()
    return small_agent(agent, config, model=model, num_critic_updates=1, **options)


def policy_parameters(agent):
    return [p for name, p in agent.model.named_parameters() if not name.startswith("critic")]


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


def dense_fisher(agent, obs):
    """Mean over the states of E_a[s s^T], s = grad log pi(a|s): by enumeration of the actions, or with the
    derivatives of mean and deviation and the known Fisher matrix of a Gaussian."""
    parameters = policy_parameters(agent)
    size = sum(p.numel() for p in parameters)
    fisher = torch.zeros(size, size, dtype=torch.float64)
    for state in obs:
        policy = agent.model.policy(state[None])
        if agent.model.log_std is None:
            for action in range(2):
                log_prob = policy.log_prob(torch.tensor([action]))[0]
                score = flat(torch.autograd.grad(log_prob, parameters, retain_graph=True))
                fisher += log_prob.exp().detach() * torch.outer(score, score)
            continue
        for i in range(2):
            for output, information in (
                (policy.mean[0, i], (-2 * policy.log_std.expand(1, 2)[0, i]).exp()),
                (policy.log_std.expand(1, 2)[0, i], torch.tensor(2.0)),
            ):
                slope = flat(
                    torch.autograd.grad(
                        output, parameters, retain_graph=True, materialize_grads=True, allow_unused=True
                    )
                )
                fisher += information.detach() * torch.outer(slope, slope)
    return fisher / len(obs)


def dense_step(agent, data, max_kl, damping):
    """The natural step by a dense solve."""
    batch = agent.observe(data)[1]
    policy = agent.model.policy(batch.obs)
    loss = -(policy.log_prob(batch.action) * batch.advantage).mean()
    gradient = flat(torch.autograd.grad(loss, policy_parameters(agent)))
    fisher = dense_fisher(agent, batch.obs)
    direction = torch.linalg.solve(fisher + damping * torch.eye(len(fisher)), gradient)
    return (2 * max_kl / (direction @ fisher @ direction)).sqrt() * direction


@SPACES
def test_the_natural_step_is_that_of_a_dense_solve(space):
    data = in_float64(small_rollout(action=space))
    options = {"max_kl": 1e-6, "cg_iterations": 100, "cg_damping": 1e-2}
    agent = make(NPG, NPGConfig, space, **options)
    expected = dense_step(make(NPG, NPGConfig, space, **options), data, 1e-6, 1e-2)
    before = parameters_to_vector(policy_parameters(agent)).detach()
    metrics = agent.update(data, 0.0)
    moved = before - parameters_to_vector(policy_parameters(agent)).detach()
    torch.testing.assert_close(moved, expected, rtol=1e-6, atol=1e-10)
    assert metrics["policy/kl"].item() == pytest.approx(1e-6, rel=0.02)  # the quadratic model's promise
    assert metrics["policy/gain"] > 0


@SPACES
def test_trpo_takes_the_first_length_that_gains_and_stays_within_the_divergence(space):
    data = in_float64(small_rollout(action=space))
    options = {"max_kl": 0.5, "cg_iterations": 100, "cg_damping": 1e-2, "line_search_shrink": 0.7}
    agent, other = (make(TRPO, TRPOConfig, space, **options) for _ in range(2))
    whole = dense_step(other, data, 0.5, 1e-2)
    batch = other.observe(data)[1]
    old = frozen_policy(other.model, batch.obs)
    start = [p.detach().clone() for p in policy_parameters(other)]
    for exponent in range(10):  # by hand, on another copy
        with torch.no_grad():
            pieces = whole.split([p.numel() for p in start])
            for p, before, piece in zip(policy_parameters(other), start, pieces, strict=True):
                p.copy_(before - 0.7**exponent * piece.view_as(p))
            new = other.model.policy(batch.obs)
            loss, _ = surrogate_loss(new.log_prob(batch.action), batch.log_prob, batch.advantage)
            kl = old.kl(new).mean()
        if kl <= 0.5 and loss < -batch.advantage.mean():
            break
    metrics = agent.update(data, 0.0)
    assert metrics["policy/step_fraction"].item() == pytest.approx(0.7**exponent)
    torch.testing.assert_close(
        parameters_to_vector(policy_parameters(agent)), parameters_to_vector(policy_parameters(other))
    )
    assert 0 < metrics["policy/kl"] <= 0.5
    assert metrics["policy/gain"] > 0


@pytest.mark.parametrize("seed", range(4))
def test_however_large_the_trust_region_the_divergence_stays_within_it(seed):
    agent = make(TRPO, TRPOConfig, max_kl=2.0, cg_damping=1e-4, line_search_steps=30)
    for step in range(3):
        metrics = agent.update(in_float64(small_rollout(seed=10 * seed + step)), 0.0)
        assert metrics["policy/kl"] <= 2.0
        assert metrics["policy/gain"] >= 0


def test_the_trust_region_shrinks_with_the_progress_of_training():
    agent = make(NPG, NPGConfig, max_kl=1e-6, kl_schedule="linear", cg_iterations=100)
    kl = agent.update(in_float64(small_rollout()), 0.75)["policy/kl"].item()
    assert kl == pytest.approx(0.25e-6, rel=0.02)


@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_the_line_search_stays_within_the_limit_of_now(progress, monkeypatch):
    natural_step = NPG.natural_step
    monkeypatch.setattr(NPG, "natural_step", lambda *arguments: 4 * natural_step(*arguments))
    agent = make(
        TRPO, TRPOConfig, max_kl=1e-3, kl_schedule="linear", line_search_shrink=0.9, line_search_steps=20
    )
    metrics = agent.update(in_float64(small_rollout()), progress)
    # Four times as long is sixteen times the divergence: 0.9^14 is the first power of 0.9 below a quarter.
    assert metrics["policy/step_fraction"].item() == pytest.approx(0.9**14, rel=1e-6)
    assert 0 < metrics["policy/kl"] <= 1e-3 * (1 - progress)


def test_where_no_length_will_do_the_policy_stays():
    agent = make(TRPO, TRPOConfig, line_search_steps=2)
    agent.loss_and_kl = lambda old: (torch.tensor(0.0), torch.tensor(0.0))  # nothing ever improves
    before = [p.detach().clone() for p in policy_parameters(agent)]
    metrics = agent.update(in_float64(small_rollout()), 0.0)
    assert all(map(torch.equal, policy_parameters(agent), before))
    assert metrics["policy/step_fraction"] == 0.0
    assert metrics["policy/kl"] == 0.0


def test_a_gradient_that_is_not_finite_moves_nothing_of_the_policy():
    for agent in (make(NPG, NPGConfig), make(TRPO, TRPOConfig)):
        data = in_float64(small_rollout())
        data.reward[3, 2] = float("nan")
        before = [p.detach().clone() for p in policy_parameters(agent)]
        agent.update(data, 0.0)
        assert all(map(torch.equal, policy_parameters(agent), before))
        assert agent.policy_step.monitor.drain()["policy/gradient/skipped"] == 1.0


def test_the_norms_before_and_after_the_inverse_fisher_are_both_measured():
    agent = make(NPG, NPGConfig, max_kl=1e-3, cg_iterations=100)
    before = parameters_to_vector(policy_parameters(agent)).detach()
    agent.update(in_float64(small_rollout()), 0.0)
    moved = before - parameters_to_vector(policy_parameters(agent)).detach()
    tags = agent.policy_step.monitor.drain()
    assert tags["policy/gradient/norm_clipped"] == pytest.approx(moved.norm().item(), rel=1e-6)
    assert tags["policy/gradient/norm"] != pytest.approx(tags["policy/gradient/norm_clipped"], rel=0.01)


def test_the_critic_takes_its_own_steps_and_the_policy_one_per_rollout():
    agent = small_agent(NPG, NPGConfig, num_critic_updates=3, num_minibatches=4)
    agent.update(small_rollout(), 0.0)
    assert [step.monitor.steps for step in agent.gradient_steps] == [1, 12]
    assert [step.name for step in agent.gradient_steps] == ["policy", "critic"]
    names = [set(step.names) for step in agent.gradient_steps]
    assert names[0] | names[1] == {name for name, _ in agent.model.named_parameters()}
    assert not names[0] & names[1]


def test_layers_that_both_share_belong_to_the_policy_and_the_critic_fits_its_last_one():
    agent = small_agent(TRPO, TRPOConfig, num_critic_updates=1, model=small_model(shared=True))
    policy, critic = (set(step.names) for step in agent.gradient_steps)
    assert {name.split(".")[0] for name in policy} == {"trunk", "actor"}
    assert {name.split(".")[0] for name in critic} == {"critic"}
    before = parameters(agent)
    metrics = agent.update(small_rollout(), 0.0)
    assert 0 < metrics["policy/kl"] <= agent.cfg.max_kl
    assert not any(map(torch.equal, parameters(agent), before))


def test_a_policy_that_is_frozen_stays_where_it_was():
    model, obs = small_model(BOX), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    frozen = frozen_policy(model, obs)
    expected = [frozen.mean.clone(), frozen.log_std.clone()]
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    assert torch.equal(frozen.mean, expected[0])
    assert torch.equal(frozen.log_std, expected[1])
    assert not frozen.log_std.requires_grad
