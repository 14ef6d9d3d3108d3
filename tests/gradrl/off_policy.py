"""Small agents that learn from a replay, and something to learn from: what their tests share."""

import numpy as np
import torch
from gymnasium import spaces

from core.config import Component
from core.optim.schedules import Constant
from gradrl.agent import Learning
from gradrl.agents.ddpg import DDPG, DDPGConfig
from gradrl.agents.sac import SAC, SACConfig
from gradrl.agents.td3 import TD3, TD3Config
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.policies.q_networks import (
    DeterministicActorCritics,
    QNetworksConfig,
    StochasticActorCritics,
    StochasticConfig,
)
from tests.gradrl.rollouts import random_rollout

BOX, CHOICE = spaces.Box(-2, 2, (2,), np.float32), spaces.Discrete(3)
KINDS = {
    "ddpg": (DDPG, DDPGConfig, DeterministicActorCritics, 1, BOX),
    "td3": (TD3, TD3Config, DeterministicActorCritics, 2, BOX),
    "sac": (SAC, SACConfig, StochasticActorCritics, 2, BOX),
    "sac_discrete": (SAC, SACConfig, StochasticActorCritics, 2, CHOICE),
}


def make(kind, *, size=3, space=None, hidden=(8,), lr=1e-2, schedule=None, seed=0, network=None, **options):
    agent, config, networks, num_critics, default_space = KINDS[kind]
    options = {"learning_starts": 10, "replay_size": 4096, "batch_size": 16, "tau": 0.1} | options
    shape = StochasticConfig if networks is StochasticActorCritics else QNetworksConfig
    model = networks(
        shape(num_critics=num_critics, hidden_sizes=hidden, **(network or {})),
        Observation(spaces.Box(-1, 1, (size,), np.float32)),
        action_decoder(space or default_space),
        torch.Generator().manual_seed(seed),
    )
    optimizer = Component(torch.optim.Adam, {"lr": lr}, "optimizer")
    generator = torch.Generator().manual_seed(seed + 1)
    return agent(
        config(**options),
        model,
        Learning(optimizer=optimizer, clipper=None, schedule=schedule or Constant()),
        generator,
    )


def filled(kind, **options):
    """An agent with experience, whose target networks are not the trained ones (as they are at first)."""
    agent = make(kind, **options)
    agent.observe(random_rollout(40, 2, discrete=kind == "sac_discrete"))
    random = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for target in agent.targets:
            for p in target.net.parameters():
                p.add_(0.3 * torch.randn(p.shape, generator=random))
    return agent


def experience(kind, seed, t=4):
    return random_rollout(t, 2, seed, discrete=kind == "sac_discrete")


def parameters(agent):
    return torch.cat([p.detach().flatten() for p in agent.model.parameters()])


def copies(*modules):
    return [torch.cat([p.detach().flatten() for p in m.parameters()]).clone() for m in modules]
