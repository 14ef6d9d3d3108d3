"""Update schemes of two players: in which order their gradients are taken and applied.

Each scheme is called with two `GradientStep`s and their closures and moves both players once. The analytic
games of the tests and the GANs of `gradgan` run through the same code.
"""

from dataclasses import dataclass
from typing import Protocol

from core.gradients import Closure, GradientStep, Metrics


class Scheme(Protocol):
    """Moves both players once; returns the metrics of both closures."""

    def __call__(
        self,
        discriminator: GradientStep,
        discriminator_closure: Closure,
        generator: GradientStep,
        generator_closure: Closure,
    ) -> Metrics:
        """One move of each player."""
        ...


@dataclass(frozen=True, kw_only=True)
class Alternating:
    """The discriminator moves first, the generator answers to where it now is.

    On a bilinear game it circles for ever, where simultaneous steps spiral out by sqrt(1 + lr^2) each.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1 with k = 1.
    """

    def __call__(
        self,
        discriminator: GradientStep,
        discriminator_closure: Closure,
        generator: GradientStep,
        generator_closure: Closure,
    ) -> Metrics:
        """Discriminator, then generator at the discriminator's new parameters."""
        metrics = discriminator(discriminator_closure)
        return metrics | generator(generator_closure)


@dataclass(frozen=True, kw_only=True)
class Simultaneous:
    """Both gradients at the same point, then both moves: the joint gradient field's own Euler step.

    Source: Mescheder et al. 2017, arXiv:1705.10461, section 2.
    """

    def __call__(
        self,
        discriminator: GradientStep,
        discriminator_closure: Closure,
        generator: GradientStep,
        generator_closure: Closure,
    ) -> Metrics:
        """Both gradients first, then both updates."""
        metrics = discriminator.compute(discriminator_closure) | generator.compute(generator_closure)
        discriminator.apply(discriminator_closure)
        generator.apply(generator_closure)
        return metrics
