"""Parts in which a number breaks, for `suite=replay`: in place of healthy ones by `_target_`.

When one breaks follows from what a checkpoint holds (a buffer, the state of a stream, the progress of the
run), so that a run that continues from a checkpoint breaks at the same step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from core.descend.objectives import Data, DigitsMLP
from core.gradients import Metrics
from core.optim.schedules import NOTHING, Measured
from core.state import StateDict
from gradgan.batch import Batch, ScoredBatch
from gradgan.data import Stream
from gradgan.data.mixtures import Ring
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.networks import Shape
from gradgan.networks.mlp import MLP
from gradgan.penalties.zero_centred import R1
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import Action
from gradrl.policies.distributions import Policy
from gradrl.policies.networks import ActorCritic, MLPConfig

ROWS = (3, 7)  # of a batch, that break
FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "log": lambda x: (0 * x).log(),
    "sqrt": lambda x: x + (0 * x).sqrt(),  # its value is in order, its slope is not
    "exp": lambda x: (x.abs() + 1e3).exp(),
}


class Failing(nn.Module):
    """Passes its input on, and from some call in training on breaks two rows of it.

    Args:
        at: calls before the first.
        fault: which of `FAULTS`.
    """

    def __init__(self, at: int, fault: str) -> None:
        super().__init__()
        self.at, self.fault = at, FAULTS[fault]
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """The same rows but for those that are broken."""
        if not torch.is_grad_enabled() or len(x) <= max(ROWS):
            return x
        calls = self.get_buffer("calls")
        calls += 1
        if int(calls) <= self.at:
            return x
        rows = torch.zeros(len(x), *[1] * (x.dim() - 1), dtype=torch.bool, device=x.device)
        rows[list(ROWS)] = True
        return torch.where(rows, self.fault(x), x)


class Constant(nn.Module):
    """Every feature over its standard deviation in the batch, with nothing added to it: 0 / 0 for a dead one.

    Args:
        at: calls in training before a feature dies.
    """

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Standardised features."""
        calls = self.get_buffer("calls")
        if torch.is_grad_enabled():
            calls += 1
        kept = torch.ones_like(x)
        kept[:, 0] = float(int(calls) <= self.at)
        x = x * kept
        return (x - x.mean(0)) / x.std(0, correction=0)


class FailingCritic(ActorCritic):
    """A critic with a module that breaks.

    Attributes:
        AT, FAULT: as in `Failing`.
    """

    AT: ClassVar[int] = 400
    FAULT: ClassVar[str] = "log"

    def __init__(
        self, cfg: MLPConfig, observation: Observation, action: Action, generator: torch.Generator
    ) -> None:
        super().__init__(cfg, observation, action, generator)
        self.critic = nn.Sequential(*self.critic, Failing(self.AT, self.FAULT))


class SteepCritic(FailingCritic):
    """The same, whose output is in order and whose slope is not."""

    FAULT = "sqrt"


class RootValue(ActorCritic):
    """The value is the root of a square, which has no slope where the value is cut off at zero."""

    def forward(self, obs: Tensor) -> tuple[Policy, Tensor]:
        """Policy and value of rows [B, D]."""
        policy, value = super().forward(obs)
        return policy, torch.where(value > 2.0, value - 2.0, 0.0 * value).square().sqrt()


class LargeReward(gym.RewardWrapper):
    """Rewards whose squares no float32 holds, in the episodes of some random numbers.

    Args:
        env: any.
        share: of the steps.
    """

    def __init__(self, env: gym.Env, share: float) -> None:
        super().__init__(env)
        self.share = share

    def reward(self, reward: float) -> float:
        """The reward, or 1e30."""
        return 1e30 if self.np_random.random() < self.share else float(reward)


class LargeObservation(gym.ObservationWrapper):
    """One number of an observation is 1e38, now and then: a sensor's word for nothing.

    Args:
        env: any with vectors.
        share: of the steps.
    """

    def __init__(self, env: gym.Env, share: float) -> None:
        super().__init__(env)
        self.share = share

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """The observation, or one with such a number."""
        seen = np.array(observation, np.float32)
        if self.np_random.random() < self.share:
            seen[:] = 3e38
        return seen


@dataclass(frozen=True, kw_only=True)
class Jump:
    """The learning rate times `factor` from the middle of the run on."""

    factor: float

    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, progress: float, metrics: Measured = NOTHING, state: StateDict | None = None) -> float:
        """1, then the factor."""
        return self.factor if progress >= 0.5 else 1.0


class _Counting:
    """A stream whose batches are counted."""

    def __init__(self, stream: Stream, at: int) -> None:
        self.stream, self.at, self.count = stream, at, 0

    def next(self) -> Batch:
        """The next batch; two of its samples have a pixel that is not a number, from some batch on."""
        batch = self.stream.next()
        self.count += 1
        if self.count <= self.at:
            return batch
        x = batch.x.clone()
        x[list(ROWS), 0] = float("nan")
        return batch._replace(x=x)

    def state_dict(self) -> StateDict:
        """The count, and the stream's own."""
        return {"count": self.count, "stream": self.stream.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue."""
        self.count = state["count"]
        self.stream.load_state_dict(state["stream"])


@dataclass(frozen=True, kw_only=True)
class BrokenRing(Ring):
    """The ring, some of whose samples hold a number that is none.

    Attributes:
        at: batches before the first.
    """

    at: int = 300

    def stream(self, batch_size: int, random: torch.Generator, device: torch.device) -> Stream:
        """As in `Ring`."""
        return _Counting(super().stream(batch_size, random, device), self.at)


@dataclass(frozen=True, kw_only=True)
class NaiveLog(NonSaturating):
    """log(1 - sigmoid(x)), which is log 0 where D is sure enough.

    Attributes:
        scale: what logits are multiplied by.
    """

    scale: float = 40.0

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """As in `NonSaturating`, without care."""
        real, fake = (self.scale * x for x in (real_logits, fake_logits))
        return -real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean()


@dataclass(frozen=True, kw_only=True)
class RootPenalty(R1):
    """The norm of a gradient as the root of a sum of squares, which has no slope where the gradient is 0."""

    def __call__(self, batch: ScoredBatch) -> tuple[Tensor, Metrics]:
        """As in `R1`, without the square; from the middle of the run on the discriminator is flat."""
        (gradient,) = torch.autograd.grad(batch.real_logits.sum(), batch.real, create_graph=True)
        flat = 0.0 if batch.progress >= 0.5 else 1.0
        norm = (flat * gradient).square().flatten(1).sum(1).sqrt().mean()
        return norm, {"penalty/real_gradient": norm.detach()}


@dataclass(frozen=True, kw_only=True)
class FailingMLP(MLP):
    """Players with a module that breaks.

    Attributes:
        player: whose.
        at, fault: as in `Failing`; the fault "constant" is `Constant`.
    """

    player: str = "generator"
    at: int = 600
    fault: str = "log"

    def generator(self, latent_size: int, shape: Shape, random: torch.Generator) -> nn.Module:
        """As in `MLP`."""
        network = super().generator(latent_size, shape, random)
        return self._broken(network, 2) if self.player == "generator" else network

    def body(self, shape: Shape, random: torch.Generator) -> tuple[nn.Module, int]:
        """As in `MLP`."""
        body, width = super().body(shape, random)
        return (self._broken(body, 3) if self.player == "discriminator" else body), width

    def _broken(self, network: nn.Module, place: int) -> nn.Module:
        assert isinstance(network, nn.Sequential)
        part = Constant(self.at) if self.fault == "constant" else Failing(self.at, self.fault)
        return nn.Sequential(*network[:place], part, *network[place:])


@dataclass(frozen=True, kw_only=True)
class FailingDigits(DigitsMLP):
    """A classifier with a module that breaks.

    Attributes:
        at, fault: as in `Failing`.
    """

    at: int = 60
    fault: str = "log"

    def make(self, data: Data, random: torch.Generator) -> nn.Module:
        """As in `DigitsMLP`."""
        network = super().make(data, random)
        assert isinstance(network, nn.Sequential)
        return nn.Sequential(*network[:2], Failing(self.at, self.fault), *network[2:])


@dataclass(frozen=True, kw_only=True)
class BrokenDigits(DigitsMLP):
    """One image of the digits has a pixel that is not a number."""

    def load(self) -> Data:
        """As in `DigitsMLP`, but for the image."""
        data = super().load()
        x = data.x.clone()
        x[0, 20] = float("nan")
        return data._replace(x=x)
