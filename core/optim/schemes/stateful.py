"""Update schemes of two players with a state: the last gradient, a velocity, or an earlier pair of players.

The state is a dictionary that the caller keeps and saves. Tensors in it are replaced, never written into. A
gradient that the guard of `GradientStep` will skip does not change the state; that is decided by the same
norm, on the device, without a synchronisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from core.checks import checked
from core.form import Anything, Begun
from core.gradients import GradientStep, Metrics, global_norm
from core.optim.schemes.schemes import Move, Scheme, check_scheme
from core.state import StateDict


@dataclass(frozen=True, kw_only=True)
class Optimistic:
    """Simultaneous steps with the last change of the gradient added, a guess of where it goes next.

        w <- w - h (g_t + (g_t - g_(t-1)))

    The first step is a plain one. One gradient per update, and memory for a copy of it. On the bilinear game
    the factors are the roots of l^2 - (1 + 2ih) l + ih, both inside the unit circle for h < 1 / sqrt(3).

    Source: Daskalakis et al. 2018, arXiv:1711.00141 (optimistic mirror descent without constraints).
    """

    needs_joint_graph = False
    changes_gradients = True
    at_one_point = True

    def __call__(self, discriminator: Move, generator: Move, state: StateDict) -> Metrics:
        """Both gradients, each with its last change added, then both updates."""
        check_scheme(self, type(discriminator.step.optimizer), type(generator.step.optimizer))
        metrics = discriminator.compute() | generator.compute()
        for player, step in (("discriminator", discriminator.step), ("generator", generator.step)):
            gradient = _gradient(step)
            last = state.get(player) or [torch.zeros_like(g) for g in gradient]
            known = state.get(f"{player}_known", torch.zeros((), dtype=torch.bool, device=step.device))
            changed = [now + (now - then) * known for now, then in zip(gradient, last, strict=True)]
            finite = _replace(step, changed)
            state[player] = _choose(finite, gradient, last)
            state[f"{player}_known"] = known | finite
            step.apply()
        return metrics

    def state_form(self, discriminator: GradientStep, generator: GradientStep) -> object:
        """What its state must look like: each player's last gradient, and whether there was one."""
        gradients = {"discriminator": discriminator.parameters, "generator": generator.parameters}
        known = {f"{name}_known": torch.zeros((), dtype=torch.bool) for name in gradients}
        return Begun({**gradients, **known})


@dataclass(frozen=True, kw_only=True)
@checked
class NegativeMomentum:
    """Alternating steps along a velocity: with beta < 0 it brakes the turning that momentum feeds.

        u <- beta u + g,   w <- w - h u

    `torch.optim.SGD` refuses a negative momentum, so the velocity is kept here and handed to the optimizer as
    the gradient; an optimizer with a momentum of its own adds that on top (Adam: set betas[0] to 0).

    On the bilinear game with h = 0.1 the modulus is 0.9985 at beta = -0.5, 1 at 0 and 1.0323 at +0.5; with
    simultaneous steps no beta converges.

    Attributes:
        beta: share of the last velocity kept.

    Source: Gidel et al. 2019, arXiv:1807.04740, theorem 6.
    """

    beta: Annotated[float, Interval(gt=-1, lt=1)]

    needs_joint_graph = False
    changes_gradients = True
    at_one_point = False

    def __call__(self, discriminator: Move, generator: Move, state: StateDict) -> Metrics:
        """Discriminator, then generator, each along its velocity."""
        check_scheme(self, type(discriminator.step.optimizer), type(generator.step.optimizer))
        metrics: Metrics = {}
        for player, move in (("discriminator", discriminator), ("generator", generator)):
            metrics |= move.compute()
            gradient = _gradient(move.step)
            last = state.get(player) or [torch.zeros_like(g) for g in gradient]
            velocity = [self.beta * u + g for u, g in zip(last, gradient, strict=True)]
            finite = _replace(move.step, velocity)
            state[player] = _choose(finite, velocity, last)
            move.step.apply()
        return metrics

    def state_form(self, discriminator: GradientStep, generator: GradientStep) -> object:
        """What its state must look like: each player's velocity."""
        return Begun({"discriminator": discriminator.parameters, "generator": generator.parameters})


@dataclass(frozen=True, kw_only=True)
@checked
class Lookahead:
    """Another scheme, pulled back every k updates towards where both players stood k updates ago.

        slow <- slow + alpha (w - slow),   w <- slow

    A scheme that multiplies w by M becomes (1 - alpha) + alpha M^k every k updates: simultaneous steps on the
    bilinear game, h = 0.1, turn from 1.005^5 = 1.025 into 0.981 with k = 5 and alpha = 0.5, because the mean
    of two points of a turning orbit lies inside it.

    Only parameters are pulled back: optimizer states and batch norm's statistics are those of the inner
    scheme. Costs memory for one copy of the parameters.

    Attributes:
        k: updates between two returns to the slow parameters.
        alpha: how far the slow parameters go towards the fast ones; 1 is the inner scheme.
        inner: the scheme that makes the updates.

    Source: Chavdarova et al. 2021, arXiv:2006.14567, algorithm 1.
    """

    k: Annotated[int, Ge(1)]
    alpha: Annotated[float, Interval(gt=0, le=1)]
    inner: Scheme

    @property
    def needs_joint_graph(self) -> bool:
        """The inner scheme's answer."""
        return self.inner.needs_joint_graph

    @property
    def changes_gradients(self) -> bool:
        """The inner scheme's answer."""
        return self.inner.changes_gradients

    @property
    def at_one_point(self) -> bool:
        """The inner scheme's answer."""
        return self.inner.at_one_point

    def __call__(self, discriminator: Move, generator: Move, state: StateDict) -> Metrics:
        """One update of the inner scheme, and at every k-th the return."""
        parameters = [*discriminator.step.parameters, *generator.step.parameters]
        if not state:
            state.update(slow=[p.detach().clone() for p in parameters], updates=0, inner={})
        metrics = self.inner(discriminator, generator, state["inner"])
        state["updates"] += 1
        if state["updates"] % self.k == 0:
            with torch.no_grad():
                state["slow"] = torch._foreach_lerp(state["slow"], parameters, self.alpha)
                torch._foreach_copy_(parameters, state["slow"])
        return metrics

    def state_form(self, discriminator: GradientStep, generator: GradientStep) -> object:
        """What its state must look like: the slow parameters, the count, and the inner scheme's state."""
        slow = [*discriminator.parameters, *generator.parameters]
        inner = scheme_form(self.inner, discriminator, generator)
        return Begun({"slow": slow, "updates": 0, "inner": inner})


def scheme_form(scheme: Scheme, discriminator: GradientStep, generator: GradientStep) -> object:
    """What the state of a scheme must look like; of one that does not say so, nothing is known.

    Args:
        scheme: one of ours, or anybody's.
        discriminator: the player that moves first.
        generator: the other.
    """
    describe = getattr(scheme, "state_form", None)
    return Anything() if describe is None else describe(discriminator, generator)


def _gradient(step: GradientStep) -> list[Tensor]:
    """The gradient that `compute` left; zeros where a parameter has none."""
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in step.parameters]


def _replace(step: GradientStep, gradient: Sequence[Tensor]) -> Tensor:
    """Give the step another gradient; whether it is finite, as the step's guard will see it, 0-d bool."""
    for p, g in zip(step.parameters, gradient, strict=True):
        p.grad = g
    return global_norm(gradient).isfinite()


def _choose(finite: Tensor, new: Sequence[Tensor], old: Sequence[Tensor]) -> list[Tensor]:
    """Copies of the new tensors if `finite`, else of the old ones; transforms write only into `.grad`."""
    return [torch.where(finite, n, o) for n, o in zip(new, old, strict=True)]
