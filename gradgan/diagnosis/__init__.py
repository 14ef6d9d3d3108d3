"""The diagnosis of GANs: the rules for any network and those about games, and their remedies."""

from core.diagnosis import Context, Overrides, Rule, network_rules
from core.diagnosis.causes import LITTLE_LEARNT
from core.diagnosis.curvature import AboveEdge
from core.diagnosis.followers import Stale
from core.diagnosis.gradients import ConflictingLosses
from core.diagnosis.remedies import toward
from core.diagnosis.steps import Oscillation, UpdateTooSmall
from gradgan.diagnosis.remedies import REMEDIES
from gradgan.diagnosis.rules import (
    WHAT_A_GAME_DOES,
    DiscriminatorOverfitting,
    DiscriminatorTooStrong,
    DiscriminatorTooWeak,
    ModeCollapse,
    PlayersAgree,
    Rotation,
)
from gradgan.diagnosis.slope import PenaltyBalance, UnboundedSlope

__all__ = ["REMEDIES", "RULES"]


def faster_average(context: Context) -> Overrides:
    """A half-life of a twentieth of the run, shorter at its beginning."""
    return (toward(context, "average.half_life", float(context.total) / 20), "average.ramp_up=0.05")


RULES: tuple[Rule, ...] = (
    *network_rules(
        ConflictingLosses(balancing=("penalty",)),
        AboveEdge(severity="note"),  # of one player's loss, while the other one moves
        Oscillation(cosine=-0.75),  # the other player moves in between: healthy games reach -0.55
        UpdateTooSmall(explains=(*LITTLE_LEARNT, *WHAT_A_GAME_DOES)),  # the other one learns on
    ),
    Stale(
        follower="average",
        player="generator",
        cause="Its half-life is longer than the run: what is drawn and measured is not what is trained.",
        remedy=faster_average,
    ),
    PlayersAgree(),
    DiscriminatorTooStrong(),
    DiscriminatorTooWeak(),
    ModeCollapse(),
    Rotation(),
    DiscriminatorOverfitting(),
    UnboundedSlope(),
    PenaltyBalance(),
)
