"""Recurrent policies, and PPO on sequences."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from core.config import Component
from core.gradients import Objective
from core.noise import per_sample_norms
from core.optim.schedules import Constant
from gradrl.agent import Learning
from gradrl.agents.ppo_recurrent import PPORecurrent, PPORecurrentConfig
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.experience.rollout import Rollout
from gradrl.policies.recurrent import RecurrentActorCritic, RecurrentConfig, Segments
from tests.gradrl.small import small_rollout

BOX = spaces.Box(-1, 1, (3,))
MASKED = spaces.Dict({"seen": BOX, "action_mask": spaces.MultiBinary(3)})
PICTURE = spaces.Dict({"seen": BOX, "picture": spaces.Box(0, 255, (36, 40, 1), np.uint8)})


def model(space=BOX, action=2, **options):
    space_of_actions = action if isinstance(action, spaces.Space) else spaces.Discrete(action)
    cfg = RecurrentConfig(**{"recurrent_size": 5, "hidden_sizes": (4,), "orthogonal": False} | options)
    generator = torch.Generator().manual_seed(0)
    return RecurrentActorCritic(cfg, Observation(space), action_decoder(space_of_actions), generator)


def agent(net=None, lr=1e-2, **options):
    cfg = PPORecurrentConfig(**{"num_steps": 8, "num_epochs": 2, "num_minibatches": 2} | options)
    adam = Component(torch.optim.Adam, {"lr": lr}, "optimizer")
    return PPORecurrent(
        cfg,
        net or model(),
        Learning(optimizer=adam, clipper=None, schedule=Constant()),
        torch.Generator().manual_seed(1),
    )


def rollout(net, invalid=(), **options):
    """Random numbers with episodes that begin in the middle, and a recurrent state from before."""
    data = small_rollout(invalid=invalid, **options)
    episode_start = torch.zeros_like(data.episode_start)
    episode_start[1:] = data.terminated | data.truncated
    for t, n in invalid:  # as under NEXT_STEP: the step before the invalid one ended, the one after it begins
        data.terminated[t - 1, n], data.truncated[t - 1, n] = True, False
        episode_start[t, n], episode_start[t + 1, n] = False, True
    before = torch.randn(
        data.valid.shape[1], net.recurrent_state_size, generator=torch.Generator().manual_seed(7)
    )
    return dataclasses.replace(data, episode_start=episode_start, recurrent_state=before / 2)


def sequence(space, t=12, n=4):
    """Observations [T, N, D] of a space and flags with episodes of all lengths, from one on."""
    space.seed(0)
    g = torch.Generator().manual_seed(3)
    encoder = Observation(space)
    rows = np.stack([[encoder.encode_one(space.sample()) for _ in range(n)] for _ in range(t)])
    episode_start = torch.rand(t, n, generator=g) < 0.3
    episode_start[3:5, 0] = True
    episode_start[:, 1] = False
    return torch.from_numpy(rows), episode_start


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("space", [BOX, MASKED, PICTURE], ids=["vector", "mask", "picture"])
def test_unrolled_sequences_give_what_acting_step_by_step_gave(space, shared):
    net = model(space, 3, shared=shared)
    obs, episode_start = sequence(space)
    acting = net.make_actor(np.random.default_rng(0), deterministic=True)
    acting.begin(4)
    acting(obs[0].numpy(), np.ones(4, bool))
    acting.begin(4)  # a new rollout: recurrent states go on
    before = torch.from_numpy(acting.recurrent_state.copy())
    assert before.abs().min() > 0
    policy, value = net(obs, episode_start, before)
    logits, values, width = policy.logits.view(12, 4, 3), value.view(12, 4), 5
    for t in range(12):
        action = acting(obs[t].numpy(), episode_start[t].numpy())
        state = torch.from_numpy(acting.recurrent_state)
        actor, critic = state[:, :width], state[:, -2 * width : -width]
        if space is MASKED:
            actor, critic = (torch.cat([x, obs[t, :, net.mask]], -1) for x in (actor, critic))
        with torch.no_grad():
            here = net.head.policy(actor)
            assert here.mode().tolist() == action.tolist() == logits[t].argmax(-1).tolist()
            torch.testing.assert_close(here.logits, logits[t], atol=1e-5, rtol=0)
            torch.testing.assert_close(net.head.value(critic), values[t], atol=1e-5, rtol=0)


def reference(net, obs, episode_start, before):
    """The critic's values by a loop over time with torch's own cell."""
    lstm = net.recurrent[-1].lstm
    cell = nn.LSTMCell(lstm.input_size, lstm.hidden_size).to(obs.dtype)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        delattr(cell, name)
        setattr(cell, name, getattr(lstm, f"{name}_l0"))
    h, c = before[:, -2 * lstm.hidden_size :].chunk(2, -1)
    values = []
    for x, begin in zip(obs, episode_start, strict=True):
        h, c = (torch.where(begin[:, None], 0.0, state) for state in (h, c))
        h, c = cell(x, (h, c))
        values.append(net.head.value(h))
    return torch.stack(values)


def test_gradients_through_time_are_those_of_a_loop_and_stop_where_an_episode_begins():
    net = model().double()
    obs, episode_start = sequence(BOX)
    obs = obs.double()
    before = torch.randn(4, net.recurrent_state_size, generator=torch.Generator().manual_seed(0)).double()
    weight = torch.randn(12, 4, generator=torch.Generator().manual_seed(1)).double()
    critic = [*net.recurrent[-1].parameters(), *net.head.critic.parameters()]
    wanted = [*critic, obs.requires_grad_(), before.requires_grad_()]
    ours = torch.autograd.grad((net(obs, episode_start, before)[1].view(12, 4) * weight).sum(), wanted)
    slow = torch.autograd.grad((reference(net, obs, episode_start, before) * weight).sum(), wanted)
    for a, b in zip(ours, slow, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8)
    # The last value of a sequence depends on nothing before its episode.
    last = (
        torch.autograd.grad(net(obs, episode_start, before)[1].view(12, 4)[-1].sum(), obs)[0].abs().sum(-1)
        > 0
    )
    for n in range(4):
        begun = episode_start[:, n].nonzero()
        first = int(begun[-1]) if len(begun) else 0
        assert last[:, n].tolist() == [t >= first for t in range(12)]


def test_segments_hold_every_step_once():
    episode_start = torch.tensor([[0, 1], [0, 0], [1, 0], [1, 0]], dtype=torch.bool)
    segments = Segments(
        episode_start, torch.tensor([2])
    )  # environment 0's second step is followed by a final one
    steps = torch.arange(8.0).view(4, 2, 1) + 1
    packed = segments.pack(steps, torch.tensor([[9.0]]))
    assert packed[..., 0].T.tolist() == [[1, 3, 9, 0, 0], [5, 0, 0, 0, 0], [7, 0, 0, 0, 0], [2, 4, 6, 8, 0]]
    back, final = segments.unpack(packed)
    assert torch.equal(back, steps)
    assert final.tolist() == [[9.0]]
    assert segments.states(torch.tensor([[5.0], [6.0]]))[:, 0].tolist() == [5, 0, 0, 0]


def test_a_final_observation_is_valued_with_the_state_of_the_episode_that_it_ends():
    net = model()
    data = rollout(net)
    value, next_value = net.values(data)
    with torch.no_grad():
        slow = reference(net, data.obs, data.episode_start, data.recurrent_state)
        t, n = divmod(5, 4)
        obs = torch.cat([data.obs[: t + 1, n], data.final_obs])[:, None]
        episode_start = torch.cat([data.episode_start[: t + 1, n], torch.tensor([False])])[:, None]
        final = reference(net, obs, episode_start, data.recurrent_state[n][None])[-1, 0]
    expected = slow[1:].clone()
    expected[t, n] = final
    torch.testing.assert_close(value, slow[:-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(next_value, expected, atol=1e-5, rtol=0)
    assert (final - slow[t + 1, n]).abs() > 1e-3


def test_before_the_first_step_the_ratio_is_one_and_the_loss_is_minus_the_mean_advantage():
    learner = agent(normalize_advantage=False)
    batch, _ = learner.observe(rollout(learner.model))
    losses, metrics = learner.loss(batch)
    assert losses["policy"].item() == pytest.approx(-batch.advantage.mean().item(), abs=1e-6)
    assert metrics["policy/approx_kl"].item() == pytest.approx(0.0, abs=1e-6)
    assert metrics["policy/ratio_max"].item() == pytest.approx(1.0, abs=1e-5)


def test_minibatches_are_whole_sequences_whose_gradients_have_the_rollouts_as_their_mean():
    learner = agent(normalize_advantage=False, entropy_coef=0.1)
    batch, valid = learner.observe(rollout(learner.model))
    parts = list(batch.shuffled(valid, 32, 2, torch.Generator().manual_seed(0)))
    assert [len(part) for part in parts] == [16, 16]
    columns = torch.cat([part.recurrent_state for part in parts])
    assert torch.equal(columns.sort(0).values, batch.recurrent_state.sort(0).values)

    def gradient(part):
        return torch.autograd.grad(sum(learner.loss(part)[0].values()), list(learner.model.parameters()))

    halves = [gradient(part) for part in parts]
    for whole, a, b in zip(gradient(batch), *halves, strict=True):
        torch.testing.assert_close(whole, (a + b) / 2, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("normalize", [False, True])
def test_what_stands_in_invalid_places_has_no_influence_on_the_update(normalize):
    results = []
    for filler in (0.0, 1e6):
        learner = agent(normalize_advantage=normalize)
        data = rollout(learner.model, invalid=[(2, 1), (5, 3)])
        data.reward[2, 1] = data.reward[5, 3] = filler
        data.action[2, 1] = int(filler > 0)
        metrics = learner.update(data, 0.0)
        results.append(([p.detach().clone() for p in learner.model.parameters()], metrics))
    assert all(torch.equal(a, b) for a, b in zip(results[0][0], results[1][0], strict=True))
    assert results[0][1] == results[1][1]


def test_advantages_are_normalised_over_the_valid_steps():
    learner = agent()
    batch, valid = learner.observe(rollout(learner.model, invalid=[(2, 1), (5, 3)]))
    normal = learner.normalized(batch).advantage[valid]
    assert normal.mean().item() == pytest.approx(0, abs=1e-6)
    assert normal.std().item() == pytest.approx(1, abs=1e-5)
    assert len(normal) == 30


@pytest.mark.parametrize("space", [BOX, MASKED, PICTURE], ids=["vector", "mask", "picture"])
def test_small_steps_give_what_the_fused_kernel_gives(space):
    net = model(space, 3)
    obs, episode_start = sequence(space)
    before = torch.randn(4, net.recurrent_state_size, generator=torch.Generator().manual_seed(0))
    for a, b in zip(
        net(obs, episode_start, before),
        net(obs, episode_start, before, None, True),
        strict=True,
    ):
        a, b = (getattr(x, "logits", x) for x in (a, b))
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_probes_see_the_loss_of_the_whole_rollout_and_of_every_sequence():
    learner = agent()
    assert learner.objectives() == []
    batch, _ = learner.observe(rollout(learner.model))
    ((objective, step),) = learner.objectives()
    assert isinstance(objective, Objective)
    assert objective.samples == 4
    assert step is learner.gradient_step
    expected = sum(learner.loss(learner.normalized(batch))[0].values())
    torch.testing.assert_close(objective(), expected)
    norms = torch.stack([*per_sample_norms(objective).values()]).norm(dim=0)
    for n in range(4):
        one = objective.on([x[n : n + 1] for x in objective.batch])
        gradient = torch.autograd.grad(one, objective.parameters)
        assert norms[n].item() == pytest.approx(
            torch.cat([g.flatten() for g in gradient]).norm().item(), rel=1e-4
        )


def test_a_sample_is_a_sequence_for_the_noise_scale_and_for_the_proposal_of_a_rate():
    learner = agent(num_minibatches=2)
    learner.update(rollout(learner.model), 0.0)
    assert learner.gradient_step.samples == 2  # of 4 environments
    assert learner.cfg.minibatches(4)[1] == 2


def test_probes_do_not_see_what_stands_in_invalid_places():
    found = []
    for filler in (0, 1):
        learner = agent()
        data = rollout(learner.model, invalid=[(2, 1), (5, 3)])
        data.reward[2, 1] = 1e6 * filler
        data.action[2, 1] = filler
        learner.observe(data)
        ((objective, _),) = learner.objectives()
        per_sample_norms(objective)
        found.append(objective())
    assert found[0] == found[1]


def test_an_interrupted_actor_continues_where_it_was():
    net = model(action=spaces.Box(-1, 1, (2,)), sde=True, sde_interval=3)
    obs, episode_start = (x.numpy() for x in sequence(BOX))
    first = net.make_actor(np.random.default_rng(0))
    first.begin(4)
    for t in range(5):
        first(obs[t], episode_start[t])
    second = net.make_actor(np.random.default_rng(0))
    second.load_state_dict(first.state_dict())
    second.head.generator.bit_generator.state = first.head.generator.bit_generator.state
    first.begin(4)
    second.begin(4)
    for t in range(5, 12):
        np.testing.assert_array_equal(first(obs[t], episode_start[t]), second(obs[t], episode_start[t]))
    np.testing.assert_array_equal(first.recurrent_state, second.recurrent_state)


def test_sequences_must_be_dealt_out_in_equal_shares():
    PPORecurrentConfig(num_minibatches=4).minibatches(8)
    with pytest.raises(ValueError, match=r"agent.num_minibatches must be a divisor of num_envs = 6, got 4"):
        PPORecurrentConfig(num_minibatches=4).minibatches(6)
    with pytest.raises(ValueError, match="recurrent_size must be an integer >= 1, got 0"):
        RecurrentConfig(recurrent_size=0)


def episodes_of_recall(net, seed, n=64, delay=5):
    """One episode per environment: a bit is shown once; what counts is the action `delay` steps later."""
    generator = np.random.default_rng(seed)
    obs = np.zeros((delay + 2, n, 3), np.float32)
    bit = generator.integers(2, size=n)
    obs[0, np.arange(n), bit] = 1
    episode_start = np.zeros((delay + 2, n), bool)
    episode_start[[0, -1]] = True
    actor = net.make_actor(generator)
    actor.begin(n)
    before = torch.from_numpy(actor.recurrent_state.copy())
    action = np.stack([actor(obs[t], episode_start[t]) for t in range(delay + 1)])
    reward = np.zeros((delay + 1, n), np.float32)
    reward[-1] = action[-1] == bit
    terminated = torch.zeros(delay + 1, n, dtype=torch.bool)
    terminated[-1] = True
    return Rollout(
        obs=torch.from_numpy(obs), action=torch.from_numpy(action), reward=torch.from_numpy(reward),
        terminated=terminated, truncated=torch.zeros_like(terminated),
        valid=torch.ones_like(terminated), num_valid=terminated.numel(),
        final_index=torch.zeros(0, dtype=torch.int64), final_obs=torch.zeros(0, 3),
        terminal_index=torch.zeros(0, dtype=torch.int64), terminal_obs=torch.zeros(0, 3),
        episode_start=torch.from_numpy(episode_start), recurrent_state=before,
    )  # fmt: skip


@pytest.mark.slow
def test_a_bit_is_remembered_for_five_steps():
    net = model(recurrent_size=16, orthogonal=True)
    learner = agent(net, lr=1e-2, num_steps=6, num_epochs=4, num_minibatches=2, gamma=1.0)
    before = episodes_of_recall(net, 0).reward[-1].mean().item()
    for i in range(24):
        learner.update(episodes_of_recall(net, i + 1), 0.0)
    after = np.mean([episodes_of_recall(net, 1000 + i).reward[-1].mean().item() for i in range(4)])
    assert before < 0.8
    assert after > 0.95
