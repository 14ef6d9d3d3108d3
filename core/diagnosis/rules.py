"""The rules that hold for any network, and the one call that asks all rules of a run."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from core.diagnosis import curvature, gradients, inputs, ranks, remedies, steps, units, weights
from core.diagnosis.context import Context
from core.diagnosis.findings import Sign
from core.diagnosis.signals import History


class Rule(Protocol):
    """Looks at a run after every logged point: a frozen dataclass whose options are its thresholds.

    It keeps nothing from call to call; `History` and the patience of a finding do.
    """

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """What is the case at the last logged point.

        Args:
            history: the last values of every curve by tag, and a thinned record of its whole course; None
                or nothing where a curve has no value yet.
            context: the options, the players and their layers, the unit of the x-axis.

        Yields:
            One `Sign` for each thing seen, of a name that is the rule's own.
        """
        ...


RULES: tuple[Rule, ...] = (
    gradients.NonFinite(),
    gradients.VanishingGradient(),
    gradients.ExplodingGradient(),
    gradients.DetachedLayer(),
    gradients.FrozenLayer(),
    gradients.ConflictingLosses(),
    units.DeadUnits(),
    units.SaturatedUnits(),
    steps.ClippingAlwaysOn(),
    steps.UpdateTooLarge(),
    steps.UpdateTooSmall(),
    steps.Oscillation(),
    steps.NoiseDominated(),
    curvature.AboveEdge(),
    inputs.UnscaledInputs(),
    ranks.RanksDiffer(),
    weights.EqualUnits(),
    weights.WeightDecay(),
    weights.LargeEps(),
)


def network_rules(*adjusted: Rule) -> tuple[Rule, ...]:
    """The rules for any network, in which an adjusted one takes the place of the one of its class."""
    own = {type(rule): rule for rule in adjusted}
    return tuple(own.get(type(rule), rule) for rule in RULES)


def diagnose(rules: Iterable[Rule], history: History, context: Context) -> list[Sign]:
    """What the rules see at the last point of a history.

    A remedy with an option that this run does not have is left out, whichever rule proposes it, and so is a
    value that the option has already.
    """
    signs = [sign for rule in rules for sign in rule(history, context)]
    tell = context.remedies.told or remedies.existing
    return [
        replace(sign, remedy=tell(context, sign.player, remedies.changing(context, sign.remedy)))
        for sign in signs
    ]
