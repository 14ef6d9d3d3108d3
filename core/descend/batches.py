"""The three kinds of gradient: of all samples, of a few, of one.

The gradient of a batch is an unbiased estimate of that of all samples. Its noise falls with the square root
of the batch size, and its cost rises in proportion to it.
"""

from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from annotated_types import Ge
from torch import Tensor

from core.checks import checked, require
from core.state import StateDict


class Batch(Protocol):
    """How many samples a gradient is taken of."""

    def count(self, samples: int) -> int:
        """Samples of one gradient, out of `samples`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Full:
    """All samples: the gradient itself."""

    def count(self, samples: int) -> int:
        """All."""
        return samples


@dataclass(frozen=True, kw_only=True)
@checked
class Minibatch:
    """A few samples.

    Attributes:
        size: how many.
    """

    size: Annotated[int, Ge(1)] = 32

    def count(self, samples: int) -> int:
        """`size`.

        Raises:
            ValueError: there are fewer samples.
        """
        require(self.size <= samples, "batch.size", self.size, f"at most {samples:,}, the samples there are")
        return self.size


@dataclass(frozen=True, kw_only=True)
class Stochastic:
    """A single sample, as in Robbins and Monro 1951."""

    def count(self, samples: int) -> int:
        """1."""
        return 1


class BatchStream:
    """Which samples the next gradient is taken of: all in turn, in an order that is shuffled for every round.

    Samples at the end of a round that do not fill a batch wait for the next shuffle.

    Args:
        samples: how many there are.
        size: of a batch; the whole set needs no order.
        random: decides the order.
    """

    def __init__(self, samples: int, size: int, random: torch.Generator) -> None:
        self.samples, self.size, self.random = samples, size, random
        self._order = torch.arange(samples)
        self._position = 0 if size == samples else samples

    def next(self) -> Tensor:
        """Indices [size]."""
        if self.size == self.samples:
            return self._order
        if self._position + self.size > self.samples:
            self._order = torch.randperm(self.samples, generator=self.random)
            self._position = 0
        self._position += self.size
        return self._order[self._position - self.size : self._position]

    def restart(self, seed: int) -> None:
        """Draw other numbers from now on, by this seed; what is left of the round comes in another order."""
        self.random.manual_seed(seed)
        left = self._order[self._position :]
        mixed = left[torch.randperm(len(left), generator=self.random)]
        self._order = torch.cat([self._order[: self._position], mixed])

    def state_dict(self) -> StateDict:
        """The order, the place in it, and the generator."""
        return {
            "order": self._order.clone(),
            "position": self._position,
            "generator": self.random.get_state(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self._order, self._position = state["order"].cpu(), state["position"]
        if not torch.equal(self._order.sort().values, torch.arange(self.samples)):
            raise ValueError(f"order is no order of {self.samples} samples")
        self.random.set_state(state["generator"].cpu())
