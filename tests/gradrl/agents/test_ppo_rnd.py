"""A reward for novelty."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces

from core.config import Component
from core.optim.schedules import Constant
from gradrl.agent import Learning
from gradrl.agents.novelty import CLIP, Curiosity, NoveltyActorCritic, NoveltyConfig
from gradrl.agents.ppo_rnd import PPORND, PPORNDConfig
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.experience.normalize import RewardNormalizer
from tests.gradrl.small import small_rollout

SPACE = spaces.Box(-1, 1, (3,))


def model(space=SPACE, **options):
    cfg = NoveltyConfig(**{"hidden_sizes": (8,), "orthogonal": False, "embedding_size": 4} | options)
    action = action_decoder(spaces.Discrete(2))
    return NoveltyActorCritic(cfg, Observation(space), action, torch.Generator().manual_seed(0))


def agent(net=None, lr=1e-2, **options):
    cfg = PPORNDConfig(**{"num_steps": 8, "num_epochs": 2, "num_minibatches": 4} | options)
    adam = Component(torch.optim.Adam, {"lr": lr}, "optimizer")
    return PPORND(
        cfg,
        net or model(),
        Learning(optimizer=adam, clipper=None, schedule=Constant()),
        torch.Generator().manual_seed(1),
    )


def test_novelty_is_the_mean_squared_error_of_the_prediction():
    net = model()
    rows = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        error = net.predictor.double()(rows.double()) - net.target.double()(rows.double())
    expected = [sum(e**2 for e in row) / 4 for row in error.tolist()]
    assert net.novelty(rows.double()).tolist() == pytest.approx(expected)


def test_what_is_seen_again_becomes_dull_and_what_is_not_less_so():
    learner = agent(model(novelty_sizes=(32,), embedding_size=16), novelty_epochs=20)
    rollout = small_rollout()
    learner.observe(rollout)
    seen, elsewhere = learner.seen.flatten(0, 1), 3 + learner.seen.flatten(0, 1)
    before = [learner.model.novelty(rows).mean().item() for rows in (seen, elsewhere)]
    target = [p.clone() for p in learner.model.target.parameters()]
    actor = [p.clone() for p in learner.model.actor_critic.parameters()]
    learner.update_novelty(rollout.valid.flatten(), rollout.num_valid)
    after = [learner.model.novelty(rows).mean().item() for rows in (seen, elsewhere)]
    assert after[0] < 0.2 * before[0]
    assert after[1] / after[0] > 4 * before[1] / before[0]
    for fixed, now in ((target, learner.model.target), (actor, learner.model.actor_critic)):
        assert all(torch.equal(a, b) for a, b in zip(fixed, now.parameters(), strict=True))


def test_the_policy_learns_without_moving_what_measures_novelty():
    learner = agent()
    learner.update_novelty = lambda *_: torch.tensor(0.0)
    fixed = {
        n: p.clone() for n, p in learner.model.named_parameters() if n.startswith(("predictor", "target"))
    }
    learner.update(small_rollout(), 0.0)
    now = dict(learner.model.named_parameters())
    assert all(torch.equal(now[name], p) for name, p in fixed.items())
    step = learner.gradient_step
    assert not {n for n in step.names if n.startswith(("predictor", "target"))}
    assert {n.partition(".")[0] for n in step.names} == {"actor_critic", "intrinsic_critic"}


def test_the_reward_is_novelty_of_what_a_step_led_to_over_the_deviation_of_its_discounted_sum():
    net = model()
    curiosity = Curiosity(net, gamma=0.9)
    data = dataclasses.replace(
        small_rollout(invalid=[(2, 1)]), terminal_index=torch.tensor([8]), terminal_obs=torch.ones(1, 3)
    )
    rows = curiosity.rows(data)
    led_to = data.obs[1:].clone()
    led_to[1, 1] = data.final_obs[0]  # step 5 of 4 environments: t = 1, n = 1
    led_to[2, 0] = 1.0
    valid = led_to[data.valid].double()
    mean, deviation = valid.mean(0), valid.std(0, correction=0)
    torch.testing.assert_close(rows.double(), ((led_to.double() - mean) / deviation).clamp(-CLIP, CLIP))
    with torch.no_grad():
        novelty = net.novelty(rows.flatten(0, 1)).view(8, 4).double()
    novelty[2, 1] = 0
    sums, running = [], torch.zeros(4).double()
    for t in range(8):  # through the ends of episodes
        running = torch.where(data.valid[t], 0.9 * running + novelty[t], running)
        sums.append(running[data.valid[t]])
    reward = curiosity.reward(data, rows)
    assert (data.terminated | data.truncated).any()
    torch.testing.assert_close(
        reward.double(), novelty / torch.cat(sums).std(correction=0), rtol=1e-5, atol=1e-6
    )


def test_an_outlier_is_seen_at_five_deviations():
    """One that differs from 31 equal ones is sqrt(31) = 5.57 deviations away from the mean."""
    obs = torch.zeros(9, 4, 3)
    obs[5, 2, 0] = 1.0
    none = {"final_index": torch.empty(0, dtype=torch.int64), "final_obs": obs[0, :0]}
    rows = Curiosity(model(), 0.9).rows(dataclasses.replace(small_rollout(), obs=obs, **none))
    assert rows[4, 2, 0] == CLIP == 5.0


def test_an_element_that_is_an_image_reaches_the_network_normalised_once():
    picture = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    net = model(picture)
    generator = np.random.default_rng(0)
    obs = torch.from_numpy(generator.integers(0, 256, (9, 4, 36 * 36), dtype=np.uint8))
    data = dataclasses.replace(small_rollout(), obs=obs, final_obs=obs[0, :1], terminal_obs=obs[0, :0])
    rows = Curiosity(net, 0.9).rows(data)
    assert rows.std().item() == pytest.approx(255, rel=0.02)
    assert net.novelty(rows.flatten(0, 1)).shape == (32,)


def test_advantages_are_weighted_sums_and_only_novelty_goes_on_through_the_end_of_an_episode():
    data = small_rollout()
    found = {}
    for name, coefficients in {"both": (2, 3), "environment": (1, 0), "novelty": (0, 1)}.items():
        options = dict(zip(("extrinsic_coef", "intrinsic_coef"), coefficients, strict=True))
        learner = agent(gamma=0.5, intrinsic_gamma=0.8, gae_lambda=0.0, **options)
        found[name], _ = learner.observe(data)
    both = 2 * found["environment"].advantage + 3 * found["novelty"].advantage
    torch.testing.assert_close(found["both"].advantage, both)
    with torch.no_grad():
        value = learner.model.value(data.obs)
        final = learner.model.value(data.final_obs)[0, 0]
    following = value[1:, :, 0] * ~data.terminated
    following[1, 1] = final
    expected = data.reward + 0.5 * following - value[:-1, :, 0]
    torch.testing.assert_close(found["environment"].advantage.view(8, 4), expected)
    expected = learner.intrinsic_reward + 0.8 * value[1:, :, 1] - value[:-1, :, 1]
    torch.testing.assert_close(found["novelty"].advantage.view(8, 4), expected)
    assert data.terminated.any()


def test_an_update_reports_both_critics_and_goes_on_from_its_state():
    first = agent()
    metrics = first.update(small_rollout(invalid=[(2, 1)]), 0.0)
    assert metrics.keys() >= {"novelty/reward", "novelty/explained_variance", "loss/novelty", "loss/value"}
    used, valid = agent().observe(small_rollout(invalid=[(2, 1)]))  # by the same networks, before they learn
    assert int(valid.sum()) == len(valid) - 1
    torch.testing.assert_close(metrics["policy/advantage_std"], used.advantage[valid].std(correction=0))
    assert all(value.dim() == 0 and not value.requires_grad for value in metrics.values())
    second = agent()
    second.model.load_state_dict(first.model.state_dict())
    second.generator.set_state(first.generator.get_state())
    second.load_state_dict(first.state_dict())
    for a, b in zip(first.gradient_steps, second.gradient_steps, strict=True):
        b.load_state_dict(copy.deepcopy(a.state_dict()))
    metrics = [learner.update(small_rollout(seed=1), 0.5) for learner in (first, second)]
    assert metrics[0] == metrics[1]


def test_probes_see_the_loss_that_is_descended():
    learner = agent()
    assert learner.objectives() == []
    batch, _ = learner.observe(small_rollout())
    ((objective, step),) = learner.objectives()
    losses, _ = learner.loss(learner.normalized(batch))
    torch.testing.assert_close(objective(), torch.stack([*losses.values()]).sum())
    assert step is learner.gradient_step


def test_the_predictor_learns_from_its_share_of_the_rollout():
    learner = agent(novelty_share=0.25)
    learner.observe(small_rollout())
    sizes = []
    learner.novelty_loss = lambda rows: (sizes.append(len(rows)), PPORND.novelty_loss(learner, rows))[1]
    learner.update_novelty(torch.ones(32, dtype=torch.bool), 32)
    assert sizes == [2] * 4


def test_the_scale_is_that_of_rewards_without_episodes():
    curiosity = Curiosity(model(), 0.9)
    data = small_rollout()
    curiosity.reward(data, curiosity.rows(data))
    assert isinstance(curiosity.scale, RewardNormalizer)
    assert (curiosity.scale.running > 0).all()  # a sum that had ended with an episode would be 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("intrinsic_gamma", 1.0), ("intrinsic_coef", -1.0), ("novelty_epochs", 0), ("novelty_share", 0.0)],
)
def test_options_out_of_range_are_refused_by_name_and_value(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*, got {value!r}$"):
        PPORNDConfig(**{name: value})


def test_advantages_cannot_be_recomputed():
    with pytest.raises(ValueError, match="recompute_advantage must be false with novelty"):
        PPORNDConfig(recompute_advantage=True)
