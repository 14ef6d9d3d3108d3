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
from gradrl.envs.make import EnvConfig, inspect_env
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.evaluation.evaluator import EvaluationConfig, Evaluator, evaluate
from gradrl.experience.normalize import ObservationNormalizer, RewardNormalizer
from gradrl.experience.shares import OwnDraws, own_draws, own_envs
from gradrl.policies.exploration_noise import NoiseConfig
from gradrl.ranks import check_ranks
from tests.gradrl.evaluation.test_evaluator import Begun
from tests.gradrl.off_policy import KINDS, make
from tests.gradrl.scripted import Scripted
from tests.gradrl.small import small_agent, small_model
from tests.ranks import on_ranks
from tests.signals import composed

NUM_ENVS, NUM_STEPS = 8, 6
BOX = spaces.Box(-10.0, 10.0, (2,), np.float32)


class Slope(gym.Env):
    """A point that rolls from where its seed says; everything after that follows from the actions."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = BOX

    def __init__(self, actions=BOX):
        self.action_space = actions

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.t = self.np_random.normal(size=3), 0
        return self.x.copy(), {}

    def step(self, action):
        force = action if np.ndim(action) else np.eye(3)[action][:2]
        self.x = 0.9 * self.x + 0.1 * np.tanh([*force, force.sum()])
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


OFF_POLICY = {
    "ddpg": {"noise": NoiseConfig(kind="ornstein_uhlenbeck", std=0.5, dt=0.5)},
    "td3": {"gradient_steps": 3},
    "sac": {"gradient_steps": None},
    "sac_discrete": {"replay_size": 200},
}


def collector(mode, actions=BOX, *normalizers):
    make = lambda: Replayable(Slope(actions))  # noqa: E731
    envs = SyncVectorEnv([make] * (NUM_ENVS // num_ranks()), autoreset_mode=mode)
    decode, seeds = action_decoder(actions), list(range(NUM_ENVS))
    return Collector(envs, Observation(Slope.observation_space), decode, NUM_STEPS, seeds, *normalizers)


def in_float64(rollout):
    """A rollout whose numbers are as exact as the model."""
    tensors = {f.name: getattr(rollout, f.name) for f in fields(rollout) if f.name != "num_valid"}
    return replace(rollout, **{k: x.double() for k, x in tensors.items() if x.dtype == torch.float32})


def learnt(name):
    """The parameters after 20 updates, the metrics of all, and the statistics of what was seen."""
    kind, config, options = AGENTS[name]
    agent = small_agent(kind, config, model=small_model(BOX).double(), num_steps=NUM_STEPS, **options)
    late = name in ("a2c", "recomputed")  # whose rollouts have rows that are not valid
    mode = AutoresetMode.NEXT_STEP if late else AutoresetMode.SAME_STEP
    source = collector(mode, BOX, ObservationNormalizer(3), RewardNormalizer(NUM_ENVS, 0.99))
    actor = agent.make_actor(own_draws(np.random.default_rng(3), NUM_ENVS, own_envs(NUM_ENVS)))
    history = [
        agent.update(in_float64(source.collect(actor)), update / 20) | source.drain() for update in range(20)
    ]
    metrics = [{tag: x.tolist() for tag, x in each.items()} for each in history]
    normalizers = source.observation_normalizer, source.reward_normalizer
    statistics = [torch.as_tensor(n.moments.mean) for n in normalizers]
    return [p.detach() for p in agent.model.parameters()] + statistics, metrics, source.state_dict()


def learnt_from_replay(name):
    """The same of an agent with a replay, whose state takes the place of statistics."""
    agent = make(name, learning_starts=100, **OFF_POLICY[name])
    agent.model.double()
    for target in agent.targets:
        target.net.double()
    source = collector(AutoresetMode.NEXT_STEP, KINDS[name][4])
    actor = agent.make_actor(own_draws(np.random.default_rng(3), NUM_ENVS, own_envs(NUM_ENVS)))
    history = [agent.update(in_float64(source.collect(actor)), update / 20) for update in range(20)]
    metrics = [{tag: x.tolist() for tag, x in each.items()} for each in history]
    kept = [agent.replay.latest(1000).obs, agent.replay.latest(1000).action]
    kept += list(actor.state_dict()["noise"].values())
    return [p.detach() for p in agent.model.parameters()] + kept, metrics, source.state_dict()


def learnt_by_all(*names):
    return {name: (learnt_from_replay if name in OFF_POLICY else learnt)(name) for name in names}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "names"),
    [(2, (*AGENTS, *OFF_POLICY)), pytest.param(4, ("ppo", "a2c", "sac"), marks=pytest.mark.long)],
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


def judged():
    """Episodes of a script, and the evaluations of a policy, by copies of which a rank may have none."""
    gym.register("Slope-v0", Slope)
    cfg = EnvConfig(
        id="Slope-v0", kwargs={}, import_module=None, wrappers=(), train_wrappers=(), vectorization="auto",
        autoreset="same_step",
    )  # fmt: skip
    info, model, found = inspect_env(cfg), small_model(BOX), {}
    for episodes, copies in ((7, 3), (2, 5), (1, 1), (20, 20)):
        options = EvaluationConfig(
            episodes=episodes, interval_episodes=copies, num_envs=copies, max_episode_steps=5,
            deterministic=True,
        )  # fmt: skip
        script = Scripted(lambda obs: -obs[:, :2])
        seen = evaluate(script, cfg, info, options, episodes, 3)
        evaluator = Evaluator(options, cfg, info, 3, model, None, Begun())
        measured = evaluator.final() | evaluator.evaluate().metrics
        found[episodes] = seen.returns.tolist(), seen.lengths.tolist(), seen.capped, measured
    return found


@pytest.mark.slow
def test_ranks_share_the_episodes_of_an_evaluation_and_see_what_one_process_sees():
    expected = judged()
    assert {len(returns) for returns, *_ in expected.values()} == {7, 2, 1, 20}
    assert expected[20][3]["eval_return_mean_stochastic"] != expected[20][3]["eval_return_mean"]
    for found in on_ranks(judged, 3):
        for episodes, (*seen, measured) in found.items():
            assert seen == [*expected[episodes][:3]]
            assert measured == pytest.approx(expected[episodes][3], abs=1e-5)


def test_each_rank_has_its_rows_of_the_draws_for_all(monkeypatch):
    whole = np.random.default_rng(0)
    expected = [whole.gumbel(size=(6, 3)), whole.standard_normal((6, 2), dtype=np.float32)]
    for rank in range(3):
        monkeypatch.setattr("gradrl.experience.shares.num_ranks", lambda: 3)
        monkeypatch.setattr("gradrl.experience.shares.this_rank", lambda rank=rank: rank)
        rows = own_envs(6)
        assert (rows.start, rows.stop) == (2 * rank, 2 * rank + 2)
        draws = OwnDraws(np.random.default_rng(0), 6, rows)
        np.testing.assert_array_equal(draws.gumbel(size=(2, 3)), expected[0][rows])
        np.testing.assert_array_equal(draws.standard_normal((2, 2), dtype=np.float32), expected[1][rows])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("agent=trpo", "env=pendulum"), r"agent must be one of A2C, DDPG, PPO, .* for 4 ranks, got 'TRPO'"),
        (("agent=ppo_recurrent", "env=cartpole"), r"agent must be one of .*, got 'PPORecurrent'"),
        (
            ("agent=sac", "env=pendulum", "num_envs=4", "agent.batch_size=62"),
            r"agent.batch_size must be a multiple of 4 for 4 ranks, got 62",
        ),
        (("agent=ppo_rnd", "env=cartpole"), r"agent must be one of .*, got 'PPORND'"),
        (("agent=ppo_noveld", "env=cartpole"), r"agent must be one of .*, got 'PPONovelD'"),
        (("agent=ppo", "num_envs=6"), r"num_envs must be a multiple of 4 for 4 ranks, got 6"),
        (
            ("agent=ppo", "num_envs=4", "agent.num_steps=6", "agent.num_minibatches=4"),
            r"agent.num_minibatches must be such that 4 divides the 6 rows of each for 4 ranks, got 4",
        ),
        (
            ("agent=ppo", "env.vectorization=torch"),
            r"env.vectorization must be auto, sync or async for 4 ranks",
        ),
        (
            ("agent=ppo", "env=cartpole", "env.vectorization=native"),  # as a run of one process has noted it
            r"env.vectorization must be .* for 4 ranks from its beginning: .*, got 'native'",
        ),
        (("agent=ppo", "env=pendulum", "policy.sde=true"), r"policy.sde must be false for 4 ranks"),
        (("agent=ppo", "compile=update"), r"compile must be off for 4 ranks"),
    ],
)
def test_what_ranks_cannot_do_is_refused_by_name(words, line):
    with pytest.raises(ValueError, match=line):
        check_ranks(build(composed("ppo", words)), 4)
