"""Rules about both players: one too strong or too weak, samples all alike, no progress, memorised images."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from core.diagnosis import Context, History, Overrides, Player, Sign, known, remedies
from core.diagnosis.causes import NO_GRADIENT, SCALE
from gradgan.diagnosis.remedies import augmentation, penalty

WHAT_A_GAME_DOES = ("mode_collapse", "discriminator_too_strong", "discriminator_too_weak")


@dataclass(frozen=True, kw_only=True)
class PlayersAgree:
    """Both players want the logits of samples to move the same way: theirs is no game."""

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, from the losses alone; see `gradgan.losses.common_slope`."""
        slope = context.limits.get("common_slope", 0.0)
        if not slope:
            return
        upwards = slope > 0
        yield Sign(
            name="players_agree",
            severity="error",
            kinds=("loss", "labels"),
            explains=(*WHAT_A_GAME_DOES, *SCALE, *NO_GRADIENT),
            player="discriminator" if upwards else "generator",
            evidence={"common_slope": slope},
            what=f"both losses fall as the logits of samples {'rise' if upwards else 'fall'}.",
            cause="The discriminator takes samples for data: its labels are exchanged, or a sign is turned."
            if upwards
            else "The generator helps to tell its samples from data: the sign of its loss is turned.",
            remedy=remedies.built_in_loss(context),
            patience=1,
        )


@dataclass(frozen=True, kw_only=True)
class DiscriminatorTooStrong:
    """The discriminator is always right, and the generator's gradient has vanished in it or is driven wild.

    Attributes:
        accuracy: of the discriminator.
        vanished: |dL_G/dD|, the first factor of the generator's gradient (1 where D is always right and the
            loss does not saturate).
        gap: of the mean logits, beyond which samples are told apart so surely that D has no slope to climb.
        points: logged points whose median is taken.
    """

    accuracy: float = 0.97
    vanished: float = 0.03
    gap: float = 15.0
    points: int = 2

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign."""
        accuracy = history.level("logits/accuracy", self.points)
        real, fake = (history.level(f"logits/{kind}", self.points) for kind in ("real", "fake"))
        slope = history.last("game/logit_gradient")
        player = context.player("discriminator")
        if player is None or accuracy is None or real is None or fake is None or accuracy < self.accuracy:
            return
        vanishes = slope is not None and slope < self.vanished
        if not vanishes and real - fake < self.gap:
            return
        yield Sign(
            name="discriminator_too_strong",
            kinds=("learning_rate", "regularisation"),
            severity="warning",
            player=player.name,
            evidence=known(accuracy=accuracy, logit_gap=real - fake, logit_gradient=slope),
            what=(
                f"it is right for {accuracy:.0%}, and {slope:.1e} is left of the generator's "
                "gradient behind its logits."
                if vanishes
                else f"it is right for {accuracy:.0%}, by {real - fake:.3g} nats: it has left "
                f"the generator behind."
            ),
            cause="It learns faster than the generator, or nothing keeps it smooth where the samples are.",
            remedy=self._remedy(context, player),
        )

    def _remedy(self, context: Context, player: Player) -> Overrides:
        if slower := remedies.if_too_fast(context, player):
            return slower
        fairer = ("discriminator.steps=1",) if (context.number("discriminator.steps") or 1) > 2 else ()
        if context.chosen("loss") == "Minimax":
            fairer = (*fairer, "loss=nonsaturating")
        if not context.chosen("penalty"):
            fairer = (*fairer, *penalty(context, 1.0))
        if fairer:
            return fairer
        generator = context.player("generator")
        if generator is not None and player.lr > generator.lr:
            return (remedies.toward(context, "discriminator.lr", generator.lr),)
        if generator is not None and generator.lr < 1e-4:
            return (
                *remedies.rate(context, generator, 1e-3),
                remedies.toward(context, "discriminator.lr", min(player.lr, 1e-3)),
            )
        # On mixtures ten times the penalty kept the generator behind for longer, and a rate of 1e-3 did not.
        adaptive = generator is not None and generator.optimizer not in remedies.UNSCALED
        if generator is not None and adaptive and generator.lr > remedies.CALM:
            return remedies.rate(context, generator, remedies.CALM)
        return penalty(context, 10.0)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorTooWeak:
    """The discriminator cannot tell samples from data although they are far apart.

    Attributes:
        gap: of the mean logits, below which it says nothing; below 0 it takes samples for data.
        distance: energy distance of samples and data, in [0, 1], above which it could.
        measurements: in a row.
    """

    gap: float = 0.05
    distance: float = 0.2
    measurements: int = 3

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign."""
        gap = history.level("game/logit_gap", self.measurements)
        apart = history.level("game/energy_distance", self.measurements)
        player = context.player("discriminator")
        if player is None or gap is None or apart is None or gap > self.gap or apart < self.distance:
            return
        yield Sign(
            name="discriminator_too_weak",
            kinds=("learning_rate", "regularisation"),
            severity="warning",
            player=player.name,
            evidence={"logit_gap": gap, "energy_distance": apart},
            what=(
                f"its logits of data are {gap:.2g} above those of samples, which are far away "
                f"(energy distance {apart:.2f})."
            ),
            cause="It learns too slowly, or its penalty allows no slope: the generator learns nothing.",
            remedy=self._remedy(context, player),
        )

    def _remedy(self, context: Context, player: Player) -> Overrides:
        strength = context.number("penalty.gamma") or context.number("penalty.weight") or 0.0
        if strength > 20.0:
            return penalty(context, 1.0 / strength)
        generator = context.player("generator")
        if generator is not None and player.lr < generator.lr:
            return ("discriminator.lr=null",)
        if player.lr >= remedies.SOUND[1]:
            return penalty(context, 0.2) if strength else ()
        return remedies.sound_rate(context, player, player.lr * 10.0, least=3e-4)


@dataclass(frozen=True, kw_only=True)
class ModeCollapse:
    """Samples are more alike than the data, or whole modes of the data are missing.

    Attributes:
        diversity: mean distance between samples over that between data, of the generator as it trains.
        modes: share of the data's modes that the evaluation finds, where it counts them, and finds no more of
            than at the one before.
        uneven: reverse KL, nats, from which on modes are missing: without 1 - `modes` of them it is at least
            -log(modes) = 0.51, while samples that lie evenly around all modes are inexact, not collapsed.
        progress: share of the run before which it is no finding: every generator begins with samples alike.
        late: share of the run from which two evaluations in a row are enough to say that modes are missing;
            before it a third must agree.
        same: diversity below which samples have been from the first measurement on where no latent reaches
            them; one that collapses begins above it.
        measurements: over whose median.
    """

    diversity: float = 0.25
    modes: float = 0.6
    uneven: float = 0.25
    progress: float = 0.15
    late: float = 0.35
    same: float = 1e-3
    measurements: int = 3

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign."""
        player = context.player("generator")
        spreads = history.course("game/diversity")
        if player is not None and len(spreads) > 1 and max(spreads) < self.same:
            yield self._deaf(context, player, max(spreads))
            return
        if player is None or history.step < self.progress * context.total:
            return
        spread = history.level("game/diversity", self.measurements)
        needed, every = 2 if history.step >= self.late * context.total else 3, context.limits.get("modes")
        counts = history.recent("eval/modes", needed)
        found = counts[-1] if counts else None
        missing = found is not None and every is not None and max(counts) < self.modes * every
        missing = missing and counts[-1] <= counts[0]
        divergence = history.last("eval/reverse_kl")
        missing = missing and (divergence is None or divergence >= self.uneven)
        alike = spread is not None and spread < self.diversity
        if not (missing or alike):
            return
        yield Sign(
            name="mode_collapse",
            kinds=("learning_rate", "regularisation"),
            severity="warning",
            player=player.name,
            evidence=known(diversity=spread, modes=found, of=every, reverse_kl=divergence),
            what=(
                f"samples are {spread:.0%} as far from each other as the data are."
                if alike
                else f"it makes {found:.0f} of {every:.0f} modes, and no more of them than before."
            ),
            cause="The generator puts everything where the discriminator is weakest just now.",
            remedy=self._remedy(context, player),
        )

    def _deaf(self, context: Context, player: Player, spread: float) -> Sign:
        return Sign(
            name="mode_collapse",
            kinds=("layers", "data"),
            severity="warning",
            player=player.name,
            evidence={"diversity": spread},
            what=f"all samples are the same, and have been from the beginning (diversity {spread:.1g}).",
            cause="The latent does not reach them: it is not used, is constant, or is multiplied by nothing.",
            remedy=remedies.built_in_network(context),
        )

    def _remedy(self, context: Context, player: Player) -> Overrides:
        if slower := remedies.if_too_fast(context, player):
            return slower
        discriminator = context.player("discriminator")
        if discriminator is not None and player.lr > 3 * discriminator.lr:  # it outruns the discriminator
            return remedies.rate(context, discriminator, player.lr)
        if not context.chosen("penalty"):
            return ("penalty=r1_r2",) if "Relativistic" in context.chosen("loss") else penalty(context, 1.0)
        # ADA reads the sign of the logits, which a relativistic loss leaves without a meaning.
        paired = context.chosen("augment") != "ADA"
        if paired and context.chosen("loss") in ("Minimax", "LeastSquares", "Hinge", "Wasserstein"):
            return ("loss=relativistic", "penalty=r1_r2")
        return penalty(context, 5.0)


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """The players chase each other: logits swing widely about the border, and nothing comes of it.

    Attributes:
        swing: mean absolute change of a mean logit from one logged point to the next, in nats.
        turns: share of the points at which the change turns round.
        points: logged points looked at.
    """

    swing: float = 2.0
    turns: float = 0.3
    points: int = 12

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One note: a game may circle and still come nearer."""
        player = context.player("generator")
        logits = history.recent("logits/fake", self.points)
        if player is None or not logits:
            return
        changes = [after - before for before, after in itertools.pairwise(logits)]
        swing = sum(map(abs, changes)) / len(changes)
        turns = sum(a * b < 0 for a, b in itertools.pairwise(changes)) / (len(changes) - 1)
        if swing < self.swing or turns < self.turns or abs(logits[-1] - logits[0]) > 2 * swing:
            return
        yield Sign(
            name="rotation",
            kinds=("learning_rate",),
            severity="note",
            player=player.name,
            evidence={"swing": swing, "turns": turns},
            what=f"the discriminator's mean logit of samples swings by {swing:.2g} nats from point to point.",
            cause="The game turns instead of settling: each player answers the other's last move.",
            remedy=penalty(context, 3.0) if context.chosen("penalty") else ("update=extragradient",),
        )


@dataclass(frozen=True, kw_only=True)
class DiscriminatorOverfitting:
    """Held-out data look generated to the discriminator: it has memorised its images.

    Attributes:
        share: of the gap between training data and samples that lies between training and held-out data
            (Karras et al. 2020, arXiv:2006.06676, eq. 1).
        gap: of the mean logits, below which the share is noise.
        measurements: over whose median.
    """

    share: float = 0.5
    gap: float = 0.15
    measurements: int = 3

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign."""
        share = history.level("game/overfitting", self.measurements)
        gap = history.level("game/logit_gap", self.measurements)
        player = context.player("discriminator")
        if player is None or share is None or gap is None or share < self.share or gap < self.gap:
            return
        yield Sign(
            name="discriminator_overfitting",
            kinds=("data", "regularisation"),
            severity="warning",
            player=player.name,
            evidence={"overfitting": share, "logit_gap": gap},
            what=(
                f"{share:.0%} of what it sees between data and samples it also sees between data "
                "and held-out data."
            ),
            cause=(
                "Too few images for a discriminator of this size: it memorises them instead of what "
                "they share."
            ),
            remedy=augmentation(context) or penalty(context, 10.0),
        )
