"""Exploration noise, added in NumPy to the actions of a deterministic policy; one row per environment."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from core.checks import Finite, checked, require
from core.state import StateDict
from gradrl.experience.shares import own_envs, shared_list


@dataclass(frozen=True, kw_only=True)
@checked
class NoiseConfig:
    """Which process, and how strong.

    Attributes:
        kind: gaussian, independent at every step, or ornstein_uhlenbeck, which drifts back to 0 and so pushes
            the same way for a while.
        std: of a gaussian step; sigma of the Ornstein-Uhlenbeck process. In units of the action, whose box
            spans [-1, 1].
        theta: pull towards 0 per unit of time, of ornstein_uhlenbeck.
        dt: time per step, of ornstein_uhlenbeck. Its correlation fades over 1 / (theta dt) steps, its
            deviation approaches std / sqrt(2 theta).
    """

    kind: Literal["gaussian", "ornstein_uhlenbeck"] = "gaussian"
    std: Annotated[float, Ge(0), Finite] = 0.1
    theta: Annotated[float, Gt(0), Finite] = 0.15
    dt: Annotated[float, Gt(0), Finite] = 0.01

    def __post_init__(self) -> None:
        require(self.theta * self.dt <= 1, "dt", self.dt, f"at most 1 / theta = {1 / self.theta:g}")


class Gaussian:
    """Normal noise, independent from step to step.

    Args:
        cfg: how strong.
        generator: draws it.
    """

    def __init__(self, cfg: NoiseConfig, generator: np.random.Generator) -> None:
        self.std = np.float32(cfg.std)
        self.generator = generator

    def __call__(self, shape: tuple[int, int], episode_start: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Noise of shape [N, A]; `episode_start` [N] plays no part."""
        return self.std * self.generator.standard_normal(shape, dtype=np.float32)

    def state_dict(self) -> StateDict:
        """Nothing: the generator is saved by its owner."""
        return {}

    def load_state_dict(self, state: StateDict) -> None:
        """Nothing to do."""


class OrnsteinUhlenbeck:
    """Correlated noise: one independent process per environment and dimension of the action.

        x <- x - theta x dt + std sqrt(dt) n,   n ~ N(0, 1);   x = 0 before an episode's first step

    Args:
        cfg: its constants.
        generator: draws n.

    Source: Uhlenbeck and Ornstein 1930; for exploration, Lillicrap et al. 2016, arXiv:1509.02971, section 7.
    """

    def __init__(self, cfg: NoiseConfig, generator: np.random.Generator) -> None:
        self.keep = np.float32(1 - cfg.theta * cfg.dt)
        self.scale = np.float32(cfg.std * math.sqrt(cfg.dt))
        self.generator = generator
        self.x: NDArray[np.float32] = np.zeros((0, 0), np.float32)

    def __call__(self, shape: tuple[int, int], episode_start: NDArray[np.bool_]) -> NDArray[np.float32]:
        """The next noise of every environment.

        Args:
            shape: [N, A].
            episode_start: the environment begins an episode, [N].
        """
        before = self.x if self.x.shape == shape else np.zeros(shape, np.float32)
        before = np.where(episode_start[:, None], np.float32(0), before)
        noise = self.generator.standard_normal(shape, dtype=np.float32)
        self.x = (self.keep * before + self.scale * noise).astype(np.float32, copy=False)
        return self.x

    def state_dict(self) -> StateDict:
        """Where every process stands, of all ranks' environments."""
        return {"x": torch.from_numpy(np.concatenate(shared_list([self.x])))}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        x = state["x"].cpu().numpy()
        self.x = x[own_envs(len(x))].copy()


def make_noise(cfg: NoiseConfig, generator: np.random.Generator) -> Gaussian | OrnsteinUhlenbeck:
    """The configured process."""
    return (Gaussian if cfg.kind == "gaussian" else OrnsteinUhlenbeck)(cfg, generator)
