"""What DDPG, TD3 and SAC share: options of learning from a replay, exploration, rounds of gradient steps."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
import torch
from annotated_types import Ge, Interval
from numpy.typing import NDArray
from torch import Tensor, nn

from core.checks import Finite, checked, require
from core.gradients import GradientStep, Metrics, Objective, as_transforms
from core.gradients.ranks import num_ranks
from core.optim.factory import build_optimizer
from core.optim.groups import own_groups
from core.optim.schedules import Schedule, ScheduledRate
from core.state import StateDict
from gradrl.agent import Learning
from gradrl.envs.spaces import BoxAction, DiscreteAction
from gradrl.experience.replay import Replay, Transitions
from gradrl.experience.rollout import Rollout
from gradrl.losses import mean_metrics
from gradrl.policies.actor import Actor
from gradrl.policies.exploration_noise import Gaussian, OrnsteinUhlenbeck
from gradrl.policies.numpy_policy import Array
from gradrl.policies.q_networks import Critics
from gradrl.q_losses import critic_loss


@dataclass(frozen=True, kw_only=True)
@checked
class OffPolicyConfig:
    """Options of every agent that learns from a replay.

    Attributes:
        num_steps: T, environment steps between two rounds of learning, per environment.
        gradient_steps: of one round; None = as many as transitions came in.
        learning_starts: transitions with uniformly random actions before the first round.
        replay_size: transitions kept.
        batch_size: B, transitions of one gradient step.
        gamma: discount per step.
        tau: how far the target networks move towards the learnt ones at every gradient step; in (0, 1].
        critic_lr: learning rate of the critics; None = the actor's, optimizer.lr.
    """

    num_steps: Annotated[int, Ge(1)] = 1
    gradient_steps: Annotated[int | None, Ge(1)] = 1
    learning_starts: int = 10_000
    replay_size: Annotated[int, Ge(1)] = 1_000_000
    batch_size: Annotated[int, Ge(1)] = 256
    gamma: Annotated[float, Interval(ge=0, le=1)] = 0.99
    tau: Annotated[float, Interval(gt=0, le=1)] = 0.005
    critic_lr: Annotated[float | None, Ge(0), Finite] = None

    def __post_init__(self) -> None:
        ok = 0 <= self.learning_starts <= self.replay_size
        allowed = f"in [0, replay_size = {self.replay_size}]"
        require(ok, "learning_starts", self.learning_starts, allowed)

    def minibatches(self, num_envs: int) -> tuple[int, int]:
        """Gradient steps after each rollout, and samples of each."""
        return self.gradient_steps or self.num_steps * num_envs, self.batch_size


def gradient_step(
    name: str,
    parameters: nn.Module | Iterable[tuple[str, Tensor]],
    learning: Learning,
    batch_size: int,
    lr: float | None = None,
) -> GradientStep:
    """One player's step.

    Args:
        name: in front of its tags: actor, critic or temperature. In the patterns of `optimizer.groups` it is
            also in front of its parameters, as in the model's own names.
        parameters: of its own.
        learning: of its optimizer's groups the player takes those that have parameters of its own.
        batch_size: transitions behind each gradient, of all ranks.
        lr: instead of the optimizer's own; None keeps that.
    """
    named = list(parameters.named_parameters() if isinstance(parameters, nn.Module) else parameters)
    in_model = [(f"{name}.{own}", p) for own, p in named]
    optimizer = build_optimizer(own_groups(learning.optimizer, in_model), in_model, lr)
    transforms = as_transforms(learning.clipper)
    samples = batch_size // num_ranks()
    return GradientStep(named, optimizer, transforms, name=name, batch_size=samples, monitor=learning.monitor)


def measured_critic_loss(critic: Critics, batch: Transitions, target: Tensor) -> tuple[Tensor, Metrics]:
    """What moves every Q(s, a) towards the target of all, [B], and its metrics."""
    q = critic(batch.obs, batch.action)
    loss = critic_loss(q, target)
    return loss, {"loss/critic": loss.detach(), "value/q_mean": q.detach().mean()}


def critic_objective(critic: Critics, batch: Transitions, target: Tensor) -> Objective:
    """The loss of `measured_critic_loss` as a function of the critics' parameters: what probes look at."""

    def loss(forward: Callable[..., Tensor], obs: Tensor, action: Tensor, target: Tensor) -> Tensor:
        return critic_loss(forward(obs, action), target)

    rows = batch.obs, batch.action, target
    return Objective(critic, loss, rows, batch_names=("obs", "action", "target"))


class Explorer:
    """Uniformly random actions at first, then those of a policy, with noise if there is any.

    Args:
        actor: the policy at work.
        action: what the environment takes.
        generator: draws the random actions.
        at_random: whether actions are still to be uniformly random; asked before every rollout.
        noise: added to a policy's actions, which are then clipped to [-1, 1]; None = they are random enough.
    """

    def __init__(
        self,
        actor: Actor,
        action: BoxAction | DiscreteAction,
        generator: np.random.Generator,
        at_random: Callable[[], bool],
        noise: Gaussian | OrnsteinUhlenbeck | None = None,
    ) -> None:
        self.actor, self.action, self.generator = actor, action, generator
        self.at_random, self.noise = at_random, noise
        self.random = True

    def begin(self, num_envs: int) -> None:
        """Take over the parameters, unless they play no part yet."""
        self.random = self.at_random()
        self.actor.begin(num_envs)

    def __call__(self, obs: Array, episode_start: NDArray[np.bool_]) -> np.ndarray:
        """One action per environment, [N] or [N, A] in [-1, 1]."""
        if self.random:
            return self._uniform(len(obs))
        action = self.actor(obs, episode_start)
        if self.noise is None:
            return action
        return (action + self.noise(action.shape, episode_start)).clip(-1, 1)

    @property
    def recurrent_state(self) -> Array:
        """The policy's own."""
        return self.actor.recurrent_state

    def state_dict(self) -> StateDict:
        """The state of the policy and of the noise."""
        noise = {} if self.noise is None else self.noise.state_dict()
        return {"actor": self.actor.state_dict(), "noise": noise}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.actor.load_state_dict(state["actor"])
        if self.noise is not None:
            self.noise.load_state_dict(state["noise"])

    def _uniform(self, num_envs: int) -> np.ndarray:
        if isinstance(self.action, DiscreteAction):
            return self.generator.integers(self.action.size, size=num_envs)
        return self.generator.uniform(-1, 1, (num_envs, self.action.size)).astype(np.float32)


class Remembering(Protocol):
    """An agent with a replay."""

    replay: Replay


class ReplayLearner:
    """Rounds of gradient steps on a replay: what surrounds an agent's own update.

    Args:
        cfg: how many steps, from when on.
        schedule: learning rates' multiplier over the progress of training.
        steps: the players.
        device: where the replay is kept.

    Attributes:
        replay: the transitions so far.
    """

    def __init__(
        self, cfg: OffPolicyConfig, schedule: Schedule, steps: Sequence[GradientStep], device: torch.device
    ) -> None:
        self.cfg = cfg
        self.replay = Replay(cfg.replay_size, device)
        self.learning_rates = [ScheduledRate(schedule, step) for step in steps]

    @property
    def at_random(self) -> bool:
        """Whether actions are still to be uniformly random; with learning_starts = 0 not even the first."""
        return self.replay.total < self.cfg.learning_starts

    @property
    def warming_up(self) -> bool:
        """Whether there is too little experience to learn from."""
        return self.replay.total < max(self.cfg.learning_starts, 1)

    def round(self, rollout: Rollout, progress: float, update: Callable[[], Metrics]) -> Metrics:
        """Take a rollout in, then learn.

        Args:
            rollout: what has happened since the last round.
            progress: share of the training done, in [0, 1]; drives the schedules.
            update: takes one gradient step of every player whose turn it is.

        Returns:
            Means over the steps; empty while warming up.
        """
        self.replay.add(rollout)
        if self.warming_up:
            return {}
        for rate in self.learning_rates:
            rate.set(progress)
        metrics = mean_metrics([update() for _ in range(self.cfg.gradient_steps or rollout.num_valid)])
        for rate in self.learning_rates:
            rate.observe(metrics)
        return metrics

    def frozen_batch(self) -> Transitions:
        """The same transitions for every probe of this moment, also after a resumption."""
        return self.replay.sample(self.cfg.batch_size, self.frozen_generator())

    def frozen_generator(self) -> torch.Generator:
        """Draws the same numbers for every probe of this moment."""
        return torch.Generator(self.replay.device).manual_seed(self.replay.total)

    def state_dict(self) -> StateDict:
        """Replay, and the state of the schedules."""
        rates = [rate.state_dict() for rate in self.learning_rates]
        return {"replay": self.replay.state_dict(), "learning_rates": rates}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.replay.load_state_dict(state["replay"])
        for rate, saved in zip(self.learning_rates, state["learning_rates"], strict=True):
            rate.load_state_dict(saved)
