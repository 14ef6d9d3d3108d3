"""What is learnt, measured by the loss of the best constant prediction; and the rule about a maximised loss.

Where `loss/constant` is not known, nothing is said of it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean

from core.diagnosis.causes import SCALE
from core.diagnosis.context import Context, Player
from core.diagnosis.findings import Sign
from core.diagnosis.signals import History, never

LOSS, CONSTANT = "loss/train", "loss/constant"


def left(history: History) -> float | None:
    """Share of the best constant's loss that is left, of the last point; None where it is not known."""
    loss, constant = history.last(LOSS), history.last(CONSTANT)
    return loss / constant if loss is not None and constant and constant > 0 else None


def learnt(history: History, share: float = 0.2) -> bool | None:
    """Whether hardly anything of the best constant's loss is left; None where it is not known."""
    now = left(history)
    return None if now is None else now < share


def moved(history: History, player: Player) -> float | None:
    """How far the weights may have come, in their own lengths: the mean step times their number."""
    ratios = history.course(f"{player.prefix}gradient/update_ratio")
    return fmean(ratios) * history.step if ratios else None


def through(history: History, player: Player) -> float | None:
    """Root mean square of the gradient's components in the first weight over that in the last one."""
    norms = history.layers_last(player.prefix, "gradient_norm", 1)
    sizes = [
        norms[layer.name][0] / math.sqrt(layer.size)
        for layer in player.layers
        if layer.dim >= 2 and layer.name in norms
    ]
    return sizes[0] / sizes[-1] if len(sizes) >= 2 and sizes[-1] > 0 else None


@dataclass(frozen=True, kw_only=True)
class LossMaximised:
    """The optimizer is given the gradient of the negative loss: it learns to be wrong.

    Attributes:
        points: in a row.
        hopeless: whether predictions are no better than at first, however far the loss has fallen; then a
            loss that is negative for no prediction as well is maximised.
    """

    points: int = 2
    hopeless: Callable[[History], bool | None] = never

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, of a run with one player: players of a game maximise each other's."""
        shares = history.recent("loss/maximised", self.points)
        losses = history.recent(LOSS, self.points)
        zeros = context.limits.get("loss_of_zeros", 0.0)
        below = bool(losses) and max(losses) < 0 and (zeros > 0 or (zeros < 0 and self.hopeless(history)))
        if not (below or (shares and min(shares) == 1.0)) or len(context.players) != 1:
            return
        yield Sign(
            name="loss_maximised",
            severity="error",
            kinds=("loss",),
            explains=SCALE,
            player=context.players[0].name,
            evidence={"loss": history.last(LOSS) or 0.0},
            what=(
                f"the loss is {losses[-1]:.3g}, and no prediction is any better for it."
                if zeros < 0
                else f"the loss is {losses[-1]:.3g}, and that of no prediction is below 0."
                if below
                else "the loss is maximised: backward begins with its negative."
            ),
            cause="The sign of the loss is turned, or a score was taken for a loss.",
            remedy=context.remedies.sign(context),
        )
