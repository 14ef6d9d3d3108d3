"""A reward for crossing into what is new, once an episode."""

import copy
import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from core.cli.launch import compose_tree
from core.config import build, config_dir
from gradrl.agents.ppo_noveld import NovelD, PPONovelD, PPONovelDConfig
from gradrl.agents.ppo_rnd import PPORND, PPORNDConfig
from gradrl.collector import Collector
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.train import check
from tests.gradrl.agents.test_ppo_rnd import model
from tests.gradrl.scripted import Scripted
from tests.gradrl.small import small_agent, small_rollout

LAST = 4  # where the walk ends


class Walk(gym.Env):
    """A walk along five places that ends at the last or after 12 steps, and keeps count of its visits."""

    observation_space = spaces.Box(0, LAST, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self):
        self.first = []  # of every step: whether its place is new in its episode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(LAST))
        self.places, self.steps = [self.place], 0
        return self.observation(), {}

    def step(self, action):
        self.place = max(self.place + (1 if self.np_random.random() < 0.45 else -1), 0)
        self.steps += 1
        self.first.append(self.places.count(self.place) == 0)
        self.places.append(self.place)
        return self.observation(), 0.0, self.place == LAST, self.steps == 12, {}

    def observation(self):
        return np.array([self.place, 1, self.place == 2], np.float32)


def walks(autoreset, num_steps=7, num_envs=3):
    """A collector of walks, and the walks."""
    envs = SyncVectorEnv([Walk] * num_envs, autoreset_mode=autoreset)
    decoder = action_decoder(Walk.action_space)
    collector = Collector(envs, Observation(Walk.observation_space), decoder, num_steps, [*range(num_envs)])
    return collector, envs.envs


def noveld(alpha=0.5, gamma=0.9):
    return NovelD(model(), gamma, alpha)


def agent(**options):
    options = {"num_epochs": 2, "num_minibatches": 4} | options
    return small_agent(PPONovelD, PPONovelDConfig, model=model(), **options)


@pytest.mark.parametrize("autoreset", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_first_visits_are_those_that_the_environment_itself_counts(autoreset):
    """Over rollouts shorter than episodes, last observations and the first of an episode included."""
    collector, copies = walks(autoreset)
    actor = Scripted(lambda obs: np.zeros(len(obs), np.int64))
    novelty, found, ended = noveld(), [[] for _ in copies], 0
    for _ in range(30):
        rollout = collector.collect(actor)
        first = novelty.first_visits(rollout)
        assert not first[~rollout.valid].any()
        ended += int((rollout.terminated | rollout.truncated).sum())
        for n, steps in enumerate(found):
            steps += first[:, n][rollout.valid[:, n]].tolist()
    assert found == [walk.first for walk in copies]
    assert ended > 50
    assert 0.2 < np.mean([each for steps in found for each in steps]) < 0.8


def test_the_reward_is_the_gain_of_novelty_at_first_visits_over_the_deviation_of_its_discounted_sum():
    novelty = noveld(alpha=0.2, gamma=0.9)
    data = small_rollout(invalid=[(2, 1)])
    data.obs[4, 0] = data.obs[2, 0]  # step 3 of the first environment leads back
    data.obs[7, 2] = data.obs[5, 2]
    data.episode_start[6, 2] = True  # but this one to where only the episode before has been
    rows = novelty.rows(data)
    reward = novelty.reward(data, rows)
    led_to = data.obs[1:].clone()
    led_to[1, 1] = data.final_obs[0]
    moments = novelty.moments
    with torch.no_grad():
        new, old = (
            novelty.model.novelty(
                torch.from_numpy((x.numpy() - moments.mean) / moments.variance**0.5).clamp(-5, 5).float()
            ).double()
            for x in (led_to, data.obs[:-1])
        )
    running, sums, expected = [0.0] * 4, [], torch.zeros(8, 4).double()
    for t in range(8):
        for n in range(4):
            if data.valid[t, n]:
                again = (t, n) == (3, 0)
                expected[t, n] = 0.0 if again else max(float(new[t, n]) - 0.2 * float(old[t, n]), 0.0)
                running[n] = 0.9 * running[n] + float(expected[t, n])
                sums.append(running[n])
    assert (expected == 0).sum() > 2
    assert (expected > 0).sum() > 10
    assert expected[6, 2] > 0
    torch.testing.assert_close(reward.double(), expected / np.std(sums), rtol=1e-4, atol=1e-5)


def test_where_everything_is_new_and_alpha_is_0_the_reward_is_noveltys():
    data = small_rollout(invalid=[(2, 1)])
    options = {"num_epochs": 2, "num_minibatches": 4, "model": model()}
    plain, ours = small_agent(PPORND, PPORNDConfig, **options), agent(previous_coef=0.0)
    for learner in (plain, ours):
        learner.observe(data)
    assert torch.equal(plain.intrinsic_reward, ours.intrinsic_reward)
    less = agent(previous_coef=1.0)
    less.observe(data)
    assert not torch.equal(less.intrinsic_reward, ours.intrinsic_reward)


def test_an_update_goes_on_from_its_state_in_the_middle_of_an_episode():
    first, data = agent(), small_rollout()
    assert first.state_dict()["curiosity"]["visited"] is None
    first.update(data, 0.0)
    second = agent()
    second.model.load_state_dict(first.model.state_dict())
    second.generator.set_state(first.generator.get_state())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for a, b in zip(first.gradient_steps, second.gradient_steps, strict=True):
        b.load_state_dict(copy.deepcopy(a.state_dict()))
    again = dataclasses.replace(small_rollout(seed=1), obs=data.obs)  # all but the last has been visited
    metrics = [learner.update(again, 0.5) for learner in (first, second)]
    assert metrics[0] == metrics[1]
    assert metrics[0]["novelty/reward"] < 1e-2  # what the truncated step led to is alone new
    assert torch.equal(first.intrinsic_reward, second.intrinsic_reward)
    assert int((first.intrinsic_reward > 0).sum()) <= 1


def test_a_state_of_another_form_is_refused_by_its_place():
    state = agent().state_dict()
    state["curiosity"] |= {"visited": [torch.zeros(3, 4, dtype=torch.uint8)]}
    with pytest.raises(ValueError, match=r"^size mismatch for visited.0: \[3, 4\], not "):
        agent().load_state_dict(state)


@pytest.mark.parametrize("value", [-0.1, float("inf")])
def test_alpha_out_of_range_is_refused_by_name_and_value(value):
    with pytest.raises(ValueError, match=f"^previous_coef must be .*, got {value!r}$"):
        PPONovelDConfig(previous_coef=value)


def test_observations_on_a_scale_that_moves_are_refused():
    overrides = ["agent=ppo_noveld", "env=mountain_car", "experiment=none", "normalize_observation=true"]
    cfg = build(compose_tree("rl", overrides, [config_dir()])[0])
    with pytest.raises(
        ValueError, match=r"^normalize_observation must be false for PPONovelD, .*, got 'true'$"
    ):
        check(cfg)
