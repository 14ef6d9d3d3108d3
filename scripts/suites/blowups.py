"""Trainings that blow up in the middle: what `suite=rollback` returns from, and where each number is born.

Two kinds. What recurs (a rate a hundred times too high from half time on) is cured only by another number.
What passes (a sensor, a memory cell) happens once in a process, by a clock that no checkpoint turns back: a
run that returns goes past it, and a new process has it before it.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import gymnasium as gym
import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import Tensor

from core.checks import checked
from core.optim.schedules import NOTHING, Measured
from core.run.callbacks import Event
from core.state import StateDict
from gradgan.batch import Batch
from gradgan.data import FreshStream, Stream
from gradgan.data.mixtures import Ring
from gradgan.losses.nonsaturating import NonSaturating
from gradrl.policies.distributions import Policy
from gradrl.policies.networks import ActorCritic

from .faults import Setting

HERE = "core.scripts.suites.blowups"
SEEDS = (501, 502)  # the plants were adjusted on 301 and 302

Direction = Literal["forward", "backward", "data", "loss"]


@dataclass(frozen=True)
class Blowup:
    """A setting with one thing that goes wrong on the way.

    Attributes:
        setting: name of the healthy one.
        overrides: appended to its command.
        module: of the player's network in which the first number that is not finite, or far too large, is
            born, as torch names it; the player's name in front where there are two; empty for none.
        direction: where it is born there: forward or backward; `data`: the network is handed it; `loss`:
            behind the network's output.
        own: appended before them, and to the command of the healthy run that it is compared with.
    """

    setting: str
    overrides: tuple[str, ...]
    module: str
    direction: Direction
    own: tuple[str, ...] = ()


class Clock:
    """Counts the calls of everything of one name in this process."""

    counts: ClassVar[dict[str, int]] = {}

    @classmethod
    def within(cls, name: str, begin: int, length: int) -> bool:
        """Whether this call, counted from 1, is one of `length` from `begin` on."""
        cls.counts[name] = count = cls.counts.get(name, 0) + 1
        return begin <= count < begin + length


@dataclass(frozen=True, kw_only=True)
@checked
class Jump:
    """The rate that is typed, and from some point of the run on another one.

    Attributes:
        at: share of the run before it.
        scale: what the rate is multiplied by from there on.
    """

    at: Annotated[float, Ge(0)] = 0.5
    scale: Annotated[float, Gt(0)] = 100.0

    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, progress: float, metrics: Measured = NOTHING, state: StateDict | None = None) -> float:
        """1, then `scale`."""
        return self.scale if progress >= self.at else 1.0


class BitFlip:
    """A weight whose highest exponent bit has turned over, once: it is larger by any factor.

    Args:
        module: of the run.
        weight: name of the parameter.
        at: iterations before it.
        value: what it then is, as text: options are finite numbers.
    """

    def __init__(self, module: str, weight: str, at: int, value: str) -> None:
        self.module, self.weight, self.at, self.value = module, weight, at, float(value)

    def on_iteration(self, event: Event) -> None:
        """Let it happen."""
        if Clock.within("flip", self.at, 1):
            weight = event.modules[self.module].get_parameter(self.weight)
            with torch.no_grad():
                weight.view(-1)[0] = self.value


class Sensor(gym.Wrapper):
    """An environment whose sensors fail for a while: all of its copies count as one.

    Args:
        env: any.
        what: reward or observation.
        value: what is measured meanwhile, as text.
        at: steps of all copies before it.
        length: steps that it lasts.
    """

    def __init__(self, env: gym.Env, what: str, value: str, at: int, length: int) -> None:
        super().__init__(env)
        self.what, self.value, self.at, self.length = what, float(value), at, length

    def step(self, action):
        """As the environment does, but for what fails."""
        observation, reward, *rest = self.env.step(action)
        if Clock.within(f"sensor {self.what}", self.at, self.length):
            if self.what == "reward":
                reward = self.value
            else:
                observation = np.full_like(observation, self.value)
        return observation, reward, *rest


class LogOfZero(ActorCritic):
    """A value that passes through the logarithm of zero for some time."""

    def forward(self, obs: Tensor) -> tuple[Policy, Tensor]:
        """Policy and value of rows [B, D]."""
        policy, value = super().forward(obs)
        broken = torch.is_grad_enabled() and Clock.within("log of zero", 400, 100)
        return policy, value + (0.0 * value).log() if broken else value


class RootOfZero(ActorCritic):
    """A value with a norm whose derivative at zero has no value, for some time."""

    def forward(self, obs: Tensor) -> tuple[Policy, Tensor]:
        """Policy and value of rows [B, D]."""
        policy, value = super().forward(obs)
        broken = torch.is_grad_enabled() and Clock.within("root of zero", 400, 100)
        return policy, value + (value - value).square().sqrt() if broken else value


@dataclass(frozen=True, kw_only=True)
class BadRing(Ring):
    """Points of which a few batches are not numbers.

    Attributes:
        at: batches before them.
        length: how many.
        of: points in a batch of the training; what evaluation draws is whole.
    """

    at: int = 300
    length: int = 60
    of: int = 256

    def stream(self, batch_size: int, random: torch.Generator, device: torch.device) -> Stream:
        """As in `Ring`."""
        healthy = super().stream(batch_size, random, device)

        def batch() -> Batch:
            found = healthy.next()
            broken = batch_size == self.of and Clock.within("points", self.at, self.length)
            return Batch(found.x * float("nan"), found.labels) if broken else found

        return FreshStream(batch)


@dataclass(frozen=True, kw_only=True)
class BadLoss(NonSaturating):
    """A discriminator's loss that leaves its range for some updates.

    Attributes:
        how: log (of zero), or exp (of a large number).
        at: evaluations of it before that.
        length: how many.
    """

    how: Literal["log", "exp"] = "log"
    at: int = 300
    length: int = 60
    _own: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """As in `NonSaturating`."""
        loss = super().discriminator(real_logits, fake_logits)
        if not Clock.within(f"loss {self.how}", self.at, self.length):
            return loss
        mean = real_logits.mean()
        return loss + ((0.0 * mean).log() if self.how == "log" else (1e3 + 0.0 * mean).exp() * mean)


def _flip(module: str, weight: str, at: int, value: str) -> tuple[str, ...]:
    options = f"module:{module},weight:{weight},at:{at},value:'{value}'"
    return (f"callbacks=[{{_target_:{HERE}.BitFlip,{options}}}]",)


def _sensor(what: str, value: str, at: int, length: int) -> tuple[str, ...]:
    options = f"what:{what},value:'{value}',at:{at},length:{length}"
    return (f"env.train_wrappers=[{{_target_:{HERE}.Sensor,{options}}}]",)


def _jump(scale: float) -> tuple[str, ...]:
    return (f"schedule._target_={HERE}.Jump", f"schedule.scale={scale}")


QUIET = ("logging.progress=false", "logging.draw_interval=100000000", "logging.snapshots=0")

SETTINGS: dict[str, Setting] = {
    # After 30,000 steps healthy runs of eight seeds end anywhere from 123 to 500; after 60,000 all at 500.
    "ppo": Setting(
        "rl",
        ("agent=ppo", "env=cartpole", "total_steps=60000", "logging.interval=1", "evaluation.episodes=20",
         "logging.checkpoint_interval=2000", "logging.eval_interval=100000000", *QUIET),
        floor=20.0,
    ),
    "ring": Setting(
        "gan",
        ("data=ring", "total_images=192000", "logging.interval=25", "logging.checkpoint_interval=12800",
         "logging.eval_interval=19200", "evaluation.samples=2000", "diagnosis.unit_health.interval=30",
         *QUIET),
        floor=0.0,
    ),
    "digits": Setting(
        "descend",
        ("objective=digits_mlp", "batch=minibatch", "optimizer=adam", "steps=300",
         "logging.checkpoint_interval=50", "pictures=[]", *QUIET[:2]),
        floor=0.1,
    ),
    "valley": Setting(
        "descend",
        ("function=rosenbrock", "optimizer=sgd", "steps=600", "logging.checkpoint_interval=50",
         "pictures=[]", *QUIET[:2]),
        floor=0.0,
    ),
}  # fmt: skip

LBFGS = (
    "optimizer=lbfgs", "optimizer.line_search_fn=null", "batch=full", "steps=60", "logging.interval=1",
    "logging.checkpoint_interval=5",
)  # fmt: skip

BLOWUPS: dict[str, Blowup] = {
    # agents
    "reward_nan": Blowup("ppo", _sensor("reward", "nan", 8000, 900), "", "data"),
    "reward_huge": Blowup("ppo", _sensor("reward", "1e38", 8000, 2100), "", "loss"),
    "observation_nan": Blowup("ppo", _sensor("observation", "nan", 8000, 900), "", "data"),
    "actor_bit_flip": Blowup("ppo", _flip("policy", "actor.2.weight", 8, "inf"), "actor.2", "forward"),
    "critic_bit_flip": Blowup("ppo", _flip("policy", "critic.0.weight", 8, "-inf"), "critic.0", "forward"),
    "value_log_of_zero": Blowup("ppo", (f"policy._target_={HERE}.LogOfZero",), "", "forward"),
    "value_root_of_zero": Blowup("ppo", (f"policy._target_={HERE}.RootOfZero",), "", "backward"),
    "agent_rate_jumps": Blowup("ppo", _jump(100.0), "", "forward"),
    # games
    "points_nan": Blowup("ring", (f"data._target_={HERE}.BadRing",), "", "data"),
    "loss_log_of_zero": Blowup("ring", (f"loss._target_={HERE}.BadLoss",), "", "loss"),
    "loss_overflows": Blowup("ring", (f"loss._target_={HERE}.BadLoss", "loss.how=exp"), "", "loss"),
    "discriminator_explodes": Blowup(
        "ring", _flip("discriminator", "body.1.weight", 300, "1e38"), "discriminator.body.1", "forward"
    ),
    "generator_bit_flip": Blowup(
        "ring", _flip("generator", "network.0.weight", 300, "nan"), "generator.network.0", "forward"
    ),
    "game_rate_jumps": Blowup("ring", _jump(100.0), "", "forward"),
    # descents
    "weight_nan": Blowup("digits", _flip("network", "0.weight", 150, "nan"), "0", "forward"),
    "weight_overflows": Blowup("digits", _flip("network", "2.weight", 150, "inf"), "2", "forward"),
    "valley_rate_jumps": Blowup("valley", _jump(30.0), "", "loss"),
    "valley_momentum": Blowup(
        "valley", _jump(100.0), "", "loss", ("optimizer=momentum", "optimizer.lr=1e-4")
    ),
    "lbfgs": Blowup("digits", ("optimizer.lr=1e30",), "", "forward", LBFGS),
    "bias_nan": Blowup(
        "digits",
        _flip("network", "0.bias", 150, "nan"),
        "0",
        "forward",
        ("optimizer=sgd", "optimizer.lr=0.1"),
    ),
}
