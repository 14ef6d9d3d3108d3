"""The policy gradient's signal, noise and directions, against loops over single samples in float64."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from core.gradients import Objective
from gradrl.agents.a2c import A2C, A2CConfig
from gradrl.agents.ppo import PPO, PPOConfig
from gradrl.agents.ppo_recurrent import PPORecurrent
from gradrl.experience.rollout import Estimates, Rollout
from gradrl.policies.distributions import Categorical, DiagonalGaussian
from gradrl.probes.policy_gradient import PolicyGradients, RolloutSnapshot
from gradrl.probes.probe import PolicyGradientProbe, PolicyObjective, PolicySnapshots, check_agent
from tests.gradrl.small import parameters, small_agent, small_model, small_rollout

T, N, D = 5, 3, 4
GAMMA, LAMBDA = 0.9, 0.7


class Net(nn.Module):
    """Actor and critic on one hidden layer, in float64."""

    def __init__(self, gaussian: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.actor, self.critic = nn.Linear(D, 5), nn.Linear(5, 2), nn.Linear(5, 1)
        self.log_std = nn.Parameter(torch.tensor([0.1, -0.3])) if gaussian else None
        self.double()

    def policy(self, obs):
        out = self.actor(self.trunk(obs).tanh())
        return Categorical(out) if self.log_std is None else DiagonalGaussian(out, self.log_std)

    def value(self, obs):
        return self.critic(self.trunk(obs).tanh())[..., 0]

    def forward(self, obs):
        return self.policy(obs), self.value(obs)

    def shared_parameters(self):
        return [(f"trunk.{name}", p) for name, p in self.trunk.named_parameters()]


class Bandit(nn.Module):
    """Two actions, whatever the state."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def policy(self, obs):
        return Categorical(self.logits.expand(len(obs), 2))

    def forward(self, obs):
        return self.policy(obs), obs[:, 0]


def rollout_of(gaussian: bool = False, steps: int = T) -> Rollout:
    """Random steps; one termination, one truncation, one step that is not valid."""
    generator = torch.Generator().manual_seed(1)
    shape = (steps, N)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    terminated, truncated, valid = (torch.zeros(shape, dtype=torch.bool) for _ in range(3))
    terminated[1, 0] = truncated[2, 1] = True
    valid[:] = True
    valid[3, 1] = False
    action = normal(*shape, 2) if gaussian else torch.randint(2, shape, generator=generator)
    return Rollout(
        obs=normal(steps + 1, N, D),
        action=action,
        reward=normal(*shape) + 2.0,
        terminated=terminated,
        truncated=truncated,
        valid=valid,
        num_valid=int(valid.sum()),
        final_index=torch.zeros(0, dtype=torch.int64),
        final_obs=torch.zeros(0, D, dtype=torch.float64),
        terminal_index=torch.zeros(0, dtype=torch.int64),
        terminal_obs=torch.zeros(0, D, dtype=torch.float64),
        episode_start=torch.zeros(steps + 1, N, dtype=torch.bool),
        recurrent_state=torch.zeros(N, 0),
    )


def slow_advantage(rollout: Rollout, value, next_value, gae_lambda: float) -> torch.Tensor:
    """The sum of discounted errors by its definition, step by step, [T, N]."""
    steps, out = len(rollout.reward), torch.zeros_like(rollout.reward)
    for n in range(N):
        for t in range(steps):
            factor = 1.0
            for k in range(t, steps):
                alive = 0.0 if rollout.terminated[k, n] else 1.0
                error = rollout.reward[k, n] + GAMMA * alive * next_value[k, n] - value[k, n]
                out[t, n] += factor * error
                if rollout.terminated[k, n] or rollout.truncated[k, n]:
                    break
                factor *= GAMMA * gae_lambda
    return out


def acted_of(
    net: Net, rollout: Rollout, *, critic: bool = True, normalize: bool = False, size: int = 2
) -> RolloutSnapshot:
    with torch.no_grad():
        values = net.value(rollout.obs) if critic else torch.zeros(len(rollout.obs), N, dtype=torch.float64)
    advantage = slow_advantage(rollout, values[:-1], values[1:], LAMBDA if critic else 1.0)
    return RolloutSnapshot(
        module=net,
        parameters={name: p.detach().clone() for name, p in net.named_parameters()},
        estimates=Estimates(rollout, values[:-1], values[1:], advantage, advantage + values[:-1], critic),
        gamma=GAMMA,
        gae_lambda=LAMBDA if critic else None,
        minibatch_size=size,
        normalize=normalize,
    )


def sample_gradients(net: Net, rollout: Rollout, weight: torch.Tensor) -> torch.Tensor:
    """psi_i grad log pi(a_i | s_i) of the valid steps, one after the other, [B, P]."""
    rows, parameters = [], list(net.parameters())
    for t in range(len(rollout.reward)):
        for n in range(N):
            if rollout.valid[t, n]:
                log_prob = net.policy(rollout.obs[t, n][None]).log_prob(rollout.action[t, n][None])[0]
                found = torch.autograd.grad(
                    log_prob * weight[len(rows)], parameters, allow_unused=True, materialize_grads=True
                )
                rows.append(torch.cat([g.flatten() for g in found]))
    return torch.stack(rows)


def probed(acted: RolloutSnapshot, net: Net, **options) -> dict[str, float]:
    objective = PolicyObjective(Objective(net, lambda forward, obs: forward(obs)[1].mean(), []), acted)
    found = PolicyGradientProbe(**options)(objective, None, torch.Generator().manual_seed(3))
    return {tag.removeprefix("policy_gradient/"): value for tag, value in found.items()}


@pytest.mark.parametrize("gaussian", [False, True])
def test_the_variance_with_each_baseline_is_that_of_the_single_samples_gradients(gaussian):
    net, rollout = Net(gaussian), rollout_of(gaussian)
    acted = acted_of(net, rollout)
    found, valid = probed(acted, net), rollout.valid.flatten()
    with torch.no_grad():
        value = net.value(rollout.obs)
    returns = slow_advantage(rollout, value[:-1], value[1:], 1.0) + value[:-1]
    weights = {
        "no_baseline": returns.flatten()[valid],
        "mean_baseline": (returns - returns.flatten()[valid].mean()).flatten()[valid],
        "value_baseline": (returns - value[:-1]).flatten()[valid],
        "gae": slow_advantage(rollout, value[:-1], value[1:], LAMBDA).flatten()[valid],
    }
    for name, weight in weights.items():
        expected = sample_gradients(net, rollout, weight).var(0).sum()
        assert found[f"variance_{name}"] == pytest.approx(float(expected), rel=1e-9), name


@pytest.mark.parametrize("normalize", [False, True])
def test_signal_and_noise_are_those_of_the_agents_own_weights(normalize):
    net, rollout = Net(), rollout_of()
    acted = acted_of(net, rollout, normalize=normalize)
    weight = acted.estimates.advantage[rollout.valid]
    if normalize:
        weight = (weight - weight.mean()) / weight.std()
    gradients = sample_gradients(net, rollout, weight)
    variance, length = gradients.var(0).sum(), gradients.mean(0).square().sum()
    policy = PolicyGradients(acted)
    noise = policy.noise(policy.advantage)
    assert float(noise.variance) == pytest.approx(float(variance), rel=1e-6)
    assert float(noise.signal) == pytest.approx(float(length - variance / len(gradients)), rel=1e-6)
    assert probed(acted, net)["norm"] == pytest.approx(math.sqrt(length), rel=1e-6)


def test_without_a_critic_the_weights_are_the_rewards_to_come_and_these_less_their_mean():
    net, rollout = Net(), rollout_of()
    weights = acted_of(net, rollout, critic=False).weights()
    nothing = torch.zeros(T, N, dtype=torch.float64)
    returns = slow_advantage(rollout, nothing, nothing, 1.0).flatten()[rollout.valid.flatten()]
    assert list(weights) == ["no_baseline", "mean_baseline"]
    torch.testing.assert_close(weights["no_baseline"], returns)
    torch.testing.assert_close(weights["mean_baseline"], returns - returns.mean())


def test_the_bandits_variance_with_a_baseline_is_the_closed_form():
    """One state, two actions of probability 1/2, reward 0 or 1: with weights r - b and a score of length
    1/sqrt(2), the second moment is ((1 - b)^2 + b^2) / 4 and the gradient's mean has the square 1/8."""
    net = Bandit()
    rollout = rollout_of(steps=20)
    action = torch.arange(20 * N).reshape(20, N) % 2  # both actions equally often
    none = torch.zeros(20, N, dtype=torch.bool)
    rollout = replace(
        rollout, action=action, reward=action.double(), terminated=~none, truncated=none, valid=~none
    )
    nothing = torch.zeros_like(rollout.reward)
    acted = RolloutSnapshot(
        module=net,
        parameters=dict(net.named_parameters()),
        estimates=Estimates(rollout, nothing, nothing, action.double(), nothing, critic=False),
        gamma=1.0,
        gae_lambda=None,
        minibatch_size=1,
        normalize=False,
    )
    policy, count = PolicyGradients(acted), 20 * N
    for baseline in (0.0, 0.5, 2.0):
        variance = policy.noise(policy.advantage - baseline).variance
        exact = ((1 - baseline) ** 2 + baseline**2) / 4 - 1 / 8
        assert float(variance) == pytest.approx(exact * count / (count - 1), rel=1e-6)
    assert float(policy.noise(acted.weights()["mean_baseline"]).variance) == pytest.approx(0.0, abs=1e-12)


def test_the_gradient_is_that_of_the_policy_that_acted_whatever_became_of_it_since():
    net, rollout = Net(), rollout_of()
    acted = acted_of(net, rollout)
    before = probed(acted, net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert probed(acted, net) == before


def test_the_cosine_with_the_value_gradient_is_taken_on_the_shared_layers_alone():
    net, rollout = Net(), rollout_of()
    acted = acted_of(net, rollout)
    valid, shared = rollout.valid.flatten(), [p for _, p in net.shared_parameters()]
    obs, action = rollout.obs[:-1].flatten(0, 1)[valid], rollout.action.flatten()[valid]
    advantage = acted.estimates.advantage.flatten()[valid]
    policy_loss = -(net.policy(obs).log_prob(action) * advantage).mean()
    value = net.value(obs)
    value_loss = (value - (value.detach() + advantage)).square().mean()
    a, b = (
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared)])
        for loss in (policy_loss, value_loss)
    )
    expected = torch.nn.functional.cosine_similarity(a, b, dim=0)
    assert probed(acted, net)["value_cosine"] == pytest.approx(float(expected), rel=1e-9)
    net.shared_parameters = list
    assert "value_cosine" not in probed(acted, net)


def test_an_agents_own_model_is_probed_on_the_layers_that_actor_and_critic_share():
    agent = small_agent(A2C, A2CConfig, model=small_model(shared=True))
    probe = PolicyGradientProbe(interval=1)
    snapshots = PolicySnapshots(agent, {"policy_gradient": probe}, num_envs=4)
    snapshots.take()
    batch = agent.observe(small_rollout())
    ((objective, step),) = snapshots.objectives()
    found = probe(objective, step, torch.Generator())
    policy, value = agent.model(batch.obs)
    losses = -(policy.log_prob(batch.action) * batch.advantage).mean(), (value - batch.target).square().mean()
    shared = list(agent.model.trunk.parameters())
    a, b = (
        torch.cat([g.flatten() for g in torch.autograd.grad(x, shared, retain_graph=True)]) for x in losses
    )
    expected = torch.nn.functional.cosine_similarity(a, b, dim=0)
    assert found["policy_gradient/value_cosine"] == pytest.approx(float(expected), abs=1e-5)


def test_minibatches_are_compared_with_other_samples_only():
    net, rollout = Net(), rollout_of()
    acted = acted_of(net, rollout, size=4)
    valid = rollout.valid.flatten()
    gradients = sample_gradients(net, rollout, acted.estimates.advantage.flatten()[valid])
    generator, cosines = torch.Generator().manual_seed(3), []
    for _ in range(6):
        order = torch.randperm(len(gradients), generator=generator)
        own, rest = gradients[order[:4]].mean(0), gradients[order[4:]].mean(0)
        cosines.append(torch.nn.functional.cosine_similarity(own, rest, dim=0))
    found = probed(acted, net, minibatches=6)
    assert found["minibatch_cosine"] == pytest.approx(float(torch.stack(cosines).mean()), rel=1e-9)
    assert "minibatch_cosine_100x" not in found
    assert "minibatch_cosine" not in probed(acted, net, minibatch_size=8)  # of 14 samples


def test_a_minibatch_is_compared_with_a_hundred_times_as_many_others_where_there_are_as_many():
    net, rollout = Net(), rollout_of(steps=68)  # 203 valid steps
    acted = acted_of(net, rollout)
    gradients = sample_gradients(net, rollout, acted.estimates.advantage[rollout.valid])
    found = PolicyGradients(acted).large_batch_cosine(2, 5, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    order, cosines = torch.randperm(203, generator=generator), []
    large, others = gradients[order[:200]].mean(0), order[200:]
    for _ in range(5):
        chosen = others[torch.randperm(3, generator=generator)[:2]]
        cosines.append(torch.nn.functional.cosine_similarity(gradients[chosen].mean(0), large, dim=0))
    assert float(found) == pytest.approx(float(torch.stack(cosines).mean()), rel=1e-9)
    assert "minibatch_cosine_100x" in probed(acted, net, minibatch_size=2)
    assert PolicyGradients(acted).large_batch_cosine(3, 5, generator) is None


def test_a_probe_changes_no_parameter_no_gradient_and_no_global_generator():
    net, rollout = Net(), rollout_of()
    acted = acted_of(net, rollout)
    before, state = [p.detach().clone() for p in net.parameters()], torch.get_rng_state()
    probed(acted, net)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_what_has_no_policy_gradient_is_refused_or_passed_over():
    net = Net()
    probe = PolicyGradientProbe()
    probe.check(net)
    with pytest.raises(ValueError, match=r"the network must be one with a policy .*, got 'Linear'"):
        probe.check(net.trunk)
    assert (
        probe(Objective(net, lambda forward, obs: forward(obs)[1].mean(), []), None, torch.Generator()) == {}
    )
    with pytest.raises(ValueError, match=r"probe must be left out for object, .*, got 'pg'"):
        check_agent({"pg": probe}, object)
    with pytest.raises(ValueError, match=r"left out for PPORecurrent, whose single steps have no gradient"):
        check_agent({"pg": probe}, PPORecurrent)
    check_agent(None, PPORecurrent)
    check_agent(None, object)
    check_agent({"pg": probe}, type("Learner", (), {"estimates": None}))


@pytest.mark.parametrize("name", ["interval", "minibatches", "minibatch_size", "chunk_size"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1.*, got 0"):
        PolicyGradientProbe(**{name: 0})


def test_parameters_are_copied_only_before_an_update_in_which_a_probe_falls_due():
    agent = small_agent(PPO, PPOConfig, num_epochs=2, num_minibatches=4)  # 8 steps an update
    snapshots = PolicySnapshots(agent, {"pg": PolicyGradientProbe(interval=20)}, num_envs=4)
    copied = []
    for seed in range(5):
        acted = parameters(agent)
        snapshots.take()
        agent.update(small_rollout(seed=seed), 0.0)
        ((objective, _),) = snapshots.objectives()
        copied.append(isinstance(objective, PolicyObjective))
        if copied[-1]:
            assert all(map(torch.equal, objective.snapshot.parameters.values(), acted))
            assert not all(map(torch.equal, parameters(agent), acted))
    assert copied == [False, False, True, False, True]  # 20 lies in the third update, 40 ends the fifth
