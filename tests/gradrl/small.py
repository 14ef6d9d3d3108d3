"""A small model, a random rollout and an agent over them: what tests of on-policy agents share."""

import dataclasses

import numpy as np
import torch
from gymnasium import spaces

from core.config import Component
from core.optim.schedules import Constant
from gradrl.agent import Learning
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.experience.rollout import Rollout
from gradrl.policies.networks import ActorCritic, MLPConfig

DISCRETE, BOX = spaces.Discrete(2), spaces.Box(-1.0, 1.0, (2,), np.float32)


def small_model(action=DISCRETE, seed=0, hidden=(8,), shared=False):
    """Actor and critic of three observations, without the tiny last layer that hides mistakes."""
    return ActorCritic(
        MLPConfig(hidden_sizes=hidden, orthogonal=False, shared=shared),
        Observation(spaces.Box(-1, 1, (3,))),
        action_decoder(action),
        torch.Generator().manual_seed(seed),
    )


def small_agent(agent, config, lr=1e-2, clipper=None, schedule=None, model=None, **options):
    """An agent over a small model."""
    adam = Component(torch.optim.Adam, {"lr": lr}, "optimizer")
    cfg = config(**{"num_steps": 8} | options)
    generator = torch.Generator().manual_seed(1)
    return agent(
        cfg,
        model or small_model(),
        Learning(optimizer=adam, clipper=clipper, schedule=schedule or Constant()),
        generator,
    )


def small_rollout(t=8, n=4, seed=0, invalid=(), action=DISCRETE):
    """Random numbers in the shape of a rollout; one truncated step has a final observation of its own."""
    g = torch.Generator().manual_seed(seed)
    valid = torch.ones(t, n, dtype=torch.bool)
    for place in invalid:
        valid[place] = False
    terminated, truncated = (torch.rand(t, n, generator=g) < 0.1 for _ in range(2))
    row, column = divmod(5, n)
    terminated[row, column], truncated[row, column] = False, True
    discrete = isinstance(action, spaces.Discrete)
    return Rollout(
        obs=torch.randn(t + 1, n, 3, generator=g),
        action=torch.randint(2, (t, n), generator=g) if discrete else torch.randn(t, n, 2, generator=g),
        reward=torch.randn(t, n, generator=g),
        terminated=terminated,
        truncated=truncated,
        valid=valid,
        num_valid=int(valid.sum()),
        final_index=torch.tensor([5]),
        final_obs=torch.randn(1, 3, generator=g),
        terminal_index=torch.zeros(0, dtype=torch.int64),
        terminal_obs=torch.zeros(0, 3),
        episode_start=torch.zeros(t + 1, n, dtype=torch.bool),
        recurrent_state=torch.zeros(n, 0),
    )


def in_float64(rollout):
    """The same with all floating tensors in double precision."""
    tensors = {f.name: getattr(rollout, f.name) for f in dataclasses.fields(rollout)}
    return Rollout(**{
        name: x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
        for name, x in tensors.items()
    })  # fmt: skip


def parameters(agent):
    """Copies of all parameters of its model."""
    return [p.detach().clone() for p in agent.model.parameters()]
