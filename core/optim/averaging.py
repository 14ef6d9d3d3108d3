"""Exponential moving average of a module's parameters and buffers: smoother than any one of its steps.

The half-life is given in whatever the caller counts (images, steps), so the same setting means the same
thing at another batch size. A ramp-up keeps the early average young: without it, the half-life of a long
training would hold the initial parameters for most of a short one.
"""

import copy
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt
from torch import nn

from core.checks import Finite, checked
from core.form import Maybe, Number
from core.optim.following import Follower


@dataclass(frozen=True, kw_only=True)
@checked
class AverageConfig:
    """How fast the average follows.

    Attributes:
        half_life: amount (of images, steps) after which a state weighs half.
        ramp_up: upper bound of the half-life as a share of the amount seen so far; null = the half-life
            from the start. 0.05 averages over about the last tenth of the training at any time.
    """

    half_life: Annotated[float, Gt(0), Finite]
    ramp_up: Annotated[float | None, Gt(0), Finite]


class ExponentialMovingAverage:
    """A frozen copy of a module that follows it with exponentially decaying weights.

        average <- average + (1 - d) (module - average),   d = 2^(-amount / half_life)

    Parameters and running statistics are averaged; other buffers (counters, the vectors of a power iteration)
    are copied. Tied tensors are averaged once; see `Follower`.

    Attributes:
        module: the averaged copy: in evaluation mode, its parameters require no gradient.
        seen: amount counted so far.
        initial_share: how much of the average are still the weights that it began with, in [0, 1].

    Source: Karras et al. 2018, arXiv:1710.10196, section 6 (for generators); the half-life with its ramp-up
    as in Karras et al. 2020, arXiv:2006.06676, appendix.
    """

    def __init__(self, cfg: AverageConfig, source: nn.Module) -> None:
        self.cfg = cfg
        self.source = source
        self.module = copy.deepcopy(source).eval().requires_grad_(False)
        self.seen = 0.0
        self.initial_share = 1.0
        self._follower = Follower(self.module, source, running_statistics=True)

    def decay(self, amount: float) -> float:
        """The weight d in [0, 1] that the average keeps when `amount` more has been seen."""
        half_life = self.cfg.half_life
        if self.cfg.ramp_up is not None:
            half_life = min(half_life, self.cfg.ramp_up * (self.seen + amount))
        return 0.5 ** (amount / half_life)

    def update(self, amount: float) -> None:
        """Take the module's present state into the average; call it after each optimizer step.

        Args:
            amount: images (steps, ...) seen since the last call, > 0, in the unit of the half-life.
        """
        weight = 1.0 - self.decay(amount)
        self.initial_share *= 1.0 - weight
        self._follower.move(weight)
        self.seen += amount

    def state_dict(self) -> dict[str, object]:
        """The averaged copy's parameters and buffers, and the amount seen."""
        counted = {"seen": self.seen, "initial_share": self.initial_share}
        return {"module": self.module.state_dict(), **counted, **self._follower.state_dict()}

    def state_form(self) -> dict[str, object]:
        """What `state_dict` must look like; the share is missing from before it was saved."""
        return {**self.state_dict(), "seen": Number(0), "initial_share": Maybe(Number(0, 1), absent=True)}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue from `state_dict`."""
        module, seen = state["module"], state["seen"]
        if not isinstance(module, dict) or not isinstance(seen, float):
            raise ValueError("not the state of an ExponentialMovingAverage: wants 'module' and 'seen'")
        self.module.load_state_dict(module)
        self._follower.load_state_dict(state)
        self.seen = seen
        share = state.get("initial_share", 0.0)  # from before it was saved: it followed, as far as we know
        self.initial_share = share if isinstance(share, float) else 0.0

    def lag(self) -> float:
        """|average - module| / |module|, of all floating-point tensors; synchronises."""
        return self._follower.distance()
