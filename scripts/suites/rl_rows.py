"""What `suite=rl` compares: our overrides, and the peer's class and keywords for the same work."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# CleanRL's ppo.py: 4 environments x 128 steps, 4 epochs x 4 minibatches, Adam at 2.5e-4 annealed to 0.
CLEANRL = [
    "agent=ppo",
    "env=cartpole",
    "experiment=none",
    "num_envs=4",
    "agent.num_steps=128",
    "agent.num_epochs=4",
    "agent.num_minibatches=4",
    "agent.gamma=0.99",
    "agent.gae_lambda=0.95",
    "agent.clip_coef=0.2",
    "agent.value_clip_coef=0.2",
    "agent.value_coef=0.5",
    "agent.entropy_coef=0.01",
    "optimizer=adam",
    "optimizer.lr=2.5e-4",
    "optimizer.eps=1e-5",
    "schedule=linear",
    "clipper=global_norm",
    "clipper.max_norm=0.5",
]
REPLAY = [
    "env=pendulum",
    "experiment=none",
    "num_envs=1",
    "agent.num_steps=1",
    "agent.learning_starts=500",
    "agent.batch_size=64",
    "policy.hidden_sizes=[64,64]",
    "clipper=none",
    "schedule=constant",
    "optimizer.lr=3e-4",
]


@dataclass(frozen=True)
class Row:
    """What is compared: our overrides, and the peer's class, environment and keywords.

    Attributes:
        rollout: environment steps between two updates, at most.
    """

    overrides: list[str]
    algorithm: str
    env: str
    num_envs: int
    options: Mapping[str, Any]
    rollout: int


SMALL = {
    "policy_kwargs": {"net_arch": [64, 64]},
    "learning_starts": 500,
    "batch_size": 64,
    "learning_rate": 3e-4,
}
OF_CLEANRL = {
    "n_steps": 128,
    "batch_size": 128,
    "n_epochs": 4,
    "learning_rate": lambda remaining: 2.5e-4 * remaining,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "clip_range_vf": 0.2,
    "ent_coef": 0.01,
    "vf_coef": 0.25,  # of the mean squared error, not of half of it
    "max_grad_norm": 0.5,
    "policy_kwargs": {"optimizer_kwargs": {"eps": 1e-5}},
}
LARGE = ["agent.batch_size=256", "policy.hidden_sizes=[256,256]"]
OF_LARGE = SMALL | {"policy_kwargs": {"net_arch": [256, 256]}, "batch_size": 256}
ROWS = {
    "cleanrl": Row(CLEANRL, "PPO", "CartPole-v1", 4, OF_CLEANRL, 512),
    "many_envs": Row(
        [*CLEANRL, "num_envs=1024", "agent.num_steps=32"],
        "PPO",
        "CartPole-v1",
        1024,
        OF_CLEANRL | {"n_steps": 32, "batch_size": 8192},
        32 * 1024,
    ),
    "zoo": Row(
        ["agent=ppo", "env=cartpole"],  # its page has rl-baselines3-zoo's settings
        "PPO",
        "CartPole-v1",
        8,
        {
            "n_steps": 32,
            "batch_size": 256,
            "n_epochs": 20,
            "learning_rate": lambda remaining: 1e-3 * remaining,
            "gamma": 0.98,
            "gae_lambda": 0.8,
            "clip_range": lambda remaining: 0.2 * remaining,
            "vf_coef": 0.25,
        },
        256,
    ),
    "halfcheetah": Row(
        [
            "agent=ppo",
            "env=halfcheetah",
            "experiment=none",
            "num_envs=1",
            "agent.num_steps=2048",
            "agent.num_epochs=10",
            "agent.num_minibatches=32",
            "optimizer.lr=3e-4",
        ],
        "PPO",
        "HalfCheetah-v5",
        1,
        {"n_steps": 2048, "batch_size": 64, "n_epochs": 10, "vf_coef": 0.25},
        2048,
    ),
    "sac": Row(["agent=sac", *REPLAY], "SAC", "Pendulum-v1", 1, SMALL, 1),
    "sac256": Row(["agent=sac", *REPLAY, *LARGE], "SAC", "Pendulum-v1", 1, OF_LARGE, 1),
    "td3_256": Row(["agent=td3", *REPLAY, *LARGE], "TD3", "Pendulum-v1", 1, OF_LARGE, 1),
    "td3": Row(["agent=td3", *REPLAY], "TD3", "Pendulum-v1", 1, SMALL, 1),
}
