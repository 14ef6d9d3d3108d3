"""The diagnosis of descents: rules about the ground they stand on, and what their options can do about it."""

from collections.abc import Iterator
from dataclasses import dataclass

from core.curvature.critical import SLOPE
from core.diagnosis import Context, Overrides, Player, Remedies, Rule, Sign, network_rules, remedies
from core.diagnosis.signals import History
from core.diagnosis.steps import Oscillation, UpdateTooLarge, UpdateTooSmall

VALUE = "descent/value"  # of the function, which has no noise
LOSS = "loss/train"  # over all samples, while the steps are noisy


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
                yield Sign(
                    name="saddle",
                    severity="warning",
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
                    remedy=self._push(context, player),
                )
            elif curvature < level and not (lowest > 0 and norm <= SLOPE * curvature):
                yield Sign(
                    name="plateau",
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

    def _push(self, context: Context, player: Player) -> Overrides:
        if context.chosen("optimizer") == "PerturbedSGD":
            return ()
        return ("optimizer=perturbed_sgd", remedies.override("optimizer.lr", min(player.lr, 0.05)))


@dataclass(frozen=True, kw_only=True)
class Unmoved:
    """A noisy descent has not left the height it began at.

    Attributes:
        fall: of the loss since the first point, relative to it, that is too little.
        progress: share of the run from which there should have been more.
        points: logged points whose median is taken.
    """

    fall: float = 0.05
    progress: float = 0.08
    points: int = 5

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, for losses over data: what a function's value began at says nothing."""
        course, now = history.course(LOSS), history.level(LOSS, self.points)
        if now is None or history.now(LOSS) is None or history.step < self.progress * context.total:
            return
        if now < (1.0 - self.fall) * course[0]:
            return
        for player in context.players[:1]:
            yield Sign(
                name="plateau",
                severity="warning",
                player=player.name,
                evidence={"loss": now, "first": course[0]},
                what=f"the loss is {now:.4g}, and began at {course[0]:.4g}.",
                cause="It began on a plateau: steps in proportion to so small a gradient do not leave it.",
                remedy=stride(context, player),
            )


def stride(context: Context, player: Player) -> Overrides:
    """Steps that do not shrink with the gradient."""
    if player.optimizer in ("SGD", "ASGD", "Adadelta"):
        return ("optimizer=adam", "optimizer.lr=0.01")
    return remedies.learning_rate(context, player, 10.0)


def larger_batch(context: Context, player: Player, samples: int) -> Overrides:
    """A larger minibatch; nothing where there is none."""
    size = context.number("batch.size")
    return (remedies.override("batch.size", samples),) if size is not None and samples > size else ()


def shallower(context: Context) -> Overrides:
    """Half the layers of an objective's network."""
    depth = context.number("objective.depth")
    return (remedies.toward(context, "objective.depth", int(depth // 2)),) if depth and depth > 2 else ()


REMEDIES = Remedies(larger_batch=larger_batch, shallower=shallower)
RULES_OF_OBJECTIVE: tuple[Rule, ...] = (*network_rules(), Unmoved())
# The length of a point is no measure for a step.
RULES_OF_FUNCTION: tuple[Rule, ...] = (
    *(
        r
        for r in network_rules(Oscillation(noiseless=True))
        if not isinstance(r, UpdateTooLarge | UpdateTooSmall)
    ),
    Flat(),
)
