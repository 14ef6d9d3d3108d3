"""Actions that are not allowed: never chosen, and nothing is learnt about them."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from core.config import Component
from core.optim.schedules import Constant
from gradrl.agent import Learning
from gradrl.agents.ppo import PPO, PPOConfig
from gradrl.agents.ppo_recurrent import PPORecurrent, PPORecurrentConfig
from gradrl.collector import Collector
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.policies.networks import ActorCritic, MLPConfig
from gradrl.policies.recurrent import RecurrentActorCritic, RecurrentConfig

NEVER = 2  # the action that no state allows


class Corridor(gym.Env):
    """Five cells; left and right where there is no wall, and two doors that are locked for ever."""

    observation_space = spaces.Dict({"cell": spaces.Discrete(5), "action_mask": spaces.MultiBinary(4)})
    action_space = spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = int(self.np_random.integers(5))
        return self._seen(), {}

    def step(self, action):
        assert self._seen()["action_mask"][action], "an action that is not allowed"
        self.cell += 1 if action == 3 else -1
        return self._seen(), float(self.cell == 4), self.np_random.random() < 0.2, False, {}

    def _seen(self):
        mask = np.array([self.cell > 0, False, False, self.cell < 4], np.int8)
        return {"cell": self.cell, "action_mask": mask}


def make(kind):
    observation, action = (
        Observation(Corridor.observation_space),
        action_decoder(Corridor.action_space),
    )
    adam = Component(torch.optim.Adam, {"lr": 1e-2}, "optimizer")
    generator = torch.Generator().manual_seed(0)
    options = {"num_steps": 16, "num_epochs": 2, "num_minibatches": 2, "entropy_coef": 0.1}
    if kind == "ppo":
        net = ActorCritic(MLPConfig(hidden_sizes=(8,), orthogonal=False), observation, action, generator)
        learner = PPO(
            PPOConfig(**options), net, Learning(optimizer=adam, clipper=None, schedule=Constant()), generator
        )
        return learner, net, observation, action
    net = RecurrentActorCritic(
        RecurrentConfig(recurrent_size=8, orthogonal=False), observation, action, generator
    )
    learner = PPORecurrent(
        PPORecurrentConfig(**options),
        net,
        Learning(optimizer=adam, clipper=None, schedule=Constant()),
        generator,
    )
    return learner, net.head, observation, action


@pytest.mark.parametrize("kind", ["ppo", "recurrent"])
@pytest.mark.parametrize(
    "autoreset", [gym.vector.AutoresetMode.SAME_STEP, gym.vector.AutoresetMode.NEXT_STEP]
)
def test_a_masked_action_is_never_chosen_and_gets_no_gradient(kind, autoreset):
    learner, net, observation, action = make(kind)
    envs = gym.vector.SyncVectorEnv([Corridor] * 4, autoreset_mode=autoreset)
    collector = Collector(envs, observation, action, 16, [0, 1, 2, 3])
    actor = learner.make_actor(np.random.default_rng(0))
    last = net.actor[-1]
    before = last.weight.detach().clone(), last.bias.detach().clone()
    for _ in range(5):
        rollout = collector.collect(actor)
        chosen = rollout.obs[:-1][..., observation.mask].gather(-1, rollout.action[..., None])[..., 0]
        assert (chosen[rollout.valid] == 1).all()
        learner.update(rollout, 0.0)
    batch, _ = learner.observe(rollout)
    sum(learner.loss(batch)[0].values()).backward()
    allowed = torch.tensor([True, False, False, True])
    for parameter, old in zip((last.weight, last.bias), before, strict=True):
        assert (parameter.grad[~allowed] == 0).all()
        assert torch.equal(parameter.detach()[~allowed], old[~allowed])
        assert (parameter.detach()[allowed] != old[allowed]).any()
    envs.close()


def test_the_most_likely_of_the_allowed_actions_is_the_mode():
    learner, net, observation, _ = make("ppo")
    with torch.no_grad():
        net.actor[-1].bias[NEVER] = 100.0
    actor = net.make_actor(np.random.default_rng(0), deterministic=True)
    actor.begin(5)
    mask = np.array([[cell > 0, False, False, cell < 4] for cell in range(5)], np.int8)
    obs = observation.encode({"cell": np.arange(5), "action_mask": mask})
    action = actor(obs, np.ones(5, bool))
    assert mask[np.arange(5), action].all()
    assert learner.model.policy(torch.from_numpy(obs)).mode().tolist() == action.tolist()
