"""Rules about steps: how long they are, whether they swing, and how much of them is noise or clipping."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from core.diagnosis import remedies
from core.diagnosis.causes import LITTLE_LEARNT, LONG_STEPS
from core.diagnosis.context import Context, Overrides, Player
from core.diagnosis.findings import Sign, known
from core.diagnosis.signals import History, never

USUAL_RATIO = 1e-3  # |update| / |weights| that is commonly aimed at
SEARCHES = "LBFGS"  # one call takes many steps, whose length the curvature sets and not the rate


@dataclass(frozen=True, kw_only=True)
class ClippingAlwaysOn:
    """Every step is clipped: the norm that reaches the optimizer is the clipper's, not the gradient's.

    Attributes:
        share: of the steps of a window.
        points: logged points in a row, for a note.
        little: what is left of the norm, below which the clipper decides everything and one should act.
            Clipping to 0.5 at every step is customary for PPO, and leaves 1e-1 to 1e-3.
        soon: logged points in a row, for a warning.
    """

    share: float = 0.99
    points: int = 8
    little: float = 1e-5
    soon: int = 2

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player; none without a clipper: a natural step may be short by nature."""
        if "clipper" in context.options and context.options["clipper"] is None:
            return
        for player in context.players:
            norm = history.level(f"{player.prefix}gradient/norm", self.soon)
            after = history.level(f"{player.prefix}gradient/norm_clipped", self.soon)
            if not norm or after is None:
                continue
            left = after / norm
            points = self.soon if left < self.little else self.points
            shares = history.recent(f"{player.prefix}gradient/clipped", points)
            if not shares or min(shares) < self.share:
                continue
            yield Sign(
                name="clipping_always_on",
                kinds=("optimizer",),
                explains=("update_too_small", *LITTLE_LEARNT),
                severity="warning" if left < self.little else "note",
                player=player.name,
                evidence={"clipped": min(shares), "norm": norm, "norm_clipped": after, "left": left},
                what=f"every step is clipped, to {left:.1e} of its length.",
                cause=(
                    "The limit lies below every gradient: it sets the step's length, whatever the "
                    "gradient says."
                ),
                remedy=self._remedy(
                    context, min(norm, history.steady(f"{player.prefix}gradient/norm") or norm)
                ),
            )

    def _remedy(self, context: Context, norm: float) -> Overrides:
        if norm > 1e4 and (scaled := context.remedies.smaller_targets(context)):
            return scaled
        if context.number("clipper.max_norm") is not None:
            return (remedies.toward(context, "clipper.max_norm", norm),)
        return ("clipper=autoclip", "clipper.percentile=90")


@dataclass(frozen=True, kw_only=True)
class UpdateTooLarge:
    """One step changes a large share of the weights, or the first ones have blown them up.

    Large weights make long steps look short, but what the first steps have done stays visible in the weights'
    length.

    Attributes:
        ratio: |update| / |weights|. Common practice aims at 1e-3 and warns at 1e-1.
        blown: |weights| at the first sampled step over the initial ones, and still. Healthy runs reach 1.2;
            rates a hundred times too high 2.6 to 5.5.
        measurements: in a row.
    """

    ratio: float = 0.1
    blown: float = 2.0
    measurements: int = 2

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player."""
        for player in context.players:
            ratios = history.recent(f"{player.prefix}gradient/update_ratio", self.measurements)
            weights = history.course(f"{player.prefix}gradient/weight_norm")
            if _scalar(player) or player.optimizer == SEARCHES or not (ratios or weights):
                continue
            grown = (
                min(weights[0], weights[-1]) / player.initial_norm if weights and player.initial_norm else 0.0
            )
            large = bool(ratios) and min(ratios) >= self.ratio
            if not large and grown < self.blown:
                continue
            now = ratios[-1] if large else self.ratio  # what blows up has been at least as long
            first = min(history.course(f"{player.prefix}gradient/update_ratio")[:3], default=now)
            before = min(now, max(first, self.ratio))  # what has grown since says nothing of the rate
            yield Sign(
                name="update_too_large",
                kinds=("learning_rate",),
                explains=("diverged", *LONG_STEPS),
                severity="warning",
                player=player.name,
                evidence={"growth": grown, "lr": player.lr}
                | ({"update_ratio": ratios[-1]} if ratios else {}),
                what=(
                    f"one step changes the weights by {now:.0%} of their length."
                    if large
                    else f"the first steps have made the weights {grown:.1f} times as long as they were."
                ),
                cause="The learning rate is too high for this network and optimizer.",
                remedy=remedies.sound_rate(context, player, player.lr * USUAL_RATIO / before),
            )


@dataclass(frozen=True, kw_only=True)
class UpdateTooSmall:
    """The steps hardly move the weights, although there is a gradient to follow.

    Attributes:
        ratio: |update| / |weights| at the full learning rate (what a schedule has taken is given back; a step
            that it has made longer is as long as it is).
            Common practice warns at 1e-5; healthy runs stay above 2e-4, broken ones below 2e-6.
        slope: share of the norm of the first points that the gradient must still have: at a minimum short
            steps are right.
        scheduled: share of the rate below which a schedule has ended the training: short steps are meant.
        seen: root mean square of a layer's gradient that an optimizer sees; Adam's eps is 1e-8.
        measurements: in a row.
        explains: what comes of a player that stands still.
    """

    ratio: float = 1e-5
    slope: float = 0.02
    seen: float = 1e-6
    scheduled: float = 0.02
    measurements: int = 2
    explains: tuple[str, ...] = LITTLE_LEARNT

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player: of all its weights together, or of one layer that alone stands still."""
        for player in context.players:
            scale = history.last(f"{player.prefix}gradient/lr_scale")
            scale = 1.0 if scale is None else scale
            ratios = history.recent(f"{player.prefix}gradient/update_ratio", self.measurements)
            course = history.course(f"{player.prefix}gradient/norm")
            if scale < self.scheduled or not ratios or not course or _scalar(player):
                continue
            if course[-1] <= self.slope * max(course[:3]):
                continue
            now = max(ratios) / min(scale, 1.0)
            layer = None if now < self.ratio else self._still(history, player)
            if now >= self.ratio and layer is None:
                continue
            yield Sign(
                name="update_too_small",
                kinds=("frozen",) if layer else ("learning_rate",),
                explains=self.explains,
                severity="warning",
                player=player.name,
                layer=layer,
                evidence={"update_ratio": 0.0 if layer else now, "lr": player.lr},
                what=(
                    "it has a gradient, but the steps do not move it."
                    if layer
                    else f"one step changes the weights by {now:.1e} of their length."
                ),
                cause=(
                    "Its learning rate is 0, or its weights are written back after every step."
                    if layer
                    else "The learning rate is too low, or a clipper leaves nothing of the gradient."
                ),
                remedy=_ungrouped(context) if layer else self._remedy(history, context, player, now),
            )

    def _still(self, history: History, player: Player) -> str | None:
        """The first layer whose weights have not moved at all, though it had a gradient."""
        ratios = history.layers_last(player.prefix, "update_ratio", self.measurements)
        norms = history.layers_last(player.prefix, "gradient_norm", self.measurements)
        for layer in player.layers:
            moved = max(ratios.get(layer.name, [1.0]))
            slope = min(norms.get(layer.name, [0.0])) / layer.size**0.5
            if layer.dim >= 2 and moved == 0.0 and slope > self.seen:
                return layer.name
        return None

    def _remedy(self, history: History, context: Context, player: Player, now: float) -> Overrides:
        norm = history.level(f"{player.prefix}gradient/norm", self.measurements)
        after = history.level(f"{player.prefix}gradient/norm_clipped", self.measurements)
        if (
            norm
            and after is not None
            and after < 1e-3 * norm
            and context.number("clipper.max_norm") is not None
        ):
            steady = history.steady(f"{player.prefix}gradient/norm") or norm
            return (remedies.toward(context, "clipper.max_norm", min(norm, steady)),)
        fastest = max(other.lr for other in context.players)
        if fastest > 10 * player.lr:  # the other player's rate has been chosen for this game
            return remedies.rate(context, player, fastest)
        return remedies.sound_rate(context, player, player.lr * USUAL_RATIO / max(now, 1e-12), least=3e-4)


@dataclass(frozen=True, kw_only=True)
class Oscillation:
    """Gradients turn round from step to step, or the velocity carries the weights uphill.

    Attributes:
        cosine: of consecutive gradients, below which the steps jump across a valley. Practice says -0.5.
        update_cosine: of gradient and step, below which momentum climbs.
        noiseless: neither samples nor other players turn the gradients: then it is more than a note.
        slope: share of its largest norm that the gradient must still have: at a minimum it may turn, and in
            the end rounding turns it.
        measurements: over whose median.
    """

    cosine: float = -0.4
    update_cosine: float = -0.1
    noiseless: bool = False
    slope: float = 1e-4
    measurements: int = 4

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player."""
        for player in context.players:
            cosine = history.level(f"{player.prefix}gradient/cosine", self.measurements)
            along = history.level(f"{player.prefix}gradient/update_cosine", self.measurements)
            momentum = along is not None and along < self.update_cosine
            swings = cosine is not None and cosine < self.cosine
            norm = history.level(f"{player.prefix}gradient/norm", self.measurements)
            most = max(history.course(f"{player.prefix}gradient/norm"), default=0.0)
            vanished = norm is not None and norm < self.slope * most
            if not (swings or momentum) or vanished or _scalar(player):
                continue
            decay = context.number("optimizer.momentum")
            slower = remedies.learning_rate(context, player, 0.2)
            if momentum and decay is not None and decay > 0.9:
                slower = (*remedies.learning_rate(context, player, 0.3), "optimizer.momentum=0.9")
            yield Sign(
                name="oscillation",
                kinds=("learning_rate",),
                explains=LITTLE_LEARNT,
                severity="warning" if self.noiseless else "note",
                player=player.name,
                evidence=known(cosine=cosine, update_cosine=along),
                what=(
                    f"the steps point uphill (cosine {along:.2f} with the way down)."
                    if momentum and not swings
                    else f"consecutive gradients point against each other (cosine {cosine:.2f})."
                ),
                cause=(
                    "The steps are too long for the curvature: they jump across the valley, or swing "
                    "through it."
                ),
                remedy=slower,
            )


def no_sequences(context: Context) -> bool:
    """No: a sample is one."""
    return False


@dataclass(frozen=True, kw_only=True)
class NoiseDominated:
    """The batch is far below the gradient's noise scale: most of a step is noise.

    Attributes:
        ratio: noise scale over batch, from which it is worth a note; late in training, and in RL nearly
            always, it is large.
        severe: from which one should act if the batch is also small; a quarter of it for one or two samples
            whose scale is estimated from successive steps, which know none that is far beyond the batch.
        small: samples.
        points: logged points whose median is taken.
        learnt: whether a run has learnt, after which noise is all that is left; None where that is not known.
        sequences: whether a sample is a whole sequence, of which one or two are no small batch.
    """

    learnt: Callable[[History], bool | None] = never
    sequences: Callable[[Context], bool] = no_sequences
    ratio: float = 100.0
    severe: float = 8.0
    small: int = 8
    points: int = 4

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player."""
        for player in context.players:
            few = player.batch is not None and player.batch <= 2 and not self.sequences(context)
            if not player.batch or (player.batch == 1 and not few):
                continue
            scale = history.last(f"{player.prefix}noise/noise_scale")
            scale = history.level("full_gradient/noise_scale", self.points) if scale is None else scale
            rough = scale is None
            if scale is None:
                scale = history.level(f"{player.prefix}gradient/noise_scale", self.points)
            severe = player.batch <= self.small and not self.learnt(history)
            border = self.severe * (0.25 if few and rough else 1.0) if severe else self.ratio
            if scale is None or not border * player.batch <= scale < math.inf:
                continue
            yield Sign(
                name="noise_dominated",
                kinds=("batch",),
                explains=LITTLE_LEARNT,
                severity="warning" if severe else "note",
                player=player.name,
                evidence={"noise_scale": scale, "batch": float(player.batch)},
                what=(f"the noise scale is {scale / player.batch:,.0f} times the batch of {player.batch:,}."),
                cause="Samples disagree more than they agree: the steps are nearly all noise.",
                remedy=remedies.batch(context, player, self._wanted(scale, few=few, severe=severe)),
            )

    def _wanted(self, scale: float, *, few: bool, severe: bool) -> float:
        """Samples: the noise scale, of a small batch at most 256, of one or two at least the usual 32."""
        return scale if not severe else min(max(scale, 32.0 if few else scale), 256.0)


def _ungrouped(context: Context) -> Overrides:
    """One rate for all parameters, where some have their own."""
    own = any(option.startswith("optimizer.groups.") for option in context.options)
    return ("optimizer.groups=null",) if own else ()


def _scalar(player: Player) -> bool:
    """A player of one number: its ratios and cosines say nothing."""
    return sum(layer.size for layer in player.layers) == 1
