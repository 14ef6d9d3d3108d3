"""Rules about what a loop learns: nothing, not yet enough, or its samples by heart."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from core.diagnosis import Context, History, Player, Sign, known
from core.diagnosis.learning import CONSTANT, LOSS, moved, through
from core.diagnosis.remedies import UNSCALED, learning_rate

HELD_OUT = "loss/no_grad"


@dataclass(frozen=True, kw_only=True)
class NoBetterThanConstant:
    """The loss stands where a prediction that never looks at its inputs would stand.

    Attributes:
        share: of the best constant's loss that is left in the second half of the run.
        most: the same, above which it is not a constant that is learnt.
        least: steps before it is said.
        still: how far the weights may have come, in their own lengths, where steps are too short.
        blocked: gradient's components in the first weight over those in the last, where activations hold it.
        falls: share of the constant's loss by which it falls in the second half where something is learnt.
        certain: times its standard error that the slope of that must have.
    """

    share: float = 0.93
    most: float = 3.0
    least: int = 60
    still: float = 0.5
    blocked: float = 0.1
    falls: float = 0.05
    certain: float = 3.0

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, of a run with one player."""
        points = history.points(LOSS)
        constant = history.last(CONSTANT)
        if history.step < self.least or not constant or len(context.players) != 1:
            return
        late = [value for step, value in points if step > history.step / 2]
        if len(late) < 2 or not self.share * constant <= fmean(late) <= self.most * constant:
            return
        slope, error = _slope([(step, value) for step, value in points if step >= history.step / 2])
        if -slope >= max(self.certain * error, self.falls * constant / (history.step / 2)):
            return
        player = context.players[0]
        kinds, cause, remedy = self._cause(history, context, player)
        yield Sign(
            name="no_better_than_constant",
            severity="warning",
            kinds=kinds,
            explains=("not_trained_long_enough",),
            player=player.name,
            evidence={"loss": fmean(late), "loss/constant": constant, "share": fmean(late) / constant},
            what=(
                f"the loss is {fmean(late):.3g}; a constant that never looks at the inputs would have "
                f"{constant:.3g}."
            ),
            cause=cause,
            remedy=remedy,
        )

    def _cause(
        self, history: History, context: Context, player: Player
    ) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
        way, ratio = moved(history, player), through(history, player)
        if history.last(f"{player.prefix}units/bounded") and (ratio is None or ratio < 1.0):
            short = way is not None and way < self.still
            return (
                ("activation", "learning_rate") if short else ("activation",),
                "Bounded activations between the layers pass little of the gradient on.",
                context.remedies.unbounded(context) or context.remedies.shallower(context),
            )
        if way is not None and way < self.still:
            plain = player.optimizer in UNSCALED
            return (
                ("learning_rate", "optimizer") if plain else ("learning_rate",),
                f"The steps are too short: all together {way:.2g} of the weights' length.",
                learning_rate(context, player, 10.0),
            )
        if ratio is not None and ratio < self.blocked:
            return (
                ("activation", "layers"),
                "Little of the gradient reaches the first layers.",
                context.remedies.shallower(context),
            )
        return (
            ("labels", "data"),
            "The weights have moved far enough: the targets do not depend on the inputs beside them.",
            context.remedies.paired(context),
        )


@dataclass(frozen=True, kw_only=True)
class NotTrainedLongEnough:
    """At the end the loss still falls as it did before, and is far from what it could be.

    Attributes:
        share: of the best constant's loss that must be left.
        falls: share of the whole fall that belongs to the second half of the run.
        certain: times its standard error that the slope of the second half must have.
        least: steps of a run.
        still: how far the weights may have come, in their own lengths, where steps are too short.
    """

    share: float = 0.5
    falls: float = 0.25
    certain: float = 3.0
    least: int = 12
    still: float = 1.0

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, of a run with one player; to be asked at the end."""
        points, constant = history.points(LOSS), history.last(CONSTANT)
        late = [(step, value) for step, value in points if step >= history.step / 2]
        if history.step < self.least or not constant or len(context.players) != 1 or len(points) < 8:
            return
        if not late or points[-1][0] != history.step:  # of a loss that is lost nothing can be said
            return
        slope, error = _slope(late)
        fall = -slope * (late[-1][0] - late[0][0])
        total = median([value for _, value in points[:3]]) - points[-1][1]
        if points[-1][1] < self.share * constant or fall < self.falls * max(total, 1e-12):
            return
        if -slope < self.certain * error or fall < 0.005 * constant:
            return
        player = context.players[0]
        way = moved(history, player)
        short = way is not None and way < self.still
        plain = player.optimizer in UNSCALED
        kinds = ("learning_rate", "optimizer") if short and plain else ("learning_rate", "epochs")
        yield Sign(
            name="not_trained_long_enough",
            severity="warning",
            kinds=kinds if short else ("epochs", "learning_rate"),
            player=player.name,
            evidence=known(loss=points[-1][1], constant=constant, fall=fall, way=way),
            what=(
                f"the loss still falls at the end, {fall / max(total, fall):.0%} of its fall in the second "
                f"half; {points[-1][1] / constant:.0%} of a constant's is left."
            ),
            cause="The run is too short for steps of this length.",
            remedy=learning_rate(context, player, 10.0) if short else context.remedies.longer(context),
        )


def _slope(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Of a line through the points, and its standard error; 0 and infinity for fewer than 4."""
    if len(points) < 4:
        return 0.0, math.inf
    x, y = ([float(point[i]) for point in points] for i in (0, 1))
    mean_x, mean_y = fmean(x), fmean(y)
    spread = sum((value - mean_x) ** 2 for value in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    rest = sum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
    return slope, math.sqrt(rest / (len(x) - 2) / spread)


@dataclass(frozen=True, kw_only=True)
class WorseHeldOut:
    """The training data are known by heart, and others are predicted worse than by a constant.

    Attributes:
        known: share of the best constant's loss that is left in training.
        points: in a row.
    """

    known: float = 0.1
    points: int = 3

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign."""
        held_out, loss = history.recent(HELD_OUT, self.points), history.recent(LOSS, self.points)
        constant = history.last(CONSTANT)
        if not held_out or not loss or not constant or len(context.players) != 1:
            return
        if max(loss) > self.known * constant or min(held_out) < constant or held_out[-1] <= held_out[0]:
            return
        yield Sign(
            name="worse_held_out",
            severity="warning",
            kinds=("data", "regularisation"),
            player=context.players[0].name,
            evidence={"loss": loss[-1], "held_out": held_out[-1], "loss/constant": constant},
            what=(
                f"the loss in training is {loss[-1]:.2g}, without a gradient {held_out[-1]:.3g} and rising; "
                f"a constant would have {constant:.3g}."
            ),
            cause="The samples are too few, or the same again and again: they are memorised.",
            remedy=context.remedies.more_data(context),
        )
