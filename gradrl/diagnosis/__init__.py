"""The diagnosis of agents: the rules for any network and those about agents, and their remedies."""

from core.diagnosis import Context, Overrides, Rule, network_rules
from core.diagnosis.followers import Stale
from core.diagnosis.gradients import ConflictingLosses
from core.diagnosis.inputs import UnscaledInputs
from core.diagnosis.remedies import toward
from core.diagnosis.steps import NoiseDominated
from core.diagnosis.units import SaturatedUnits
from gradrl.diagnosis.experience import (
    ConstantReturn,
    EntropyDominates,
    EpisodesCut,
    IdleActions,
    MeaninglessObservation,
    NoExploration,
    OpposedReward,
    ShortHorizon,
)
from gradrl.diagnosis.remedies import REMEDIES
from gradrl.diagnosis.rules import (
    CollapsedEntropy,
    ExplodingValue,
    NonFiniteExperience,
    RatioOutOfHand,
    RewardScale,
    RunawayKL,
    UnnormalizedAdvantage,
    improved,
)

__all__ = ["AGENT_RULES", "REMEDIES", "RULES"]


def faster_target(context: Context) -> Overrides:
    """A larger share of the critic taken over at every step."""
    return (toward(context, "agent.tau", max(0.005, 10 * (context.number("agent.tau") or 0.0))),)


def by_sequences(context: Context) -> bool:
    """Whether a sample of the agent is a sequence of steps."""
    return context.chosen("agent") == "PPORecurrent"


AGENT_RULES: tuple[Rule, ...] = (
    CollapsedEntropy(),
    RunawayKL(),
    RatioOutOfHand(),
    ExplodingValue(),
    UnnormalizedAdvantage(),
    RewardScale(),
)
RULES: tuple[Rule, ...] = (
    *network_rules(
        ConflictingLosses(balancing=("entropy", "kl")),
        # A critic of large returns stands at the ends of its units in healthy runs.
        UnscaledInputs(kinds=("observation", "normalisation")),
        NoiseDominated(sequences=by_sequences),
        SaturatedUnits(tolerated=("critic", "head.critic"), learnt=improved),
    ),
    Stale(
        follower="target",
        player="critic",
        cause="tau is too small: the critics learn from targets of networks that are long out of date.",
        remedy=faster_target,
    ),
    NonFiniteExperience(),
    *AGENT_RULES,
    OpposedReward(),
    ConstantReturn(),
    EpisodesCut(),
    MeaninglessObservation(),
    IdleActions(),
    ShortHorizon(),
    EntropyDominates(),
    NoExploration(),
)
