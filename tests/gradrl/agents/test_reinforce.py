import itertools

import pytest
import torch

from gradrl.agents.reinforce import REINFORCE, REINFORCEConfig
from gradrl.experience.rollout import Rollout
from gradrl.returns import discounted_return
from tests.gradrl.small import in_float64, parameters, small_agent, small_model, small_rollout

STEPS = 3
REWARD = torch.tensor([[1.0, 2.0], [-1.0, 0.5], [3.0, -2.0]])  # by step and action


def make(**options):
    return small_agent(REINFORCE, REINFORCEConfig, **options)


def played(actions, *, ends):
    """The rollout of these actions; action 1 at the first step ends the episode, and a new one begins."""
    first = torch.tensor([1.0, 0.0, 0.0])
    obs = [first]
    for t, action in enumerate(actions):
        obs.append(first if t == 0 and action else torch.tensor([0.5 * action, t + 1.0, -1.0]))
    terminated = torch.zeros(STEPS, 1, dtype=torch.bool)
    terminated[0, 0], terminated[-1, 0] = bool(actions[0]), ends
    reward = torch.stack([REWARD[t, a] for t, a in enumerate(actions)])
    return in_float64(
        Rollout(
            obs=torch.stack(obs)[:, None],
            action=torch.tensor(actions)[:, None],
            reward=reward[:, None],
            terminated=terminated,
            truncated=torch.zeros_like(terminated),
            valid=torch.ones_like(terminated),
            num_valid=STEPS,
            final_index=torch.zeros(0, dtype=torch.int64),
            final_obs=torch.zeros(0, 3),
            terminal_index=torch.zeros(0, dtype=torch.int64),
            terminal_obs=torch.zeros(0, 3),
            episode_start=torch.zeros(STEPS + 1, 1, dtype=torch.bool),
            recurrent_state=torch.zeros(1, 0),
        )
    )


@pytest.mark.parametrize(("baseline", "ends"), [("none", True), ("none", False), ("learned", True)])
def test_the_expected_step_is_the_gradient_of_the_expected_reward_of_the_episodes(baseline, ends):
    """Enumerates every course of three steps; without a critic it holds whether or not the cut is an end.

    A second episode begins at t = 1 with probability pi(1|s_0), of which there is no gradient.
    """
    agent = make(baseline=baseline, gamma=1.0, value_coef=0.0, model=small_model().double())
    actor = list(agent.model.actor.parameters())
    expected = torch.zeros((), dtype=torch.float64)
    mean_step = [torch.zeros_like(p) for p in actor]
    for actions in itertools.product((0, 1), repeat=STEPS):
        data = played(actions, ends=ends)
        log_prob = agent.model.policy(data.obs[:-1, 0]).log_prob(data.action[:, 0])
        chance, reward = log_prob.sum().exp(), data.reward[:, 0]
        first = reward[0] if actions[0] else reward.sum()
        expected = expected + chance * first
        if actions[0]:
            expected = expected + log_prob[0].exp().detach() * log_prob[1:].sum().exp() * reward[1:].sum()
        losses, _ = agent.loss(agent.observe(data))
        step = torch.autograd.grad(losses["policy"], actor)
        for mean, part in zip(mean_step, step, strict=True):
            mean -= chance.item() * part
    for ours, exact in zip(mean_step, torch.autograd.grad(expected, actor), strict=True):
        torch.testing.assert_close(ours * STEPS, exact)


def test_the_three_baselines_differ_in_what_they_subtract():
    data = small_rollout(invalid=[(2, 1)])
    data.terminated[1, 1] = True
    valid, cfg = data.valid.flatten(), {"gamma": 0.9}
    ends = data.terminated, data.truncated
    plain = discounted_return(data.reward, torch.zeros_like(data.reward), *ends, 0.9).flatten()[valid]
    torch.testing.assert_close(make(baseline="none", **cfg).observe(data).advantage, plain)
    torch.testing.assert_close(make(baseline="mean", **cfg).observe(data).advantage, plain - plain.mean())
    agent = make(baseline="learned", **cfg)
    batch = agent.observe(data)
    with torch.no_grad():
        value = agent.model.value(data.obs)
        next_value = data.next_value(value, agent.model.value(data.final_obs))
    continued = discounted_return(data.reward, next_value, *ends, 0.9)
    torch.testing.assert_close(batch.target, continued.flatten()[valid])
    torch.testing.assert_close(batch.advantage, (continued - value[:-1]).flatten()[valid])


@pytest.mark.parametrize("baseline", ["none", "mean"])
def test_without_a_learned_baseline_the_critic_is_left_alone(baseline):
    agent = make(baseline=baseline)
    before = parameters(agent)
    metrics = agent.update(small_rollout(), 0.0)
    named = zip(agent.model.named_parameters(), before, strict=True)
    assert {name.split(".")[0] for (name, p), old in named if torch.equal(p, old)} == {"critic"}
    assert "loss/value" not in metrics
    assert not any(name.startswith("critic") for name in agent.gradient_step.names)
