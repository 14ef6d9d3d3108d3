"""DDPG, TD3 and SAC: their targets by the definition, who moves when, and what they learn."""

import io
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from core.config import Component
from core.optim.schedules import Constant, Linear
from gradrl.agent import Learning
from gradrl.agents.off_policy import OffPolicyConfig
from gradrl.agents.sac import SACConfig
from gradrl.agents.td3 import TD3Config
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.losses import mean_metrics
from gradrl.policies.encoders import ConvolutionConfig
from gradrl.policies.q_networks import (
    QNetworksConfig,
    StochasticActorCritics,
    StochasticConfig,
)
from gradrl.policies.target import Target
from tests.gradrl.off_policy import CHOICE, KINDS, copies, experience, filled, make, parameters
from tests.gradrl.rollouts import rollout


def test_td3_targets_are_the_smaller_value_of_a_smoothed_action_unless_the_world_ended():
    agent = filled("td3", gamma=0.9, target_noise=0.3, target_noise_clip=0.2)
    batch = agent.replay.sample(64, agent.generator)
    target = agent.target(batch, torch.Generator().manual_seed(5))
    noise = torch.empty(64, 2).normal_(std=0.3, generator=torch.Generator().manual_seed(5))
    assert 0 < batch.terminated.sum() < 64
    for b in range(64):
        action = agent.target_actor.net(batch.next_obs[b : b + 1])[0]
        near = [min(max(float(action[i]) + min(max(float(noise[b, i]), -0.2), 0.2), -1), 1) for i in range(2)]
        inputs = torch.cat([batch.next_obs[b], torch.tensor(near)])
        values = [float(q(inputs)) for q in agent.target_critic.net.q]
        follows = 0.0 if batch.terminated[b] else 0.9 * min(values)
        assert target[b].item() == pytest.approx(float(batch.reward[b]) + follows, abs=1e-5)


def test_ddpg_targets_are_the_target_critics_value_of_the_target_actors_action():
    agent = filled("ddpg", gamma=0.9)
    batch = agent.replay.sample(32, agent.generator)
    inputs = torch.cat([batch.next_obs, agent.target_actor.net.net(batch.next_obs).tanh()], -1)
    value = agent.target_critic.net.q[0](inputs)[:, 0]
    expected = torch.where(batch.terminated == 1, batch.reward, batch.reward + 0.9 * value)
    torch.testing.assert_close(agent.target(batch, torch.Generator()), expected)


def test_discrete_sac_targets_are_an_explicit_sum_over_the_actions():
    agent = filled("sac_discrete", gamma=0.9)
    batch = agent.replay.sample(32, agent.generator)
    target = agent.target(batch, torch.tensor(0.25), torch.Generator())
    for b in range(32):
        p = agent.model.actor.net(batch.next_obs[b]).softmax(-1).tolist()
        q = [critic(batch.next_obs[b]).tolist() for critic in agent.target_critic.net.q]
        value = sum(p[a] * (min(q[0][a], q[1][a]) - 0.25 * math.log(p[a])) for a in range(3))
        follows = 0.0 if batch.terminated[b] else 0.9 * value
        assert target[b].item() == pytest.approx(float(batch.reward[b]) + follows, abs=1e-5)


def test_sac_targets_use_the_density_of_the_squashed_action():
    agent = filled("sac", gamma=0.9)
    batch = agent.replay.sample(32, agent.generator)
    target = agent.target(batch, torch.tensor(0.25), torch.Generator().manual_seed(3))
    mean, log_std = agent.model.actor.net(batch.next_obs).chunk(2, -1)
    base = torch.distributions.Normal(mean, log_std.exp())
    policy = torch.distributions.TransformedDistribution(base, [torch.distributions.TanhTransform()])
    noise = torch.empty_like(mean).normal_(generator=torch.Generator().manual_seed(3))
    action = (mean + log_std.exp() * noise).tanh()
    log_prob = policy.log_prob(action).sum(-1)
    inputs = torch.cat([batch.next_obs, action], -1)
    q = torch.minimum(*(critic(inputs)[:, 0] for critic in agent.target_critic.net.q))
    expected = batch.reward + 0.9 * (1 - batch.terminated) * (q - 0.25 * log_prob)
    torch.testing.assert_close(target, expected, atol=1e-4, rtol=1e-4)


def test_the_entropy_of_a_squashed_action_is_minus_its_log_density():
    agent = filled("sac")
    obs = agent.replay.sample(8, agent.generator).obs
    policy, noise = agent.model.actor(obs), torch.randn(8, 2, generator=torch.Generator().manual_seed(2))
    _, entropy = agent.value(policy, agent.model.critic, obs, torch.tensor(0.5), noise)
    base = torch.distributions.Normal(policy.gaussian.mean, policy.gaussian.log_std.exp())
    squashed = torch.distributions.TransformedDistribution(base, [torch.distributions.TanhTransform()])
    action = (policy.gaussian.mean + policy.gaussian.log_std.exp() * noise).tanh()
    torch.testing.assert_close(entropy, -squashed.log_prob(action).sum(-1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_target_goes_its_share_towards_its_network_after_each_step(kind):
    agent = filled(kind, tau=0.25, **({"policy_delay": 1} if kind == "td3" else {}))
    pairs = [(agent.target_critic.net, agent.model.critic)]
    if not kind.startswith("sac"):
        pairs.append((agent.target_actor.net, agent.model.actor))
    before = copies(*(target for target, _ in pairs))
    agent.update_once()
    for old, (target, source) in zip(before, pairs, strict=True):
        now, learnt = copies(target, source)
        torch.testing.assert_close(now, old + 0.25 * (learnt - old))


@pytest.mark.parametrize("kind", KINDS)
def test_each_players_step_moves_and_pays_for_its_own_parameters_alone(kind):
    agent = filled(kind)
    batch = agent.replay.sample(16, agent.generator)
    temperature = (torch.tensor(0.5),) if kind.startswith("sac") else ()
    actor, critic = copies(agent.model.actor, agent.model.critic)
    agent.update_critic(batch, *temperature)
    assert all(p.grad is None for p in agent.model.actor.parameters())
    after_actor, after_critic = copies(agent.model.actor, agent.model.critic)
    assert torch.equal(actor, after_actor)
    assert not torch.equal(critic, after_critic)
    for p in agent.model.critic.parameters():
        p.grad = None
    agent.update_actor(batch, *temperature)
    assert all(p.grad is None for p in agent.model.critic.parameters())
    assert not torch.equal(actor, *copies(agent.model.actor))
    assert torch.equal(after_critic, *copies(agent.model.critic))


def test_a_deterministic_actor_climbs_the_first_critic_by_the_chain_rule():
    agent = filled("td3")
    obs = agent.replay.sample(16, agent.generator).obs
    names = list(agent.model.actor.parameters())
    ours = torch.autograd.grad(agent.actor_loss(agent.model.actor, obs), names)
    action = agent.model.actor(obs)
    leaf = action.detach().requires_grad_()
    (slope,) = torch.autograd.grad(agent.model.critic.q[0](torch.cat([obs, leaf], -1)).mean(), leaf)
    theirs = torch.autograd.grad(action, names, grad_outputs=-slope)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_td3_moves_its_actor_and_its_targets_every_second_step():
    agent = filled("td3", policy_delay=2)
    before = copies(agent.model.actor, agent.target_critic.net)
    assert "loss/actor" not in agent.update_once()
    assert all(map(torch.equal, before, copies(agent.model.actor, agent.target_critic.net)))
    assert "loss/actor" in agent.update_once()
    assert not any(map(torch.equal, before, copies(agent.model.actor, agent.target_critic.net)))


@pytest.mark.parametrize("tau", [1.0, 0.25])
def test_a_target_has_the_buffers_of_its_source_as_they_now_are(tau):
    source = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))
    target = Target(source, tau)
    first = source[1].weight.detach().clone()
    x = torch.tensor([[1.0, 4.0], [3.0, 4.0]])
    source(x)
    with torch.no_grad():
        source[1].weight.add_(1.0)
    target.follow()
    # 0.9 of the first 0 and 1, 0.1 of the batch's mean and (unbiased) variance
    torch.testing.assert_close(target.net[0].running_mean, torch.tensor([0.2, 0.4]))
    torch.testing.assert_close(target.net[0].running_var, torch.tensor([1.1, 0.9]))
    assert target.net[0].num_batches_tracked == 1
    torch.testing.assert_close(target.net[1].weight, first + tau)


def test_a_target_goes_its_share_of_the_way():
    source = torch.nn.Linear(2, 2)
    target = Target(source, 0.25)
    old = source.weight.detach().clone()
    with torch.no_grad():
        source.weight += 1.0
    target.follow()
    torch.testing.assert_close(target.net.weight, old + 0.25)
    assert [target.lag(moves)["target/initial_share"] for moves in (1, 2)] == [0.75, 0.5625]
    assert not any(p.requires_grad for p in target.net.parameters())


@pytest.mark.parametrize("kind", ["sac", "sac_discrete"])
def test_an_optimizer_that_looks_twice_sees_the_same_loss(kind):
    agent = filled(kind)
    batch, seen = agent.replay.sample(16, agent.generator), []
    expected = torch.Generator()
    expected.set_state(agent.generator.get_state())
    agent.actor_step = lambda closure: seen.extend(closure()[0].item() for _ in range(2)) or {}
    agent.update_actor(batch, torch.tensor(0.5))
    assert seen[0] == seen[1]
    if kind == "sac":
        policy, noise = agent.model.actor(batch.obs), torch.empty(16, 2).normal_(generator=expected)
        value, _ = agent.value(policy, agent.model.critic, batch.obs, torch.tensor(0.5), noise)
        assert seen[0] == -value.mean().item()
    assert torch.equal(agent.generator.get_state(), expected.get_state())


def test_the_temperature_learns_towards_the_target_entropy_or_stays():
    agent = filled("sac", initial_temperature=0.5)
    before = agent.log_temperature.item()
    assert agent.target_entropy == -2.0
    agent.update_temperature(torch.tensor(-5.0))
    assert agent.log_temperature.item() > before == pytest.approx(math.log(0.5))
    fixed = filled("sac", temperature=0.2)
    metrics = fixed.update(experience("sac", 1), 0.0)
    assert metrics["policy/temperature"].item() == pytest.approx(0.2)
    assert [step.name for step in fixed.gradient_steps] == ["critic", "actor"]
    assert [step.name for step in agent.gradient_steps] == ["critic", "actor", "temperature"]
    assert filled("sac_discrete").target_entropy == pytest.approx(0.98 * math.log(3))


@pytest.mark.parametrize(("gradient_steps", "expected"), [(3, 3), (None, 5)])
def test_a_round_takes_as_many_steps_as_asked_for_or_as_there_are_new_transitions(gradient_steps, expected):
    agent = filled("sac", gradient_steps=gradient_steps)
    data = experience("sac", 1)
    valid = torch.zeros(4, 2, dtype=torch.bool)
    valid.view(-1)[:5] = True
    data = type(data)(**{**vars(data), "valid": valid, "num_valid": 5})
    agent.update(data, 0.0)
    assert agent.critic_step.monitor.steps == agent.actor_step.monitor.steps == expected


def test_nothing_is_learnt_before_learning_starts():
    agent = make("sac", learning_starts=9)
    before = parameters(agent)
    data = rollout(torch.zeros(9, 1, 3), torch.zeros(8, 1, 2), torch.zeros(8, 1))
    assert agent.update(data, 0.0) == {}
    assert agent.objectives() == []
    assert torch.equal(before, parameters(agent))
    assert agent.update(data, 0.0) != {}


@pytest.mark.parametrize(("transitions", "random"), [(8, True), (9, False), (10, False)])
def test_with_as_many_transitions_as_learning_starts_asks_for_it_has_started(transitions, random):
    agent = make("sac", learning_starts=9)
    data = rollout(
        torch.zeros(transitions + 1, 1, 3), torch.zeros(transitions, 1, 2), torch.zeros(transitions, 1)
    )
    learnt = agent.update(data, 0.0)
    assert (learnt == {}) == random
    assert agent.learner.at_random == random


def test_metrics_are_means_over_the_steps_that_have_them():
    history = [{"a": torch.tensor(1.0)}, {"a": torch.tensor(2.0), "b": torch.tensor(5.0)}]
    assert mean_metrics(history) == {"a": 1.5, "b": 5.0}
    agent = filled("td3", gradient_steps=4)
    metrics = agent.update(experience("td3", 1), 0.0)
    assert set(metrics) == {"loss/critic", "loss/actor", "value/q_mean"}
    assert all(v.dim() == 0 and not v.requires_grad for v in metrics.values())
    soft = filled("sac").update(experience("sac", 1), 0.0)
    assert set(soft) - set(metrics) == {"loss/temperature", "policy/entropy", "policy/temperature"}


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_agent_continues_bit_by_bit(kind):
    def run(agent, seeds):
        for seed in seeds:
            agent.update(experience(kind, seed), progress=seed / 10)
        return agent

    whole = run(filled(kind, schedule=Linear(final=0.1)), range(7))
    half = run(filled(kind, schedule=Linear(final=0.1)), range(3))
    file = io.BytesIO()
    state = {"agent": half.state_dict(), "model": half.model.state_dict(), "g": half.generator.get_state()}
    torch.save(state | {s.name: s.state_dict() for s in half.gradient_steps}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    resumed = make(kind, schedule=Linear(final=0.1), seed=9)
    resumed.model.load_state_dict(state["model"])
    resumed.load_state_dict(state["agent"])
    resumed.generator.set_state(state["g"])
    for step in resumed.gradient_steps:
        step.load_state_dict(state[step.name])
    run(resumed, range(3, 7))
    assert torch.equal(parameters(whole), parameters(resumed))
    assert (
        whole.critic_step.optimizer.param_groups[0]["lr"]
        == resumed.critic_step.optimizer.param_groups[0]["lr"]
    )
    for a, b in zip(whole.objectives(), resumed.objectives(), strict=True):
        assert torch.equal(a[0](), b[0]())


@pytest.mark.parametrize("kind", KINDS)
def test_objectives_are_the_losses_and_draw_nothing_from_the_training(kind):
    agent = filled(kind)
    state = agent.generator.get_state()
    (of_critic, critic_step), (_, actor_step) = agent.objectives()
    assert (critic_step.name, actor_step.name) == ("critic", "actor")
    assert torch.equal(of_critic(), agent.objectives()[0][0]())
    for objective, step in agent.objectives():
        loss = objective()
        gradient = torch.autograd.grad(loss, objective.parameters)
        assert [id(p) for p in objective.parameters] == [id(p) for p in step.parameters]
        assert any(g.abs().sum() > 0 for g in gradient)
        rows = [objective.on([part[i : i + 1] for part in objective.batch]) for i in range(objective.samples)]
        torch.testing.assert_close(torch.stack(rows).mean(), loss)  # the mean of the samples' own losses
        moved = {
            n: p.detach() - 1e-3 * g
            for n, p, g in zip(objective.names, objective.parameters, gradient, strict=True)
        }
        assert objective(moved) < loss
    assert torch.equal(state, agent.generator.get_state())


def test_the_critics_may_have_a_rate_of_their_own():
    agent = filled("ddpg", critic_lr=0.125)
    assert agent.critic_step.base_lrs == [0.125]
    assert agent.actor_step.base_lrs == [1e-2]


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_on_the_host_is_the_networks(kind):
    agent = make(kind)
    obs = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    act = agent.model.make_actor(np.random.default_rng(0), deterministic=True)
    act.begin(5)
    action = act(obs, np.zeros(5, np.bool_))
    with torch.no_grad():
        policy = agent.model.actor(torch.from_numpy(obs))
    if kind == "sac_discrete":
        assert action.tolist() == policy.logits.argmax(-1).tolist()
    else:
        expected = policy.mode() if kind == "sac" else policy
        np.testing.assert_allclose(action, expected.numpy(), atol=1e-6)


def test_samples_on_the_host_have_the_networks_distribution():
    agent = make("sac")
    obs = np.full((20_000, 3), 0.3, np.float32)
    act = agent.model.make_actor(np.random.default_rng(0))
    act.begin(len(obs))
    action = np.arctanh(act(obs, np.zeros(len(obs), np.bool_)).astype(np.float64))
    with torch.no_grad():
        policy = agent.model.actor(torch.from_numpy(obs[:1]))
    np.testing.assert_allclose(action.mean(0), policy.gaussian.mean[0], atol=0.03)
    np.testing.assert_allclose(action.std(0), policy.gaussian.log_std[0].exp(), rtol=0.02)


@pytest.mark.parametrize("kind", ["td3", "sac", "sac_discrete"])
def test_images_pass_through_convolutions_and_stay_bytes_in_the_replay(kind):
    _, _, networks, num_critics, space = KINDS[kind]
    agent = make(kind)
    shape = StochasticConfig if networks is StochasticActorCritics else QNetworksConfig
    small = ConvolutionConfig(channels=(2,), kernel_sizes=(8,), strides=(8,), features=4)
    cfg = shape(num_critics=num_critics, hidden_sizes=(8,), convolutions=small)
    observation = Observation(spaces.Box(0, 255, (36, 36, 1), np.uint8))
    model = networks(cfg, observation, action_decoder(space), torch.Generator().manual_seed(0))
    optimizer = Component(torch.optim.Adam, {"lr": 1e-2}, "optimizer")
    agent = KINDS[kind][0](
        agent.cfg, model, Learning(optimizer=optimizer, clipper=None, schedule=Constant()), torch.Generator()
    )
    data = experience(kind, 0, t=10)
    pixels = torch.randint(256, (11, 2, observation.size), dtype=torch.uint8)
    data = type(data)(
        **{
            **vars(data),
            "obs": pixels,
            "final_obs": pixels[0, 0].expand(len(data.final_obs), -1),
            "terminal_obs": pixels[0, :0],
        }
    )
    before = copies(agent.model.actor.net[0], agent.model.critic.encoder)
    agent.update(data, 0.0)
    agent.update(data, 0.0)
    assert agent.replay.sample(2, agent.generator).obs.dtype is torch.uint8
    assert not any(map(torch.equal, before, copies(agent.model.actor.net[0], agent.model.critic.encoder)))


@pytest.mark.parametrize(
    ("kind", "space", "message"),
    [
        ("td3", CHOICE, "Discrete"),
        ("ddpg", CHOICE, "Discrete"),
        ("td3", spaces.Box(-np.inf, np.inf, (2,), np.float32), "bounds"),
        ("sac", spaces.Box(np.float32([-1, -np.inf]), np.float32([1, 1])), "bounds"),
    ],
)
def test_actions_that_do_not_fit_are_refused_in_one_line(kind, space, message):
    with pytest.raises(ValueError, match=message) as refusal:
        make(kind, space=space)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (OffPolicyConfig, {"learning_starts": 11, "replay_size": 10}),
        (OffPolicyConfig, {"gradient_steps": 0}),
        (OffPolicyConfig, {"tau": 0.0}),
        (OffPolicyConfig, {"critic_lr": -1.0}),
        (SACConfig, {"temperature": "warm"}),
        (SACConfig, {"temperature": -0.1}),
        (SACConfig, {"initial_temperature": 0.0}),
        (TD3Config, {"policy_delay": 0}),
        (TD3Config, {"target_noise": -0.1}),
        (TD3Config, {"gamma": 1.5}),
    ],
)
def test_options_out_of_range_are_refused_by_name(config, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        config(**options)
