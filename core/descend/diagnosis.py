"""The diagnosis of descents: rules about the ground they stand on, and what their options can do about it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from core.curvature.critical import SLOPE
from core.diagnosis import Context, Overrides, Player, Remedies, Rule, Sign, network_rules, remedies
from core.diagnosis.causes import LONG_STEPS
from core.diagnosis.gradients import ExplodingGradient, VanishingGradient
from core.diagnosis.learning import LossMaximised, through
from core.diagnosis.signals import History
from core.diagnosis.steps import Oscillation, UpdateTooLarge, UpdateTooSmall

VALUE = "descent/value"  # of the function, which has no noise
LOSS = "loss/train"  # over all samples, while the steps are noisy


def falling(history: History) -> bool:
    """Whether the value or the loss is no higher than it usually was."""
    return any(
        now is not None and usual is not None and now <= usual
        for now, usual in ((history.level(tag, 4), history.usual(tag)) for tag in (VALUE, LOSS))
    )


def known_ground(history: History) -> bool:
    """Whether the curvature is known, by which `Flat` tells a minimum from where a descent is stuck."""
    return history.last("curvature/lowest") is not None


def fitted(history: History) -> bool:
    """Whether nothing is left of the loss that the descent began with."""
    course, now = history.course(LOSS), history.now(LOSS)
    return bool(course) and now is not None and 0.0 <= now <= 1e-9 * course[0]


def hopeless(history: History) -> bool:
    """Whether no more samples are classified right than at the first point."""
    course = history.course("accuracy/train")
    return len(course) > 1 and course[-1] <= course[0]


@dataclass(frozen=True, kw_only=True)
class WorseHeldOut:
    """The samples are known by heart, and others are not.

    Attributes:
        known: share of the loss of zeros that is left in training.
        other: the same of samples held out; after half a thousand steps on all digits 0.05 is left.
        apart: times the loss in training that it is.
        points: in a row, over which it does not fall any more.
    """

    known: float = 0.05
    other: float = 0.2
    apart: float = 10.0
    points: int = 3

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, for losses over data."""
        losses, others = history.recent(LOSS, self.points), history.recent("loss/held_out", self.points)
        zeros = context.limits.get("loss_of_zeros", 0.0)
        if not losses or not others or zeros <= 0 or max(losses) > self.known * zeros:
            return
        if min(others) < max(self.other * zeros, self.apart * losses[0]) or others[-1] < 0.97 * others[0]:
            return
        for player in context.players[:1]:
            yield Sign(
                name="worse_held_out",
                severity="warning",
                kinds=("data", "regularisation"),
                player=player.name,
                evidence={"loss": losses[-1], "held_out": others[-1], "loss_of_zeros": zeros},
                what=f"the loss is {losses[-1]:.2g} in training, and {others[-1]:.3g} of samples held out.",
                cause="The samples are too few, or the same again and again: they are memorised.",
                remedy=more_samples(context),
            )


@dataclass(frozen=True, kw_only=True)
class Flat:
    """The loss has stopped falling where it is flat: a saddle if it curves down somewhere, else a plateau.

    Attributes:
        change: of the loss over the points, relative to itself, that counts as none.
        points: logged points.
        gradient: norm, relative to the larger of |curvature| and height, up to which the ground is flat.
            Height is how far the loss has come since the first point, or its size where it has not moved.
        down: lowest eigenvalue, relative to the largest, below which there is a way down.
        level: eigenvalues, relative to the height, up to which a plateau has no curvature.
    """

    change: float = 1e-4
    points: int = 8
    gradient: float = 1e-2
    down: float = 1e-2
    level: float = 1e-2

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, for runs whose loss and curvature are known without noise."""
        values = history.recent(VALUE, self.points)
        for player in context.players[:1] if values else ():
            norm = history.now(f"{player.prefix}gradient/norm")
            lowest = history.last(f"{player.prefix}curvature/lowest")
            sharpness = history.last(f"{player.prefix}curvature/sharpness")
            if norm is None or lowest is None or sharpness is None:
                continue
            course = history.course(VALUE)
            size = abs(values[-1])
            height = max(course) - min(course)
            height = height if height > self.change * size else size
            still = max(values) - min(values) <= self.change * max(size, 1e-3 * height)
            curvature = max(abs(lowest), abs(sharpness))
            if not still or norm > self.gradient * max(height, curvature):
                continue
            level = self.level * height
            evidence = {"value": values[-1], "gradient_norm": norm, "lowest": lowest, "sharpness": sharpness}
            if lowest < -self.down * max(abs(sharpness), level):
                leaves = context.chosen("optimizer") == "PerturbedSGD"
                yield Sign(
                    name="saddle",
                    kinds=("optimizer", "init"),
                    severity="note" if leaves else "warning",
                    player=player.name,
                    evidence=evidence,
                    what=(
                        f"the gradient is nearly zero (|g| = {norm:.1e}), and the loss curves down "
                        f"({lowest:.2g})."
                    ),
                    cause=(
                        "The descent has reached a saddle along a direction from which the gradient alone "
                        "does not lead away."
                    ),
                    remedy=()
                    if leaves
                    else ("optimizer=perturbed_sgd", remedies.override("optimizer.lr", min(player.lr, 0.05))),
                )
            elif values[-1] > course[0] + self.change * size:
                continue  # a step has carried it up there: no longer one cures that
            elif curvature < level and not (lowest > 0 and norm <= SLOPE * curvature):
                yield Sign(
                    name="plateau",
                    kinds=("optimizer", "init"),
                    severity="warning",
                    player=player.name,
                    evidence=evidence,
                    what=(
                        f"the loss stands still at {values[-1]:.4g}, with almost no gradient and almost no "
                        "curvature."
                    ),
                    cause=("It is on a plateau: steps in proportion to so small a gradient do not leave it."),
                    remedy=stride(context, player),
                )


@dataclass(frozen=True, kw_only=True)
class Unmoved:
    """A noisy descent has not left the height it began at.

    Attributes:
        fall: of the loss since the first point, relative to it, that is too little.
        above: times the first loss, beyond which it does not stand where it began, but has been carried up.
        blown: the same, once: a loss that has been there has blown up, and no longer step cures that.
        progress: share of the run from which there should have been more.
        points: logged points whose median is taken.
        moves: |step| / |weights| above which steps are long enough to leave.
        passes: gradient's components in the first weight over those in the last, above which it arrives.
    """

    fall: float = 0.05
    above: float = 2.0
    blown: float = 10.0
    progress: float = 0.08
    points: int = 5
    moves: float = 5e-4
    passes: float = 0.05

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, for losses over data: what a function's value began at says nothing."""
        course, now = history.course(LOSS), history.level(LOSS, self.points)
        if now is None or history.now(LOSS) is None or history.step < self.progress * context.total:
            return
        if now < (1.0 - self.fall) * course[0]:
            return
        if now > self.above * abs(course[0]) or max(course) > self.blown * abs(course[0]):
            return
        for player in context.players[:1]:
            steps, ratio = history.level(f"{player.prefix}gradient/update_ratio", 1), through(history, player)
            moves = steps is not None and steps > self.moves and ratio is not None and ratio > self.passes
            yield Sign(
                name="plateau",
                kinds=("labels", "data") if moves else ("optimizer", "labels"),
                severity="warning",
                player=player.name,
                evidence={"loss": now, "first": course[0]},
                what=f"the loss is {now:.4g}, and began at {course[0]:.4g}.",
                cause="All weights move, the first ones too: the labels do not follow from the samples."
                if moves
                else "It began on a plateau: steps in proportion to so small a gradient do not leave it.",
                remedy=() if moves else stride(context, player),
            )


@dataclass(frozen=True, kw_only=True)
class Diverged:
    """A loss over data is far above that of the initial weights, and stays there.

    Attributes:
        growth: times the loss before the first step. A healthy descent may pass such heights, and comes down.
        points: logged points whose lowest loss is taken.
    """

    growth: float = 10.0
    points: int = 5

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, of losses that are not negative."""
        first, losses = context.limits.get("first_loss", 0.0), history.recent(LOSS, self.points)
        if history.now(LOSS) is None or not losses or not 0.0 < self.growth * first < min(losses):
            return
        for player in context.players[:1]:
            yield Sign(
                name="diverged",
                kinds=("learning_rate",),
                explains=(*LONG_STEPS, "update_too_small"),
                severity="error",
                player=player.name,
                evidence={"loss": losses[-1], "first_loss": first, "lr": player.lr},
                what=f"the loss is {losses[-1]:.4g}, and was {first:.4g} before the first step.",
                cause="Steps that were too long have carried the weights up there.",
                remedy=remedies.learning_rate(context, player, 0.1),
            )


@dataclass(frozen=True, kw_only=True)
class Outset:
    """The initial weights stretch what passes through them: loss and gradient are huge before the first step.

    Attributes:
        growth: the first loss over that of a network whose outputs are zeros, from which it is a finding.
            Ten matrices of gain 1 begin at up to twice that loss, of gain 1.5 at some thousand times it.
    """

    growth: float = 30.0

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, until the loss has come down to that of zeros."""
        first, zeros = (context.limits.get(name, 0.0) for name in ("first_loss", "loss_of_zeros"))
        now = history.now(LOSS)
        if now is None or not 0.0 < self.growth * zeros < first or now <= zeros:
            return
        for player in context.players[:1]:
            gain = context.number("objective.gain")
            yield Sign(
                name="exploding_gradient",
                kinds=("init",),
                severity="warning",
                player=player.name,
                evidence={"first_loss": first, "loss_of_zeros": zeros, "loss": now},
                what=(
                    f"before the first step the loss was {first:.3g}, {first / zeros:,.0f} times that of a "
                    "network whose outputs are zeros."
                ),
                cause=(
                    "The initial weights are too large: each layer stretches what passes through it, and the "
                    "gradient on its way back."
                ),
                remedy=(remedies.toward(context, "objective.gain", 1.0),)
                if gain is not None and gain > 1.0
                else shallower(context),
            )


def stride(context: Context, player: Player) -> Overrides:
    """Steps that do not shrink with the gradient."""
    if player.optimizer in ("SGD", "ASGD", "Adadelta"):
        return ("optimizer=adam", "optimizer.lr=0.01")
    return remedies.learning_rate(context, player, 10.0)


def larger_batch(context: Context, player: Player, samples: int) -> Overrides:
    """A larger minibatch, of all samples where there are no more; nothing where a function is descended."""
    now = 1.0 if context.chosen("batch") == "Stochastic" else context.number("batch.size")
    if now is None or samples <= now:
        return ()
    if samples >= context.limits.get("train_samples", math.inf):
        return ("batch=full",)
    size = remedies.override("batch.size", samples)
    return (size,) if "batch.size" in context.options else ("batch=minibatch", size)


def more_samples(context: Context) -> Overrides:
    """As many as the objective has of itself, where fewer were typed."""
    now, default = context.number("objective.samples"), context.defaults().get("objective.samples")
    if now is None or not isinstance(default, int) or default <= now:
        return ()
    return (remedies.override("objective.samples", default),)


def shallower(context: Context) -> Overrides:
    """Half the layers of an objective's network."""
    depth = context.number("objective.depth")
    return (remedies.toward(context, "objective.depth", int(depth // 2)),) if depth and depth > 2 else ()


REMEDIES = Remedies(larger_batch=larger_batch, shallower=shallower)
RULES_OF_OBJECTIVE: tuple[Rule, ...] = (
    *network_rules(VanishingGradient(reached=fitted), ExplodingGradient(falling=falling)),
    Unmoved(),
    Diverged(),
    Outset(),
    LossMaximised(hopeless=hopeless),
    WorseHeldOut(),
)
# The length of a point is no measure for a step.
RULES_OF_FUNCTION: tuple[Rule, ...] = (
    *(
        r
        for r in network_rules(
            VanishingGradient(reached=known_ground),
            ExplodingGradient(falling=falling),
            Oscillation(noiseless=True),
        )
        if not isinstance(r, UpdateTooLarge | UpdateTooSmall)
    ),
    Flat(),
)
