"""All rules, by the package that trains, and the one call that asks them."""

from collections.abc import Callable, Iterator

from core.diagnosis import agents, curvature, followers, games, gradients, steps, units
from core.diagnosis.findings import Sign
from core.diagnosis.signals import Context, History

Rule = Callable[[History, Context], Iterator[Sign]]

GRADIENTS: tuple[Rule, ...] = (
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
)
AGENTS: tuple[Rule, ...] = (
    followers.Stale(),
    agents.CollapsedEntropy(),
    agents.RunawayKL(),
    agents.RatioOutOfHand(),
    agents.ExplodingValue(),
    agents.UnnormalizedAdvantage(),
    agents.RewardScale(),
)
GAMES: tuple[Rule, ...] = (
    followers.Stale(),
    games.DiscriminatorTooStrong(),
    games.DiscriminatorTooWeak(),
    games.ModeCollapse(),
    games.Rotation(),
    games.DiscriminatorOverfitting(),
    games.UnboundedSlope(),
    games.PenaltyBalance(),
)
DESCENTS: tuple[Rule, ...] = (curvature.Flat(), curvature.Unmoved())
RULES: dict[str, tuple[Rule, ...]] = {
    "gradrl": GRADIENTS + AGENTS,
    "gradgan": GRADIENTS + GAMES,
    "core": GRADIENTS + DESCENTS,
}


def diagnose(history: History, context: Context) -> list[Sign]:
    """What the rules for this kind of run see at the last point of a history."""
    rules = RULES.get(context.kind, GRADIENTS)
    return [sign for rule in rules for sign in rule(history, context)]
