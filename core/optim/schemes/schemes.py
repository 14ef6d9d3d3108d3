"""Update schemes of two players: in which order their gradients are taken and applied.

Each scheme is called with two `GradientStep`s and their closures and moves both players once. The analytic
games of the tests and the GANs above run through the same code. Schemes with a state are in
`core.optim.schemes.stateful`, those that differentiate gradients again in `core.optim.schemes.joint`.

The yardstick in the docstrings is the bilinear game, generator min_x xy, discriminator max_y xy, where plain
gradients only turn around the equilibrium. With learning rate h and complex w = x + iy, simultaneous steps
multiply w by 1 + ih; a scheme converges where the modulus of its factor is below 1.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from core.gradients import Closure, GradientStep, Metrics
from core.gradients.arguments import step_needs_closure
from core.state import StateDict, copied


class Move(NamedTuple):
    """What one player does in an update.

    Attributes:
        step: takes the gradient and applies it.
        closures: losses and metrics; several are the micro-batches of one update.
    """

    step: GradientStep
    closures: Sequence[Closure]

    def compute(self) -> Metrics:
        """The gradient where the player stands, into `.grad`; the closures' metrics."""
        return self.step.compute(*self.closures)


class Scheme(Protocol):
    """Moves both players once; a frozen dataclass of options.

    The closures may be called more than once: they must not draw random numbers, and batch norm's running
    statistics count every call.
    """

    @property
    def needs_joint_graph(self) -> bool:
        """Whether each loss must carry its graph to the parameters of *both* players, in one closure each."""
        ...

    @property
    def changes_gradients(self) -> bool:
        """Whether the optimizers get other gradients than the closures give; see `check_scheme`."""
        ...

    @property
    def at_one_point(self) -> bool:
        """Whether the generator's gradient is taken right after the discriminator's, before anyone moves."""
        ...

    def __call__(self, discriminator: Move, generator: Move, state: StateDict) -> Metrics:
        """One move of each player.

        Args:
            discriminator: moves first, where there is an order.
            generator: the other player.
            state: what the scheme keeps from call to call; the caller keeps and saves it; empty at the
                first call. No gradient that the guard skips enters it.

        Returns:
            The metrics of both closures at their first evaluation.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Alternating:
    """The discriminator moves first, the generator answers to where it now is.

    On the bilinear game it circles without end (modulus 1 while h < 2), where simultaneous steps spiral out.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1 with k = 1.
    """

    needs_joint_graph = False
    changes_gradients = False
    at_one_point = False

    def __call__(self, discriminator: Move, generator: Move, state: StateDict) -> Metrics:
        """Discriminator, then generator at the discriminator's new parameters."""
        metrics = discriminator.step(*discriminator.closures)
        return metrics | generator.step(*generator.closures)


@dataclass(frozen=True, kw_only=True)
class Simultaneous:
    """Both gradients at the same point, then both moves: the joint gradient field's own Euler step.

    On the bilinear game every step is sqrt(1 + h^2) times as far out as the last.

    Source: Mescheder et al. 2017, arXiv:1705.10461, section 2.
    """

    needs_joint_graph = False
    changes_gradients = False
    at_one_point = True

    def __call__(self, discriminator: Move, generator: Move, state: StateDict) -> Metrics:
        """Both gradients first, then both updates."""
        metrics = discriminator.compute() | generator.compute()
        for move in (discriminator, generator):
            move.step.apply(*move.closures)
        return metrics


@dataclass(frozen=True, kw_only=True)
class Extragradient:
    """Both players step from where they stand with the gradients of one step ahead.

        w' = w - h v(w),   w <- w - h v(w')          v = both players' gradients

    The step ahead is a whole simultaneous step of both optimizers, transforms included (with Adam a plain
    gradient step would be thousands of times shorter than the update it should foresee). Parameters and
    optimizer state are then put back bit by bit, so momenta see only the gradients at w'; Gidel's ExtraAdam
    lets them see both. Transforms see both, the monitor only those that move the players. A step ahead that
    the guard skips leaves that player at w.

    Costs two gradients per update and a copy of parameters and optimizer state. On the bilinear game
    |1 - h^2 + ih|^2 = 1 - h^2 + h^4.

    Source: Korpelevich 1976, Matecon 12:747; for GANs, Gidel et al. 2019, arXiv:1802.10551, section 3.
    """

    needs_joint_graph = False
    changes_gradients = True
    at_one_point = True

    def __call__(self, discriminator: Move, generator: Move, state: StateDict) -> Metrics:
        """Look one step ahead, take the gradients there, go back, and step with them."""
        check_scheme(self, type(discriminator.step.optimizer), type(generator.step.optimizer))
        moves = discriminator, generator
        with _returning(discriminator.step), _returning(generator.step):
            metrics = discriminator.compute() | generator.compute()
            for move in moves:
                move.step.apply(measure=False)
            for move in moves:
                move.compute()
        for move in moves:
            move.step.apply()
        return metrics


@lru_cache(maxsize=64)
def check_scheme(scheme: Scheme, *optimizers: type[torch.optim.Optimizer]) -> None:
    """Refuse optimizers that evaluate their closure again, where that would lose what the scheme changed.

    Raises:
        ValueError: naming both.
    """
    for optimizer in optimizers:
        if scheme.changes_gradients and step_needs_closure(optimizer):
            raise ValueError(
                f"update: {type(scheme).__name__} changes gradients, but {optimizer.__name__} evaluates them "
                "again; choose another optimizer, or alternating updates"
            )


@contextmanager
def _returning(step: GradientStep) -> Iterator[None]:
    """Put the player's parameters and optimizer state back at the end, however the block ends."""
    parameters = [p.detach().clone() for p in step.parameters]
    optimizer = copied(step.optimizer.state_dict())
    # A deque that torch loads has lost its length; what is neither tensor nor number is put back as it was.
    odd = {
        p: copied(state)
        for p, state in step.optimizer.state.items()
        if not all(isinstance(value, Tensor | int | float) for value in state.values())
    }
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(step.parameters, parameters)
        step.optimizer.load_state_dict(optimizer)
        step.optimizer.state.update(odd)
