"""What the training loop asks of an agent, of its options and of its networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch

from core.config import Component
from core.gradients import Clipper, GradientStep, Metrics, MonitorConfig, Objective
from core.optim.schedules import Schedule
from core.state import Stateful
from gradrl.experience.rollout import Rollout
from gradrl.policies.actor import Actor
from gradrl.policies.target import Target


class AgentConfig(Protocol):
    """Options that every agent has."""

    @property
    def num_steps(self) -> int:
        """T, steps per rollout and environment."""
        ...

    @property
    def gamma(self) -> float:
        """Discount per step."""
        ...

    def minibatches(self, num_envs: int) -> tuple[int, int]:
        """Gradient steps of the policy on each rollout, at most, and samples of each.

        Raises:
            ValueError: this number of environments does not fit the options; it names the option.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How the parameters of an agent move.

    Attributes:
        optimizer: builds the optimizer of each of its gradient steps.
        clipper: transform of the gradients, a chain of them, or None.
        schedule: multiplier of the learning rates over the progress of training.
        monitor: what is measured of the gradients; None = what there is by default.
    """

    optimizer: Component
    clipper: Clipper | None
    schedule: Schedule
    monitor: MonitorConfig | None = None


class Agent(Stateful, Protocol):
    """Learns from rollouts: from each once (on-policy), or from a replay that it keeps of them (off-policy).

    Its state is all that it has besides the model and the gradient steps.

    The launcher makes one as `Class(cfg, model, learning, generator)`: its options, its networks on their
    device, a `Learning`, and the generator of its random numbers, on the model's device.

    Attributes:
        measures: metrics of its updates that a schedule may follow.
        model_type: the class of its networks.
        off_policy: it learns from old experience too, which running normalisation would leave on old scales.
    """

    measures: ClassVar[tuple[str, ...]]
    model_type: ClassVar[type]
    off_policy: ClassVar[bool]

    @property
    def gradient_steps(self) -> Sequence[GradientStep]:
        """One per player; the first one's steps are the run's updates."""
        ...

    @property
    def targets(self) -> Sequence[Target]:
        """Slow copies of its networks, the critics' first; empty where there are none."""
        ...

    def make_actor(self, generator: np.random.Generator) -> Actor:
        """What acts while experience is collected."""
        ...

    def update(self, rollout: Rollout, progress: float) -> Metrics:
        """Learn from a rollout of the actor.

        Args:
            rollout: everything that has happened since the last update.
            progress: share of the training done, in [0, 1]; drives the schedules.
        """
        ...

    def observe(self, rollout: Rollout) -> object:
        """Take in a rollout without learning from it."""
        ...

    def objectives(self) -> Sequence[tuple[Objective, GradientStep]]:
        """The losses on a frozen batch, each with its step: what probes look at; none before the first."""
        ...


class Model(Protocol):
    """Networks that act."""

    def make_actor(self, generator: np.random.Generator, *, deterministic: bool = False) -> Actor:
        """The policy at work, sampled or its most likely actions."""
        ...


class AgentModel(Model, Stateful, Protocol):
    """Networks of an agent: a module that acts."""

    def to(self, device: torch.device) -> "AgentModel":
        """The same module on a device."""
        ...
