"""PPO with an adaptive KL penalty."""

import copy
import math

import pytest
import torch

from gradrl.agents.ppo_kl import PPOKL, PPOKLConfig, adapted_kl_coef
from tests.gradrl.small import BOX, DISCRETE, small_agent, small_model, small_rollout


def agent(action=DISCRETE, **options):
    options = {"num_epochs": 2, "num_minibatches": 4} | options
    return small_agent(PPOKL, PPOKLConfig, model=small_model(action), **options)


@pytest.mark.parametrize(
    ("kl", "factor"),
    [
        (0.0, 0.5),
        (0.0066, 0.5),
        (0.0067, 1),
        (0.01, 1),
        (0.0149, 1),
        (0.0151, 2),
        (math.nan, 2),
        (math.inf, 2),
    ],
)
def test_the_weight_follows_the_papers_rule(kl, factor):
    assert adapted_kl_coef(torch.tensor(3.0), torch.tensor(kl), 0.01).item() == 3.0 * factor


def test_the_weight_stays_within_bounds():
    assert adapted_kl_coef(torch.tensor(1e-6), torch.tensor(0.0), 0.01).item() == pytest.approx(1e-6)
    assert adapted_kl_coef(torch.tensor(1e6), torch.tensor(1.0), 0.01).item() == pytest.approx(1e6)


@pytest.mark.parametrize("action", [DISCRETE, BOX], ids=["discrete", "box"])
def test_the_loss_is_equation_8_in_float64(action):
    learner = agent(action, kl_coef=0.7, normalize_advantage=False, value_coef=0.3, entropy_coef=0.1)
    batch, _ = learner.observe(small_rollout(action=action))
    before = copy.deepcopy(learner.model).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in learner.model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
    losses, _ = learner.loss(batch)
    after = copy.deepcopy(learner.model).double()
    old, new = (distribution(m, batch.obs.double(), action) for m in (before, after))
    ratio = (new.log_prob(batch.action) - old.log_prob(batch.action)).exp()
    divergence = torch.distributions.kl_divergence(old, new)
    value = after.value(batch.obs.double())
    expected = {
        "policy": -(ratio * batch.advantage).mean(),
        "kl": 0.7 * divergence.mean(),
        "value": 0.15 * (value - batch.target).square().mean(),
        "entropy": -0.1 * new.entropy().mean(),
    }
    assert set(losses) == set(expected)
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[name].item(), rel=1e-4), name
    assert expected["kl"] > 1e-3


def distribution(model, obs, action):
    if action is DISCRETE:
        return torch.distributions.Categorical(logits=model.actor(obs))
    normal = torch.distributions.Normal(model.actor(obs), model.log_std.exp())
    return torch.distributions.Independent(normal, 1)


def test_a_heavy_penalty_holds_the_policy_and_lightens_a_light_one_lets_it_go_and_grows():
    # 1e-3: at larger rates the penalty's own gradient overshoots.
    held = agent(kl_coef=1e3, num_epochs=10, target_kl=0.01, lr=1e-3).update(small_rollout(), 0.0)
    free = agent(kl_coef=1e-6, num_epochs=10, target_kl=0.01, lr=1e-2)
    moved = free.update(small_rollout(), 0.0)
    assert held["policy/kl"] < 1e-3 < 0.015 < moved["policy/kl"]
    assert moved["policy/kl_coef"].item() == pytest.approx(1e-6)
    assert free.kl_coef.item() == pytest.approx(2e-6)


def test_the_weight_goes_on_from_its_state():
    first = agent(kl_coef=4.0, target_kl=10.0)
    first.update(small_rollout(), 0.0)
    second = agent()
    second.load_state_dict(first.state_dict())
    assert second.update(small_rollout(), 0.0)["policy/kl_coef"] == 2.0


def test_what_stands_in_invalid_places_has_no_influence_on_the_update():
    results = []
    for filler in (0.0, 1e6):
        learner = agent()
        data = small_rollout(invalid=[(2, 1)])
        data.terminated[1, 1] = True
        data.reward[2, 1] = filler
        results.append((learner.update(data, 0.0), [p.detach().clone() for p in learner.model.parameters()]))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))


def test_probes_see_the_loss_that_is_descended():
    learner = agent()
    assert learner.objectives() == []
    batch, _ = learner.observe(small_rollout())
    ((objective, _),) = learner.objectives()
    losses, _ = learner.loss(learner.normalized(batch))
    torch.testing.assert_close(objective(), torch.stack([*losses.values()]).sum())


@pytest.mark.parametrize(
    ("name", "value"), [("target_kl", 0.0), ("kl_coef", -1.0), ("num_epochs", 0), ("gamma", 2.0)]
)
def test_options_out_of_range_are_refused_by_name_and_value(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*, got {value!r}$"):
        PPOKLConfig(**{name: value})
