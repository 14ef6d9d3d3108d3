"""All rules, by the package that trains, and the one call that asks them."""

from collections.abc import Callable, Iterator

from core.diagnosis import (
    rules_agent,
    rules_curvature,
    rules_followers,
    rules_game,
    rules_gradient,
    rules_step,
    rules_units,
)
from core.diagnosis.findings import Sign
from core.diagnosis.signals import Context, History

Rule = Callable[[History, Context], Iterator[Sign]]

GRADIENTS: tuple[Rule, ...] = (
    rules_gradient.NonFinite(),
    rules_gradient.VanishingGradient(),
    rules_gradient.ExplodingGradient(),
    rules_gradient.DetachedLayer(),
    rules_gradient.FrozenLayer(),
    rules_gradient.ConflictingLosses(),
    rules_units.DeadUnits(),
    rules_units.SaturatedUnits(),
    rules_step.ClippingAlwaysOn(),
    rules_step.UpdateTooLarge(),
    rules_step.UpdateTooSmall(),
    rules_step.Oscillation(),
    rules_step.NoiseDominated(),
    rules_curvature.AboveEdge(),
)
AGENTS: tuple[Rule, ...] = (
    rules_followers.Stale(),
    rules_agent.CollapsedEntropy(),
    rules_agent.RunawayKL(),
    rules_agent.RatioOutOfHand(),
    rules_agent.ExplodingValue(),
    rules_agent.UnnormalizedAdvantage(),
    rules_agent.RewardScale(),
)
GAMES: tuple[Rule, ...] = (
    rules_followers.Stale(),
    rules_game.DiscriminatorTooStrong(),
    rules_game.DiscriminatorTooWeak(),
    rules_game.ModeCollapse(),
    rules_game.Rotation(),
    rules_game.DiscriminatorOverfitting(),
    rules_game.UnboundedSlope(),
    rules_game.PenaltyBalance(),
)
DESCENTS: tuple[Rule, ...] = (rules_curvature.Flat(), rules_curvature.Unmoved())
RULES: dict[str, tuple[Rule, ...]] = {
    "gradrl": GRADIENTS + AGENTS,
    "gradgan": GRADIENTS + GAMES,
    "core": GRADIENTS + DESCENTS,
}


def diagnose(history: History, context: Context) -> list[Sign]:
    """What the rules for this kind of run see at the last point of a history."""
    rules = RULES.get(context.kind, GRADIENTS)
    return [sign for rule in rules for sign in rule(history, context)]
