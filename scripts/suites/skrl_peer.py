"""skrl's PPO with the hyperparameters of a row, as the second peer of `suite=rl`.

The loss, the loop and the memory are skrl's; the networks are those of the row, since skrl leaves them to its
users. Two things differ from CleanRL, because skrl has no option for them: its clipped value loss is that of
the clipped prediction alone, without the maximum with the other one, and it normalises the advantages of a
whole rollout. The number of environment steps and of gradient steps is the same.
"""

import logging
import math
import time
from typing import Any

import gymnasium as gym
import numpy as np
import skrl  # pyright: ignore[reportMissingImports]
import torch
from gymnasium.vector import AutoresetMode
from skrl.agents.torch.base import ExperimentCfg  # pyright: ignore[reportMissingImports]
from skrl.agents.torch.ppo import PPO  # pyright: ignore[reportMissingImports]
from skrl.envs.wrappers.torch import wrap_env  # pyright: ignore[reportMissingImports]
from skrl.memories.torch import RandomMemory  # pyright: ignore[reportMissingImports]
from skrl.models.torch import (  # pyright: ignore[reportMissingImports]
    CategoricalMixin,
    DeterministicMixin,
    Model,
)
from skrl.trainers.torch import SequentialTrainer  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn
from torch.distributions import Distribution

from core.seeding import seed_globally

from .rl_rows import Row

Distribution.set_default_validate_args(__debug__)  # skrl has turned it off for the whole process
logging.getLogger("skrl").setLevel(logging.ERROR)
WIDTH = 64


def layers(inputs: int, outputs: int, gain: float) -> nn.Sequential:
    """Two hidden layers of tanh, initialised as CleanRL's."""
    net = nn.Sequential(nn.Linear(inputs, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh())
    net.append(nn.Linear(WIDTH, outputs))
    for layer, scale in zip(net[::2], (math.sqrt(2), math.sqrt(2), gain), strict=True):
        assert isinstance(layer, nn.Linear)
        nn.init.orthogonal_(layer.weight, scale)
        nn.init.zeros_(layer.bias)
    return net


class Actor(CategoricalMixin, Model):
    """Logits of the actions."""

    def __init__(self, **about: Any) -> None:
        Model.__init__(self, **about)
        CategoricalMixin.__init__(self)
        self.net = layers(self.num_observations, self.num_actions, 0.01)

    def compute(self, inputs: dict[str, Any], role: str) -> tuple[Tensor, dict[str, Any]]:
        """Logits [N, A]."""
        return self.net(inputs["observations"]), {}


class Critic(DeterministicMixin, Model):
    """The value of an observation."""

    def __init__(self, **about: Any) -> None:
        Model.__init__(self, **about)
        DeterministicMixin.__init__(self)
        self.net = layers(self.num_observations, 1, 1.0)

    def compute(self, inputs: dict[str, Any], role: str) -> tuple[Tensor, dict[str, Any]]:
        """Values [N, 1]."""
        return self.net(inputs["observations"]), {}


def learner(row: Row, steps: int, envs: Any) -> PPO:
    """An agent with the numbers that the row gives stable-baselines3."""
    options = row.options
    iterations = steps // row.rollout
    about = {
        "observation_space": envs.observation_space, "action_space": envs.action_space, "device": "cpu",
    }  # fmt: skip
    cfg = {
        "rollouts": options["n_steps"],
        "learning_epochs": options["n_epochs"],
        "mini_batches": row.rollout // options["batch_size"],
        "discount_factor": options["gamma"],
        "gae_lambda": options["gae_lambda"],
        "learning_rate": options["learning_rate"](1.0),
        "learning_rate_scheduler": torch.optim.lr_scheduler.LambdaLR,
        "learning_rate_scheduler_kwargs": {  # stepped at every epoch
            "lr_lambda": lambda epoch: 1 - epoch // options["n_epochs"] / iterations
        },
        "ratio_clip": options["clip_range"],
        "value_clip": options["clip_range_vf"],
        "entropy_loss_scale": options["ent_coef"],
        "value_loss_scale": options["vf_coef"],
        "grad_norm_clip": options["max_grad_norm"],
        "experiment": ExperimentCfg(write_interval=0, checkpoint_interval=0),
    }
    memory = RandomMemory(memory_size=options["n_steps"], num_envs=row.num_envs, device="cpu")
    models = {"policy": Actor(**about), "value": Critic(**about)}
    agent = PPO(models=models, memory=memory, cfg=cfg, **about)
    agent.optimizer.param_groups[0]["eps"] = options["policy_kwargs"]["optimizer_kwargs"]["eps"]
    return agent


def trained(row: Row, steps: int, seed: int, episodes: int) -> tuple[int, float, float]:
    """A run of it: environment steps, CPU seconds of its loop, the mean return of its most likely actions."""
    seed_globally(seed)
    skrl.config.torch.key = seed  # of the environments
    vector = {"autoreset_mode": AutoresetMode.SAME_STEP}  # otherwise a reset would count as a step
    made = gym.make_vec(row.env, row.num_envs, vectorization_mode="sync", vector_kwargs=vector)
    envs = wrap_env(made, wrapper="gymnasium", verbose=False)
    agent = learner(row, steps, envs)
    options = {"timesteps": steps // row.num_envs, "headless": True, "disable_progressbar": True}
    trainer = SequentialTrainer(env=envs, agents=agent, cfg={**options, "close_environment_at_exit": False})
    Distribution.set_default_validate_args(False)  # as skrl has it
    began = time.process_time()
    try:
        trainer.train()
    finally:
        cpu_s = time.process_time() - began
        Distribution.set_default_validate_args(__debug__)
        made.close()
    taken = row.num_envs * options["timesteps"]
    return taken, cpu_s, mean_return(agent.policy.net, row.env, episodes, 10_000 + seed)


@torch.no_grad()
def mean_return(net: nn.Module, env: str, episodes: int, seed: int) -> float:
    """The mean return of the first episodes of as many environments, by the most likely actions."""
    envs = gym.make_vec(env, episodes, vectorization_mode="sync")
    obs, _ = envs.reset(seed=seed)
    total, running = 0.0, np.ones(episodes, bool)
    while running.any():
        actions = net(torch.as_tensor(obs)).argmax(-1).numpy()
        obs, rewards, terminated, truncated, _ = envs.step(actions)
        total += rewards[running].sum()
        running &= ~(terminated | truncated)
    envs.close()
    return float(total / episodes)
