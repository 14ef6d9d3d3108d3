"""What holds for every agent that takes whole rollouts and learns from each once."""

import numpy as np
import pytest
import torch

from core.gradients import GlobalNorm
from core.optim.schedules import Linear
from gradrl.agents.a2c import A2C, A2CConfig
from gradrl.agents.npg import NPG, NPGConfig
from gradrl.agents.on_policy import actor_critic_loss
from gradrl.agents.reinforce import REINFORCE, REINFORCEConfig
from gradrl.agents.trpo import TRPO, TRPOConfig
from gradrl.agents.vtrace import VTrace, VTraceConfig
from gradrl.experience.rollout import Batch, Rollout
from gradrl.policies.distributions import Categorical
from tests.gradrl.small import BOX, parameters, small_agent, small_model, small_rollout

AGENTS = {
    "a2c": (A2C, A2CConfig, {}),
    "a2c normalized": (A2C, A2CConfig, {"normalize_advantage": True, "entropy_coef": 0.01}),
    "reinforce": (REINFORCE, REINFORCEConfig, {"baseline": "none"}),
    "reinforce mean": (REINFORCE, REINFORCEConfig, {"baseline": "mean"}),
    "reinforce learned": (REINFORCE, REINFORCEConfig, {"baseline": "learned"}),
    "vtrace": (VTrace, VTraceConfig, {"policy_lag": 2}),
    "npg": (NPG, NPGConfig, {"num_critic_updates": 2}),
    "trpo": (TRPO, TRPOConfig, {"num_critic_updates": 2}),
}
every_agent = pytest.mark.parametrize("kind", AGENTS)


def make(kind, **more):
    agent, config, options = AGENTS[kind]
    return small_agent(agent, config, **options | more)


def test_the_losses_of_actor_and_critic_are_those_of_their_definitions():
    """The policy is weighed by advantages, the value is drawn to the targets; every number is different."""
    random = torch.Generator().manual_seed(0)
    logits, (advantage, target, value, old) = (
        torch.randn(*shape, generator=random, dtype=torch.float64) for shape in ((5, 3), (4, 5))
    )
    action = torch.tensor([0, 2, 1, 1, 0])
    batch = Batch(obs=logits, action=action, log_prob=old, advantage=advantage, value=old, target=target)
    losses, _ = actor_critic_loss(lambda obs: (Categorical(obs), value), batch, 0.7, 0.03)
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    chosen = torch.stack([row[a] for row, a in zip(p, action, strict=True)])
    expected = {
        "policy": -(advantage * chosen.log()).sum() / 5,
        "value": 0.7 * 0.5 * (value - target).square().sum() / 5,
        "entropy": 0.03 * (p * p.log()).sum() / 5,
    }
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected.pop(name))
    assert not expected


@every_agent
def test_updates_follow_from_the_seed_alone_and_report_detached_scalars(kind):
    first, second = make(kind), make(kind)
    before, start = torch.get_rng_state(), parameters(first)
    for agent in (first, second):
        for step in range(3):
            metrics = agent.update(small_rollout(seed=step), step / 3)
            assert all(value.dim() == 0 and not value.requires_grad for value in metrics.values())
            assert all(torch.isfinite(value) for value in metrics.values())
    assert all(map(torch.equal, parameters(first), parameters(second)))
    assert not all(map(torch.equal, parameters(first), start))
    assert torch.equal(torch.get_rng_state(), before)


@every_agent
def test_what_stands_in_invalid_places_has_no_influence(kind):
    results = []
    for filler in (0.0, 1e6):
        agent = make(kind)
        data = small_rollout(invalid=[(2, 1), (5, 3)])
        # As under NEXT_STEP: the step before an invalid one ended an episode.
        data.terminated[1, 1], data.truncated[4, 3] = True, True
        data.reward[2, 1] = data.reward[5, 3] = filler
        data.action[2, 1] = int(filler > 0)
        metrics = agent.update(data, 0.0)
        results.append((parameters(agent), metrics))
    assert all(map(torch.equal, results[0][0], results[1][0]))
    assert results[0][1] == results[1][1]


@every_agent
def test_a_gaussian_policy_learns_too_and_a_clipper_is_applied(kind):
    agent = make(kind, model=small_model(BOX), clipper=GlobalNorm(max_norm=1e-3))
    start = parameters(agent)
    agent.update(small_rollout(action=BOX), 0.0)
    assert not all(map(torch.equal, parameters(agent), start))
    last = agent.gradient_steps[-1].monitor.drain()
    (name,) = [tag for tag in last if tag.endswith("gradient/norm_clipped")]
    assert last[name] <= 1.001e-3


@every_agent
def test_the_schedule_sets_the_learning_rate(kind):
    agent = make(kind, schedule=Linear(final=0.0))
    metrics = agent.update(small_rollout(), 0.75)
    rate = metrics.get("policy/lr", metrics.get("critic/lr"))
    assert rate.item() == pytest.approx(0.25e-2)
    assert agent.gradient_steps[-1].optimizer.param_groups[0]["lr"] == pytest.approx(0.25e-2)


@every_agent
def test_the_objectives_are_the_losses_of_the_last_rollout(kind):
    agent = make(kind)
    assert agent.objectives() == []
    observed = make(kind)
    observed.observe(small_rollout())
    metrics = agent.update(small_rollout(), 0.0)
    first, *others = observed.objectives()
    names = [step.names for step in observed.gradient_steps]
    assert [objective.names for objective, _ in (first, *others)] == names
    expected = metrics["loss/policy"]
    if not others:  # one step moves all: its loss has every term
        cfg = agent.cfg
        expected = expected + cfg.value_coef * metrics.get("loss/value", 0.0)
        expected = expected + cfg.entropy_coef * metrics["loss/entropy"]
    torch.testing.assert_close(first[0]().detach(), expected)
    gradients = torch.autograd.grad(first[0](), first[0].parameters)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


@every_agent
def test_the_policy_improves_on_a_bandit(kind):
    lr = {"lr": 0.05} if kind not in ("npg", "trpo") else {"max_kl": 0.05}
    agent = make(kind, **lr)
    actor = agent.make_actor(np.random.default_rng(0))
    zeros, obs = torch.zeros(8, 4, dtype=torch.bool), torch.ones(9, 4, 3)
    for _ in range(25):
        actor.begin(4)
        action = torch.stack([torch.from_numpy(actor(obs[0].numpy(), zeros[0].numpy())) for _ in obs[1:]])
        data = Rollout(
            obs=obs,
            action=action,
            reward=action.float(),
            terminated=~zeros,
            truncated=zeros,
            valid=~zeros,
            num_valid=32,
            final_index=torch.zeros(0, dtype=torch.int64),
            final_obs=torch.zeros(0, 3),
            terminal_index=torch.zeros(0, dtype=torch.int64),
            terminal_obs=torch.zeros(0, 3),
            episode_start=torch.ones(9, 4, dtype=torch.bool),
            recurrent_state=torch.zeros(4, 0),
        )
        agent.update(data, 0.0)
    assert agent.model.policy(obs[0]).log_prob(torch.ones(4, dtype=torch.int64)).exp().min() > 0.9


@pytest.mark.parametrize("config", [A2CConfig, REINFORCEConfig, VTraceConfig, NPGConfig, TRPOConfig])
def test_options_out_of_range_are_refused_by_name_and_value(config):
    wrong = {
        "num_steps": 0,
        "gamma": 1.01,
        "gae_lambda": float("nan"),
        "value_coef": -1.0,
        "entropy_coef": float("inf"),
        "baseline": "best",
        "policy_lag": 0,
        "rho_bar": 0.0,
        "c_bar": 1.5,
        "max_kl": 0.0,
        "kl_schedule": "cosine",
        "cg_iterations": 0,
        "cg_damping": -0.1,
        "num_critic_updates": 0,
        "num_minibatches": 0,
        "line_search_steps": 0,
        "line_search_shrink": 1.0,
    }
    names = [name for name in config.__dataclass_fields__ if name not in ("normalize_advantage",)]
    for name in names:
        with pytest.raises(ValueError, match=f"^{name} must be .*, got {wrong[name]!r}$"):
            config(**{name: wrong[name]})


def test_the_critic_of_a_natural_gradient_needs_equal_minibatches():
    NPGConfig(num_steps=6, num_minibatches=4).minibatches(num_envs=2)
    with pytest.raises(ValueError, match=r"agent.num_minibatches must be a divisor of .* 6 \* 3 = 18, got 4"):
        NPGConfig(num_steps=6, num_minibatches=4).minibatches(num_envs=3)
