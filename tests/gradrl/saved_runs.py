"""Run directories of untrained agents, written without a training."""

import numpy as np
import torch
from gymnasium import spaces

from core.run import checkpoint
from core.run.files import to_yaml, write_text
from core.run.saved import write_interface
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.policies.encoders import ConvolutionConfig
from gradrl.policies.networks import ActorCritic, MLPConfig
from gradrl.policies.q_networks import (
    DeterministicActorCritics,
    QNetworksConfig,
    StochasticActorCritics,
    StochasticConfig,
)
from gradrl.policies.recurrent import RecurrentActorCritic, RecurrentConfig
from gradrl.policy import interface_of, normalizer_of

CONVOLUTIONS = {"channels": [2], "kernel_sizes": [8], "strides": [4], "features": 6}
KINDS = {
    "actor_critic": (ActorCritic, MLPConfig, {"hidden_sizes": [8], "orthogonal": False}),
    "recurrent": (
        RecurrentActorCritic,
        RecurrentConfig,
        {"hidden_sizes": [8], "orthogonal": False, "recurrent_size": 5},
    ),
    "ddpg": (DeterministicActorCritics, QNetworksConfig, {"hidden_sizes": [8], "num_critics": 1}),
    "sac": (StochasticActorCritics, StochasticConfig, {"hidden_sizes": [8], "num_critics": 2}),
}
BOX3 = spaces.Box(-1, 1, (3,))
NESTED = spaces.Dict({
    "camera": spaces.Box(0, 255, (40, 50, 3), np.uint8),
    "joints": spaces.Tuple((spaces.Box(-9, 9, (2, 2), np.float64), spaces.Discrete(3, start=5))),
    "lamps": spaces.MultiBinary(2),
    "gear": spaces.MultiDiscrete([2, 3], start=[1, 0]),
})  # fmt: skip


def make_model(kind, observation_space, action_space, seed=0, **options):
    """Networks, and the options that a configuration would have of them."""
    cls, config, chosen = KINDS[kind]
    tree = {**chosen, "convolutions": CONVOLUTIONS, **options}
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in tree.items()}
    convolutions = ConvolutionConfig(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in CONVOLUTIONS.items()}
    )
    cfg = config(**{**plain, "convolutions": convolutions})
    generator = torch.Generator().manual_seed(seed)
    model = cls(cfg, Observation(observation_space), action_decoder(action_space), generator)
    return model, {"_target_": f"{cls.__module__}.{cls.__qualname__}", **tree}


def make_normalizer(observation_space, seed=0):
    """Statistics of some random observations."""
    observation = Observation(observation_space)
    normalizer = normalizer_of(observation)
    if normalizer is not None:
        rows = np.random.default_rng(seed).normal(1, 3, (50, observation.size)).astype(observation.raw_dtype)
        normalizer.update(rows)
    return normalizer


def write_run(
    directory, kind="actor_critic", observation_space=BOX3, action_space=None, normalize=False, **options
):
    """A run directory; its networks and normalisation."""
    action_space = action_space or spaces.Discrete(4)
    model, tree = make_model(kind, observation_space, action_space, **options)
    normalizer = make_normalizer(observation_space) if normalize else None
    options = {"_target_": "gradrl.train.TrainConfig", "policy": tree, "normalize_observation": normalize}
    write_text(directory / "config.yaml", to_yaml(options))
    write_interface(directory, interface_of(observation_space, action_space))
    state = {"policy": model.state_dict(), "run": {"step": 7}}
    if normalizer is not None:
        state["observation_normalizer"] = normalizer.state_dict()
    for name in ("last", "best"):
        checkpoint.save(directory / "checkpoints" / f"{name}.pt", state)
    return model, normalizer
