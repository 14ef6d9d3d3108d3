"""Rules about what holds the discriminator's slope: the loss that needs it, and the penalty that does it."""

from collections.abc import Iterator
from dataclasses import dataclass

from core.diagnosis import Context, History, Overrides, Sign, known
from gradgan.diagnosis.remedies import penalty

BORDERLESS = ("Wasserstein",)  # losses of logits whose sign says nothing


@dataclass(frozen=True, kw_only=True)
class UnboundedSlope:
    """The discriminator of a Wasserstein loss is steeper than 1: its output is no distance, and only grows.

    Attributes:
        slope: |dD/dx| at samples; the loss is a distance where it is 1 at most (Arjovsky et al. 2017,
            arXiv:1701.07875, eq. 2).
        measurements: over whose median.
    """

    slope: float = 4.0
    measurements: int = 3

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign."""
        slope = history.level("game/sample_gradient", self.measurements)
        player = context.player("discriminator")
        if player is None or slope is None or slope < self.slope or context.chosen("loss") not in BORDERLESS:
            return
        penalised = context.chosen("penalty") == "WGANGP"
        yield Sign(
            name="exploding_gradient",
            kinds=("regularisation",),
            severity="warning",
            player=player.name,
            evidence={"slope": slope},
            what=f"its slope at samples is {slope:.2g}, where the loss asks for 1: the gradients only grow.",
            cause="Nothing, or too little, holds it to the slope that makes its output a distance.",
            remedy=penalty(context, 10.0) if penalised else ("penalty=wgan_gp",),
        )


@dataclass(frozen=True, kw_only=True)
class PenaltyBalance:
    """The penalty is all that the discriminator learns from, or does nothing while it would be needed.

    Attributes:
        most: share of the penalty in the summed lengths of the terms' gradients.
        least: the same, below which it sleeps.
        nothing: the same, below which it might as well not be there: a note, whatever the accuracy.
        accuracy: of the discriminator, from which a penalty is needed; below `told` it is held down.
        gap: of the mean logits, within which it is held down too, whatever their signs.
        told: see `accuracy`.
        measurements: over whose median.
    """

    most: float = 0.9
    least: float = 0.002
    nothing: float = 4e-4
    accuracy: float = 0.95
    told: float = 0.6
    gap: float = 0.15
    measurements: int = 3

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign."""
        share = history.level("discriminator/loss_share/penalty", self.measurements)
        accuracy = history.level("logits/accuracy", self.measurements)
        player = context.player("discriminator")
        if player is None or share is None or accuracy is None:
            return
        gap = history.level("game/logit_gap", self.measurements)
        flat = gap is not None and abs(gap) < self.gap
        evidence = known(penalty_share=share, accuracy=accuracy, logit_gap=gap)
        needed = accuracy > self.accuracy
        if share > self.most and (accuracy < self.told or flat):
            yield Sign(
                name="penalty_dominating",
                kinds=("regularisation",),
                severity="warning",
                player=player.name,
                evidence=evidence,
                what=(
                    f"{share:.0%} of its gradient comes from the penalty; it is right for {accuracy:.0%}"
                    f"{f', by {gap:.1g} nats' if flat else ''}."
                ),
                cause="The penalty flattens the discriminator faster than it can learn.",
                remedy=self._weaker(context),
            )
        elif share < (self.least if needed else self.nothing):
            yield Sign(
                name="penalty_asleep",
                kinds=("regularisation",),
                severity="warning" if needed else "note",
                player=player.name,
                evidence=evidence,
                what=f"{share:.1e} of its gradient comes from the penalty; it is right for {accuracy:.0%}.",
                cause="The penalty is too weak to keep the discriminator smooth where the samples are.",
                remedy=penalty(context, 10.0),
            )

    def _weaker(self, context: Context) -> Overrides:
        strength = context.number("penalty.gamma") or context.number("penalty.weight") or 1.0
        return penalty(context, 1.0 / strength if strength > 20.0 else 0.1)
