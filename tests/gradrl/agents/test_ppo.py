import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from gymnasium import spaces

import core
import gradrl
from core.config import Component
from core.gradients import GlobalNorm
from core.optim.schedules import Constant, KLAdaptive, Linear
from gradrl.agent import Learning
from gradrl.agents.ppo import PPO, PPOConfig
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import DiscreteAction
from gradrl.experience.rollout import Rollout
from gradrl.policies.networks import ActorCritic, MLPConfig

ADAM = Component(torch.optim.Adam, {"lr": 1e-2}, "optimizer")


def make(clipper=None, schedule=None, **options):
    cfg = PPOConfig(**{"num_steps": 8, "num_epochs": 2, "num_minibatches": 4} | options)
    model = ActorCritic(
        MLPConfig(hidden_sizes=(8,)),
        Observation(spaces.Box(-1, 1, (3,))),
        DiscreteAction(2, 0),
        torch.Generator().manual_seed(0),
    )
    return PPO(
        cfg,
        model,
        Learning(optimizer=ADAM, clipper=clipper, schedule=schedule or Constant()),
        torch.Generator().manual_seed(1),
    )


def rollout(t=8, n=4, seed=0, invalid=()):
    g = torch.Generator().manual_seed(seed)
    valid = torch.ones(t, n, dtype=torch.bool)
    for place in invalid:
        valid[place] = False
    return Rollout(
        obs=torch.randn(t + 1, n, 3, generator=g),
        action=torch.randint(2, (t, n), generator=g),
        reward=torch.randn(t, n, generator=g),
        terminated=torch.rand(t, n, generator=g) < 0.1,
        truncated=torch.rand(t, n, generator=g) < 0.1,
        valid=valid,
        num_valid=int(valid.sum()),
        final_index=torch.tensor([5]),
        final_obs=torch.randn(1, 3, generator=g),
        terminal_index=torch.zeros(0, dtype=torch.int64),
        terminal_obs=torch.zeros(0, 3),
        episode_start=torch.zeros(t + 1, n, dtype=torch.bool),
        recurrent_state=torch.zeros(n, 0),
    )


def parameters(agent):
    return [p.detach().clone() for p in agent.model.parameters()]


def test_before_the_first_step_the_ratio_is_one_and_the_loss_is_minus_the_mean_advantage():
    agent = make(normalize_advantage=False)
    batch = agent.observe(rollout())[0]
    losses, metrics = agent.loss(agent.normalized(batch))
    assert losses["policy"].item() == pytest.approx(-batch.advantage.mean().item(), abs=1e-6)
    assert metrics["policy/approx_kl"].item() == pytest.approx(0.0, abs=1e-6)
    assert metrics["policy/ratio_max"].item() == pytest.approx(1.0, abs=1e-6)
    assert metrics["policy/clip_fraction"] == 0.0


def test_the_first_policy_gradient_is_that_of_reinforce_with_the_same_advantages():
    agent = make(normalize_advantage=False)
    batch = agent.observe(rollout())[0]
    losses, _ = agent.loss(agent.normalized(batch))
    actor = list(agent.model.actor.parameters())
    ours = torch.autograd.grad(losses["policy"], actor)
    log_prob = torch.distributions.Categorical(logits=agent.model.actor(batch.obs)).log_prob(batch.action)
    theirs = torch.autograd.grad(-(log_prob * batch.advantage).mean(), actor)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_targets_are_advantage_plus_value_and_carry_no_gradient():
    agent = make()
    batch = agent.observe(rollout())[0]
    torch.testing.assert_close(batch.target, batch.advantage + batch.value)
    assert not any(getattr(batch, f.name).requires_grad for f in dataclasses.fields(batch))
    with torch.no_grad():
        torch.testing.assert_close(batch.value, agent.model.value(batch.obs))


def test_the_value_at_a_truncation_is_that_of_the_final_observation():
    agent = make(gamma=0.5)
    data = rollout()
    row, column = divmod(5, 4)
    data.truncated[row, column], data.terminated[row, column] = True, False
    batch = agent.observe(data)[0]
    with torch.no_grad():
        expected = data.reward[row, column] + 0.5 * agent.model.value(data.final_obs)[0] - batch.value[5]
    torch.testing.assert_close(batch.advantage[5], expected)


def test_what_stands_in_invalid_places_has_no_influence_on_the_update():
    results = []
    for filler in (0.0, 1e6):
        agent = make()
        data = rollout(invalid=[(2, 1), (5, 3)])
        # As under NEXT_STEP: the step before an invalid one ended an episode.
        data.terminated[1, 1], data.truncated[4, 3] = True, True
        data.reward[2, 1] = data.reward[5, 3] = filler
        data.action[2, 1] = int(filler > 0)
        metrics = agent.update(data, 0.0)
        results.append((parameters(agent), metrics))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        assert torch.equal(a, b)
    assert results[0][1] == results[1][1]


def test_an_update_reports_every_curve_as_a_scalar_and_takes_every_step():
    agent = make(GlobalNorm(max_norm=0.5), entropy_coef=0.01, value_clip_coef=0.2)
    metrics = agent.update(rollout(), 0.0)
    assert agent.gradient_step.monitor.steps == 8
    assert set(metrics) == {
        "loss/policy",
        "loss/value",
        "loss/entropy",
        "policy/entropy",
        "policy/approx_kl",
        "policy/clip_fraction",
        "policy/ratio_max",
        "policy/ratio_min",
        "policy/advantage_std",
        "policy/explained_variance",
        "policy/lr",
        "policy/clip_coef",
        "policy/epochs",
    }
    assert all(value.dim() == 0 and not value.requires_grad for value in metrics.values())
    assert metrics["policy/epochs"] == 2.0
    assert metrics["loss/entropy"] == -metrics["policy/entropy"]


def test_updates_are_a_function_of_the_generators_seed():
    first, second = make(), make()
    before = torch.get_rng_state()
    for agent in (first, second):
        for step in range(3):
            agent.update(rollout(seed=step), step / 3)
    assert all(torch.equal(a, b) for a, b in zip(parameters(first), parameters(second), strict=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_schedules_drive_learning_rate_and_clip_coefficient():
    agent = make(schedule=Linear(final=0.0), clip_coef=0.4, clip_schedule="linear")
    metrics = agent.update(rollout(), 0.75)
    assert metrics["policy/lr"].item() == pytest.approx(0.25e-2)
    assert metrics["policy/clip_coef"].item() == pytest.approx(0.1)
    assert agent.gradient_step.optimizer.param_groups[0]["lr"] == pytest.approx(0.25e-2)
    assert make(clip_coef=0.4).update(rollout(), 0.75)["policy/clip_coef"].item() == pytest.approx(0.4)


def test_a_schedule_follows_the_measured_kl_and_goes_on_from_its_state():
    slow = KLAdaptive(metric="policy/approx_kl", target=1e-9, factor=2.0, smallest=0.1, largest=1.0)
    agent = make(schedule=slow)
    rates = [agent.update(rollout(seed=i), 0.0)["policy/lr"].item() for i in range(3)]
    assert rates == pytest.approx([1e-2, 5e-3, 2.5e-3])
    resumed = make(schedule=slow)
    resumed.load_state_dict(agent.state_dict())
    assert resumed.update(rollout(), 0.0)["policy/lr"].item() == pytest.approx(1.25e-3)


def test_epochs_stop_once_the_policy_has_moved_too_far():
    assert make(num_epochs=10, target_kl=1e-6).update(rollout(), 0.0)["policy/epochs"] == 1.0
    assert make(num_epochs=10, target_kl=1e6).update(rollout(), 0.0)["policy/epochs"] == 10.0


def test_epochs_stop_by_the_mean_divergence_of_the_last_epoch_alone():
    agent = make(num_epochs=5, target_kl=0.1)
    # The first epoch's last minibatch is above the target, its mean is not. The second epoch's mean is, by
    # little, and the mean of both epochs is not.
    measured = iter([0.0, 0.0, 0.0, 0.3, 0.12, 0.12, 0.12, 0.12, *[0.0] * 12])
    agent.update_minibatch = lambda batch: {"policy/approx_kl": torch.tensor(next(measured))}
    assert agent.update(rollout(), 0.0)["policy/epochs"] == 2


def test_a_value_gains_nothing_by_leaving_the_interval_around_the_old_one():
    agent = make(value_clip_coef=0.1, value_coef=3.0)
    batch = agent.observe(rollout())[0]
    batch = dataclasses.replace(batch, value=batch.value + torch.linspace(-0.5, 0.5, len(batch)))
    losses, _ = agent.loss(batch)
    terms = []
    for now, old, target in zip(
        agent.model.value(batch.obs).tolist(), batch.value.tolist(), batch.target.tolist(), strict=True
    ):
        clipped = old + min(max(now - old, -0.1), 0.1)
        terms.append(max((now - target) ** 2, (clipped - target) ** 2))
    assert losses["value"].item() == pytest.approx(3.0 * sum(terms) / len(terms) / 2, rel=1e-5)
    plain = sum(
        (v - t) ** 2
        for v, t in zip(agent.model.value(batch.obs).tolist(), batch.target.tolist(), strict=True)
    )
    assert losses["value"].item() > 3.0 * plain / len(terms) / 2 * 1.01


def test_the_loss_clips_at_the_scheduled_coefficient():
    agent = make(clip_coef=0.4, clip_schedule="linear", normalize_advantage=False, num_epochs=1)
    agent.update(rollout(), 0.75)
    batch = agent.observe(rollout())[0]
    shifts = torch.linspace(-0.5, 0.5, len(batch))
    losses, metrics = agent.loss(dataclasses.replace(batch, log_prob=batch.log_prob - shifts))
    ratio, advantage = shifts.double().exp(), batch.advantage.double()
    clipped = ratio.clamp(0.9, 1.1)
    assert losses["policy"].item() == pytest.approx(
        -torch.minimum(ratio * advantage, clipped * advantage).mean().item(), rel=1e-4
    )
    assert metrics["policy/clip_fraction"].item() == pytest.approx((ratio != clipped).double().mean().item())


def test_without_the_entropy_bonus_its_gradient_is_not_computed():
    batch, _ = make().observe(rollout())
    assert set(make().loss(batch)[0]) == {"policy", "value"}
    losses, metrics = make(entropy_coef=0.5).loss(batch)
    assert losses["entropy"].item() == pytest.approx(-0.5 * metrics["policy/entropy"].item())


def test_the_policy_improves_on_a_bandit():
    agent = make(num_epochs=4)
    zeros = torch.zeros(8, 4, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    obs = torch.ones(9, 4, 3)
    for _ in range(20):
        with torch.no_grad():
            action = agent.model.policy(obs[:-1].flatten(0, 1)).sample(generator).view(8, 4)
        agent.update(
            Rollout(
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
            ),
            0.0,
        )
    assert agent.model.policy(obs[0]).log_prob(torch.ones(4, dtype=torch.int64)).exp().min() > 0.95


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_steps", 0),
        ("num_epochs", -1),
        ("num_minibatches", 0),
        ("gamma", 1.01),
        ("gamma", float("nan")),
        ("gae_lambda", -0.1),
        ("clip_coef", 0.0),
        ("clip_coef", 1.0),
        ("clip_coef", float("nan")),
        ("clip_schedule", "cosine"),
        ("value_coef", -1.0),
        ("entropy_coef", float("inf")),
        ("target_kl", 0.0),
        ("value_clip_coef", float("nan")),
    ],
)
def test_options_out_of_range_are_refused_by_name_and_value(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*, got {value!r}$"):
        PPOConfig(**{name: value})


def test_minibatches_must_divide_the_rollout():
    PPOConfig(num_steps=6, num_minibatches=4).minibatches(num_envs=2)
    with pytest.raises(ValueError, match=r"agent.num_minibatches must be a divisor of .* 6 \* 3 = 18, got 4"):
        PPOConfig(num_steps=6, num_minibatches=4).minibatches(num_envs=3)


@pytest.mark.parametrize("value_clip_coef", [None, 0.1])
def test_recomputed_advantages_leave_the_values_from_before_the_update_as_they_are(value_clip_coef):
    options = {"recompute_advantage": True, "value_clip_coef": value_clip_coef}
    agent = make(num_epochs=3, num_minibatches=2, **options)
    data = rollout()
    first = make().observe(data)[0]
    seen, update = [], agent.update_minibatch
    agent.update_minibatch = lambda batch: seen.append(batch) or update(batch)
    metrics = agent.update(data, 0.0)
    for epoch in (seen[:2], seen[2:4], seen[4:]):
        assert torch.equal(torch.cat([b.value for b in epoch]).sort()[0], first.value.sort()[0])
    targets = [torch.cat([b.target for b in seen[i : i + 2]]).sort()[0] for i in (0, 2, 4)]
    assert torch.equal(targets[0], first.target.sort()[0])
    assert (targets[1] - targets[0]).abs().max() > 1e-4
    expected = 1 - (first.target - first.value).var(correction=0) / first.target.var(correction=0)
    assert metrics["policy/explained_variance"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_an_update_is_read_in_few_files():
    agent = make(GlobalNorm(max_norm=0.5), recompute_advantage=True, target_kl=1.0, entropy_coef=0.01)
    folders = {"core": Path(core.__path__[0]), "gradrl": Path(gradrl.__path__[0])}
    entered: dict[str, set[str]] = {name: set() for name in folders}

    def note(frame, event, _):
        for name, folder in folders.items():
            if event == "call" and Path(frame.f_code.co_filename).is_relative_to(folder):
                entered[name].add(str(Path(frame.f_code.co_filename).relative_to(folder)))

    sys.setprofile(note)
    try:
        for i in range(3):
            agent.update(rollout(seed=i), i / 3)
    finally:
        sys.setprofile(None)
    assert entered["gradrl"] == {
        "agents/ppo.py",
        "experience/rollout.py",
        "returns.py",
        "losses.py",
        "policies/networks.py",
        "policies/distributions.py",
    }
    assert sum(map(len, entered.values())) <= 12, sorted(entered["core"])
