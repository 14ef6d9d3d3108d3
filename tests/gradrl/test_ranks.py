"""Agents of several ranks learn as one does, in float64; what ranks cannot do is refused by name."""

from dataclasses import fields, replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from core.config import build
from core.gradients.ranks import num_ranks
from gradrl.agents.a2c import A2C, A2CConfig
from gradrl.agents.ppo import PPO, PPOConfig
from gradrl.agents.ppo_kl import PPOKL, PPOKLConfig
from gradrl.agents.reinforce import REINFORCE, REINFORCEConfig
from gradrl.agents.vtrace import VTrace, VTraceConfig
from gradrl.collector import Collector
from gradrl.envs.env_state import Replayable
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.experience.normalize import ObservationNormalizer, RewardNormalizer
from gradrl.experience.shares import OwnDraws, own_draws
from gradrl.ranks import check_ranks
from tests.gradrl.small import small_agent, small_model
from tests.ranks import on_ranks
from tests.signals import composed

NUM_ENVS, NUM_STEPS = 8, 6
BOX = spaces.Box(-10.0, 10.0, (2,), np.float32)


class Slope(gym.Env):
    """A point that rolls from where its seed says; everything after that follows from the actions."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = BOX

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.t = self.np_random.normal(size=3), 0
        return self.x.copy(), {}

    def step(self, action):
        self.x = 0.9 * self.x + 0.1 * np.tanh([action[0], action[1], action.sum()])
        self.t += 1
        return self.x.copy(), float(-np.square(self.x).sum()), bool(self.x[0] > 1.2), self.t >= 7, {}


AGENTS = {
    "ppo": (PPO, PPOConfig, {"num_epochs": 2, "num_minibatches": 3, "target_kl": 0.02}),
    "recomputed": (PPO, PPOConfig, {"num_epochs": 2, "num_minibatches": 2, "recompute_advantage": True}),
    "ppo_kl": (PPOKL, PPOKLConfig, {"num_epochs": 2, "num_minibatches": 3}),
    "a2c": (A2C, A2CConfig, {"normalize_advantage": True, "entropy_coef": 0.01}),
    "reinforce": (REINFORCE, REINFORCEConfig, {"baseline": "mean"}),
    "vtrace": (VTrace, VTraceConfig, {"policy_lag": 2}),
}


def collector(mode):
    envs = SyncVectorEnv([lambda: Replayable(Slope())] * (NUM_ENVS // num_ranks()), autoreset_mode=mode)
    return Collector(
        envs,
        Observation(Slope.observation_space),
        action_decoder(BOX),
        NUM_STEPS,
        list(range(NUM_ENVS)),
        ObservationNormalizer(3),
        RewardNormalizer(NUM_ENVS, 0.99),
    )


def in_float64(rollout):
    """A rollout whose numbers are as exact as the model."""
    tensors = {f.name: getattr(rollout, f.name) for f in fields(rollout) if f.name != "num_valid"}
    return replace(rollout, **{k: x.double() for k, x in tensors.items() if x.dtype == torch.float32})


def learnt(name):
    """The parameters after 20 updates, the metrics of all, and the statistics of what was seen."""
    kind, config, options = AGENTS[name]
    agent = small_agent(kind, config, model=small_model(BOX).double(), num_steps=NUM_STEPS, **options)
    late = name in ("a2c", "recomputed")  # whose rollouts have rows that are not valid
    source = collector(AutoresetMode.NEXT_STEP if late else AutoresetMode.SAME_STEP)
    actor = agent.make_actor(own_draws(np.random.default_rng(3)))
    history = [
        agent.update(in_float64(source.collect(actor)), update / 20) | source.drain() for update in range(20)
    ]
    metrics = [{tag: x.tolist() for tag, x in each.items()} for each in history]
    normalizers = source.observation_normalizer, source.reward_normalizer
    statistics = [torch.as_tensor(n.moments.mean) for n in normalizers]
    return [p.detach() for p in agent.model.parameters()] + statistics, metrics, source.state_dict()


def learnt_by_all(*names):
    return {name: learnt(name) for name in names}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "names"), [(2, tuple(AGENTS)), pytest.param(4, ("ppo", "a2c"), marks=pytest.mark.long)]
)
def test_agents_of_several_ranks_learn_as_one_does(ranks, names):
    expected = learnt_by_all(*names)
    for found in on_ranks(learnt_by_all, ranks, *names):
        for name, (tensors, metrics, state) in found.items():
            torch.testing.assert_close(tensors, expected[name][0], rtol=0, atol=1e-5)
            for ours, one in zip(metrics, expected[name][1], strict=True):
                assert ours.keys() == one.keys()
                for tag in one.keys() - {"policy/ratio_max", "policy/ratio_min"}:  # means of each rank's own
                    assert ours[tag] == pytest.approx(one[tag], abs=1e-5), (name, tag)
            assert len(state["envs"]) == NUM_ENVS
            assert state["env_steps"] == expected[name][2]["env_steps"]


def test_each_rank_has_its_rows_of_the_draws_for_all(monkeypatch):
    whole = np.random.default_rng(0)
    expected = [whole.gumbel(size=(6, 3)), whole.standard_normal((6, 2), dtype=np.float32)]
    for rank in range(3):
        monkeypatch.setattr("gradrl.experience.shares.num_ranks", lambda: 3)
        monkeypatch.setattr("gradrl.experience.shares.this_rank", lambda rank=rank: rank)
        draws = OwnDraws(np.random.default_rng(0))
        rows = slice(2 * rank, 2 * rank + 2)
        np.testing.assert_array_equal(draws.gumbel(size=(2, 3)), expected[0][rows])
        np.testing.assert_array_equal(draws.standard_normal((2, 2), dtype=np.float32), expected[1][rows])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("agent=sac", "env=pendulum"), r"agent must be one of A2C, PPO, .* for 4 ranks, got 'SAC'"),
        (("agent=trpo", "env=pendulum"), r"agent must be one of .*, got 'TRPO'"),
        (("agent=ppo_rnd", "env=cartpole"), r"agent must be one of .*, got 'PPORND'"),
        (("agent=ppo_noveld", "env=cartpole"), r"agent must be one of .*, got 'PPONovelD'"),
        (("agent=ppo", "num_envs=6"), r"num_envs must be a multiple of 4 for 4 ranks, got 6"),
        (
            ("agent=ppo", "num_envs=4", "agent.num_steps=6", "agent.num_minibatches=4"),
            r"agent.num_minibatches must be such that 4 divides the 6 rows of each for 4 ranks, got 4",
        ),
        (("agent=ppo", "env.vectorization=torch"), r"env.vectorization must be auto, sync or async for 4"),
        (("agent=ppo", "env=pendulum", "policy.sde=true"), r"policy.sde must be false for 4 ranks"),
        (("agent=ppo", "compile=update"), r"compile must be off for 4 ranks"),
    ],
)
def test_what_ranks_cannot_do_is_refused_by_name(words, line):
    with pytest.raises(ValueError, match=line):
        check_ranks(build(composed("ppo", words)), 4)
