"""stable-baselines3 is watched as it is, and trains to the same bit."""

import copy
import math

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from core.diagnosis import Context, History, Layer, Player
from core.run.tensorboard import read_scalars
from gradrl.watch.agents import agent_rules, in_our_units
from tests.core.watch.loops import alarms

sb3 = pytest.importorskip("stable_baselines3")

from examples import watch_cleanrl, watch_stable_baselines3  # noqa: E402
from gradrl.watch.stable_baselines3 import WatchCallback  # noqa: E402

pytestmark = [pytest.mark.usefixtures("blank_figures"), pytest.mark.slow]

PPO = {"n_steps": 64, "batch_size": 32, "n_epochs": 4}
SAC = {"learning_starts": 40, "batch_size": 32, "buffer_size": 500, "policy_kwargs": {"net_arch": [16, 16]}}


def learner(algorithm, env, **options):
    return getattr(sb3, algorithm)("MlpPolicy", env, seed=3, device="cpu", **copy.deepcopy(options))


def weights(model):
    extra = [model.log_ent_coef] if getattr(model, "log_ent_coef", None) is not None else []
    return [*model.policy.parameters(), *extra]


@pytest.mark.parametrize(
    ("algorithm", "env", "options", "steps", "players"),
    [
        ("PPO", "CartPole-v1", PPO, 192, [""]),
        ("SAC", "Pendulum-v1", SAC, 240, ["actor", "critic", "temperature"]),
        ("TD3", "Pendulum-v1", SAC, 100, ["actor", "critic"]),
        ("DQN", "CartPole-v1", {**SAC, "train_freq": 1}, 100, [""]),
    ],
)
def test_the_training_is_the_same_to_the_bit(algorithm, env, options, steps, players):
    callback = WatchCallback()
    alone = learner(algorithm, env, **options).learn(steps)
    watched = learner(algorithm, env, **options).learn(steps, callback=callback)
    assert all(torch.equal(a, b) for a, b in zip(weights(alone), weights(watched), strict=True))
    assert [player.name for player in callback.watch._followed] == players
    assert callback.watch.step == getattr(watched, "_n_updates", 0) * (2 if algorithm == "PPO" else 1)


def test_numbers_of_ppo_are_curves_under_our_tags(tmp_path):
    model, callback = learner("PPO", "Pendulum-v1", **{**PPO, "n_steps": 256}), WatchCallback(tmp_path)
    seen = []

    class Logger(sb3.common.logger.KVWriter):
        def write(self, values, excluded, step=0):
            seen.append(dict(values))

        def close(self):
            pass

    model.set_logger(sb3.common.logger.Logger(None, [Logger()]))
    model.learn(1024, callback=callback)
    curves = read_scalars(tmp_path)
    updates = [value for value in seen if "train/approx_kl" in value]
    first, step = updates[0], min(curves["policy/approx_kl"])
    assert curves["policy/approx_kl"][step] == pytest.approx(first["train/approx_kl"], rel=1e-5)
    assert curves["loss/value"][step] == pytest.approx(first["train/value_loss"] / 2, rel=1e-5)
    # Torques go from -2 to 2: half as wide in units of the range, log 2 less of entropy.
    expected = -first["train/entropy_loss"] - math.log(2)
    assert curves["policy/entropy"][step] == pytest.approx(expected, rel=1e-5)
    assert curves["episode/length"][max(curves["episode/length"])] == 200
    assert {"policy/advantage_std", "policy/explained_variance", "episode/return", "input/rms",
            "layer/mlp_extractor.policy_net.0.weight/gradient_norm"} <= set(curves)  # fmt: skip


@pytest.mark.slow
def test_numbers_of_sac_and_a_second_learn(tmp_path):
    model, callback = learner("SAC", "Pendulum-v1", **SAC), WatchCallback(tmp_path)
    model.learn(210, callback=callback)
    first = callback.watch.step
    model.learn(60, callback=callback, reset_num_timesteps=False)
    assert callback.watch.step == model._n_updates > first
    curves = read_scalars(tmp_path)
    assert {"actor/gradient/norm", "critic/layer/qf0.0.weight/gradient_norm", "temperature/gradient/norm",
            "loss/actor", "loss/critic", "policy/temperature", "value/q_mean"} <= set(curves)  # fmt: skip
    assert max(curves["critic/gradient/norm"]) == model._n_updates
    model.save(tmp_path / "model")
    loaded, other = sb3.SAC.load(tmp_path / "model", env=model.get_env()), WatchCallback(tmp_path / "other")
    loaded.learn(45, callback=other, reset_num_timesteps=False)
    assert 0 < other.watch.step < first
    with pytest.raises(ValueError, match="already holds a run"):
        loaded.learn(10, callback=callback)


class Far(gymnasium.ObservationWrapper):
    """Observations of another unit."""

    def observation(self, observation):
        return observation * np.float32(1e4)


def test_faults_are_named_in_the_words_of_the_library(tmp_path):
    fast, far = WatchCallback(tmp_path), WatchCallback()
    learner("PPO", "CartPole-v1", **PPO, learning_rate=0.1).learn(1280, callback=fast)
    learner("PPO", Far(gymnasium.make("CartPole-v1")), **PPO).learn(512, callback=far)
    assert {"runaway_kl", "collapsed_entropy"} <= alarms(fast.watch)
    assert "unscaled_inputs" in alarms(far.watch)
    remedies = " ".join(part for finding in fast.watch.findings for part in finding.remedy)
    assert "lower the learning rate from 0.1" in remedies
    assert "=" not in remedies


@pytest.mark.slow
@pytest.mark.parametrize("example", [watch_cleanrl, watch_stable_baselines3])
def test_the_examples_name_their_mistake_and_nothing_of_the_healthy_agent(example, tmp_path):
    wrong = {f.name for f in example.train(tmp_path / "mistaken", lr=0.1) if f.severity != "note"}
    assert {"runaway_kl", "collapsed_entropy"} <= wrong
    assert [f for f in example.train(tmp_path / "mended", lr=3e-4) if f.severity != "note"] == []


def test_the_rules_about_agents_know_space_progress_and_options():
    done = {"share": 0.0}
    rules = agent_rules(
        spaces.Discrete(4), {"entropy_coef": 0.0, "num_epochs": 50}, {"num_epochs": 10},
        lambda: done["share"], {"entropy_coef": "ent_coef", "num_epochs": "n_epochs"},
    )  # fmt: skip
    player = Player(name="", layers=(Layer("w", 4, 2),), lr=1e-3)
    context = Context(options={"optimizer.lr": 1e-3}, players=(player,))

    def signs(**values):
        history = History()
        for step in range(1, 10):
            history.add(
                step, {"episode/return": 0.0, **{k.replace("_", "/", 1): v for k, v in values.items()}}
            )
        return {sign.name: sign for rule in rules for sign in rule(history, context)}

    collapsed = signs(policy_entropy=0.01 * math.log(4))["collapsed_entropy"]
    assert collapsed.evidence["left"] == pytest.approx(0.01)
    assert collapsed.remedy == ("set ent_coef from 0.0 to 0.01",)
    assert "set n_epochs from 50 to 10" in signs(policy_approx_kl=2.0)["runaway_kl"].remedy
    assert "reward_scale" not in signs(policy_advantage_std=1.0)  # too early to say that nothing is won
    done["share"] = 0.5
    assert "reward_scale" in signs(policy_advantage_std=1.0)


def test_entropies_are_brought_to_actions_between_minus_one_and_one():
    box = spaces.Box(np.float32([-2, 0]), np.float32([2, 1]))
    assert in_our_units(1.5, box) == pytest.approx(1.5 - math.log(2) - math.log(0.5))
    assert in_our_units(1.5, spaces.Discrete(3)) == 1.5
