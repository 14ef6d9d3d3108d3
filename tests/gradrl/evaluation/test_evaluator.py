import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from core.seeding import seed_for
from gradrl.envs.make import EnvConfig, inspect_env
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import DiscreteAction
from gradrl.evaluation.evaluator import EvaluationConfig, Evaluator, evaluate, evaluation_actor
from gradrl.evaluation.video import Camera, shrink
from gradrl.experience.normalize import ObservationNormalizer
from gradrl.policies.networks import ActorCritic, MLPConfig
from tests.gradrl.scripted import Scripted


def env(env_id="Counting-v0", autoreset="same_step", **options):
    defaults = {
        "kwargs": {},
        "import_module": None,
        "wrappers": (),
        "train_wrappers": (),
        "vectorization": "auto",
        "autoreset": autoreset,
    }
    return EnvConfig(id=env_id, **defaults | options)


def evaluator(
    episodes=6, num_envs=2, cap=1000, cfg=None, act=lambda obs: np.zeros(len(obs), np.int64), seed=0
):
    options = EvaluationConfig(
        episodes=episodes, interval_episodes=1, num_envs=num_envs, max_episode_steps=cap, deterministic=True
    )
    cfg = cfg or env()
    return evaluate(Scripted(act), cfg, inspect_env(cfg), options, episodes, seed)


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
@pytest.mark.parametrize(("episodes", "num_envs"), [(8, 1), (7, 3), (2, 5), (20, 20)])
def test_every_environment_contributes_its_own_first_episodes_however_short(episodes, num_envs, autoreset):
    lengths = (3, 1, 40, 2)
    cfg = env(autoreset=autoreset, kwargs={"lengths": lengths})
    seen = evaluator(episodes, num_envs, cfg=cfg, seed=4)
    copies = min(episodes, num_envs)
    expected = []
    for n in range(copies):
        begin = seed_for(4, "evaluation", n) % 7
        quota = episodes // copies + (n < episodes % copies)
        expected += [(e, lengths[e % 4]) for e in range(begin, begin + quota)]
    assert seen.lengths.tolist() == [length for _, length in expected]
    assert seen.returns.tolist() == [sum(1 + t + 10 * e for t in range(length)) for e, length in expected]


def test_the_same_seed_gives_the_same_initial_states_and_another_seed_others():
    act = lambda obs: (obs[:, 2] > 0).astype(np.int64)  # noqa: E731
    first, second, third = (
        evaluator(8, 4, cfg=env("CartPole-v1"), act=act, seed=s).returns for s in (0, 0, 1)
    )
    assert first.tolist() == second.tolist()
    assert first.tolist() != third.tolist()


@pytest.mark.parametrize("vectorization", ["auto", "sync"])
def test_the_cap_cuts_episodes_and_counts_them(vectorization):
    act = lambda obs: (obs[:, 2] + obs[:, 3] > 0).astype(np.int64)  # noqa: E731 - balances for over 100 steps
    seen = evaluator(4, 2, cap=50, cfg=env("CartPole-v1", vectorization=vectorization), act=act)
    assert seen.lengths.tolist() == [50] * 4
    assert seen.capped == 4
    endless = evaluator(2, 2, cap=9, cfg=env("Walk-v0", vectorization="sync"))
    assert endless.lengths.tolist() == [9, 9]
    assert endless.capped == 2


def test_the_environments_own_limit_is_no_cap():
    act = lambda obs: (obs[:, 2] + obs[:, 3] > 0).astype(np.int64)  # noqa: E731
    cfg = env("CartPole-v1", kwargs={"max_episode_steps": 30})
    seen = evaluator(2, 2, cap=1000, cfg=cfg, act=act)
    assert seen.lengths.tolist() == [30, 30]
    assert seen.capped == 0


def test_acting_for_evaluation_moves_no_training_state():
    model = ActorCritic(
        MLPConfig(),
        Observation(spaces.Box(-1, 1, (2,))),
        DiscreteAction(2, 0),
        torch.Generator().manual_seed(0),
    )
    normalizer = ObservationNormalizer(2)
    normalizer.update(np.array([[0.0, 1.0], [2.0, 5.0]]))
    before = torch.get_rng_state()
    for deterministic in (True, False):
        first, second = (
            evaluation_actor(
                model, normalizer, deterministic=deterministic, generator=np.random.default_rng(5)
            )
            for _ in range(2)
        )
        obs, episode_start = (
            np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32),
            np.ones(50, np.bool_),
        )
        for actor in (first, second):
            actor.begin(50)
        assert first(obs, episode_start).tolist() == second(obs, episode_start).tolist()
    assert normalizer.moments.count == 2
    assert torch.equal(torch.get_rng_state(), before)
    expected = model.policy(torch.from_numpy(normalizer(obs))).mode()
    generator = np.random.default_rng(0)
    actor = evaluation_actor(model, normalizer, deterministic=True, generator=generator)
    actor.begin(50)
    assert actor(obs, episode_start).tolist() == expected.tolist()


def test_a_film_is_small_and_plays_every_third_frame():
    lines = []
    cfg = env("CartPole-v1")
    video = Camera(cfg, inspect_env(cfg), 0, lines.append).record(
        Scripted(lambda obs: np.zeros(len(obs), np.int64))
    )
    assert video.frames.shape[1:] == (200, 300, 3)
    assert video.frames.dtype == np.uint8
    assert 3 <= len(video.frames) <= 5
    assert video.fps == 50 / 3
    assert lines == []


def test_what_cannot_be_drawn_is_said_once():
    lines = []
    camera = Camera(env(), inspect_env(env()), 0, lines.append)
    assert camera.record(Scripted(lambda obs: np.zeros(len(obs), np.int64))) is None
    assert camera.record(Scripted(lambda obs: np.zeros(len(obs), np.int64))) is None
    assert lines == ["no video of Counting-v0: it has no render mode"]


def test_shrinking_averages_whole_squares():
    frame = np.zeros((4, 6, 3), np.uint8)
    frame[0, 0] = 200
    assert shrink(frame, 3)[0, 0].tolist() == [50, 50, 50]
    assert shrink(frame, 3).shape == (2, 3, 3)
    assert shrink(frame, 300).shape == frame.shape


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
@pytest.mark.parametrize("columns_first", [False, True])
@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_a_shrunken_frame_has_the_means_of_its_squares(factor, columns_first, dtype):
    frame = np.random.default_rng(factor).integers(0, 256, (31, 46, 3)).astype(dtype)
    if columns_first:  # in memory, as pygame has it
        frame = np.ascontiguousarray(frame.transpose(1, 0, 2)).transpose(1, 0, 2)
    height, width = 31 // factor, 46 // factor
    squares = frame[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    small = shrink(frame, round(46 / factor))
    assert small.dtype == np.uint8
    assert small.shape == (height, width, 3)
    assert np.abs(small - squares.mean(axis=(1, 3))).max() <= 1


def test_a_frame_that_is_not_of_integers_is_refused():
    with pytest.raises(TypeError, match="data type"):
        shrink(np.zeros((4, 6, 3)))


@pytest.mark.parametrize("name", ["episodes", "interval_episodes", "num_envs", "max_episode_steps"])
def test_counts_below_one_are_refused(name):
    options = {
        "episodes": 1,
        "interval_episodes": 1,
        "num_envs": 1,
        "max_episode_steps": 1,
        "deterministic": True,
    }
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1, got 0"):
        EvaluationConfig(**options | {name: 0})


class Begun:
    """As much of a run as an evaluator asks for."""

    step, wall_s, train_s, best_score = 100, 2.0, 1.0, 7.0

    def __init__(self):
        self.said = []

    def say(self, line):
        self.said.append(line)


class Idle:
    """A network that always chooses the first action."""

    def make_actor(self, generator, *, deterministic):
        return Scripted(lambda obs: np.zeros(len(obs), np.int64))


def judge(unpaid=(), lengths=(1, 2)):
    cfg, run = (
        env(kwargs={"lengths": lengths, "kinds": ("terminated",) * len(lengths), "unpaid": unpaid}),
        Begun(),
    )
    options = EvaluationConfig(
        episodes=6, interval_episodes=6, num_envs=1, max_episode_steps=1000, deterministic=True
    )
    return Evaluator(options, cfg, inspect_env(cfg), 0, Idle(), None, run), run


def test_one_episode_without_a_return_is_said_and_counted_and_the_others_mean_is_told():
    whole, _ = judge()
    begin = seed_for(seed_for(0, "evaluation", "final"), "evaluation", 0) % 7
    returns = [sum(1 + t + 10 * e for t in range((1, 2)[e % 2])) for e in range(begin, begin + 6)]
    assert whole.final()["eval_return_mean"] == np.mean(returns)
    assert "eval_episodes_without_return" not in whole.final()

    broken, run = judge(unpaid=(0,))
    found = broken.final()
    assert math.isnan(found["eval_return_mean"])
    assert (found["eval_episodes"], found["eval_episodes_without_return"]) == (6, 3)
    paid = np.mean([r for e, r in enumerate(returns, begin) if e % 2])
    assert run.said[0] == (
        "3 of 6 returns of this evaluation are not a number, nor is their mean; that of the others is "
        f"{paid:.4g}"
    )
    assert math.isnan(broken.evaluate().score)


def test_the_best_return_is_that_of_the_checkpoint_and_not_of_the_final_evaluation():
    evaluator, run = judge()
    assert evaluator.final()["eval_return_mean"] > run.best_score
    assert evaluator.summarise()["best_eval_return_mean"] == run.best_score
