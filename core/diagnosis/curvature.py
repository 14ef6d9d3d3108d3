"""The rule about curvature that is too large for the step."""

from collections.abc import Iterator
from dataclasses import dataclass

from core.diagnosis import remedies
from core.diagnosis.context import Context, Player
from core.diagnosis.findings import Severity, Sign
from core.diagnosis.signals import History


@dataclass(frozen=True, kw_only=True)
class AboveEdge:
    """The sharpest direction grows: sharpness times what the optimizer makes of it is above its threshold.

    Attributes:
        stability: sharpness over threshold. Training hovers about 1 (Cohen et al. 2021, arXiv:2103.00065).
        most: beyond it a preconditioner says nothing: it is taken as it stands, and parameters that have
            hardly had a gradient rule its sharpness. Did that direction grow so at every step, the run would
            be over.
        measurements: in a row.
        severity: a note where another player moves the loss between two steps.
    """

    stability: float = 1.5
    most: float = 100.0
    measurements: int = 2
    severity: Severity = "warning"

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player whose curvature is known."""
        for player in context.players:
            values = history.recent(f"{player.prefix}curvature/stability", self.measurements)
            values = values or self._of_sgd(history, context, player)
            if not values or min(values) < self.stability:
                continue
            now, measured = values[-1], player.optimizer in remedies.UNSCALED
            if now > self.most and not measured:
                continue
            lower = remedies.rate if measured else remedies.sound_rate
            yield Sign(
                name="above_edge_of_stability",
                kinds=("learning_rate",),
                severity=self.severity,
                player=player.name,
                evidence={"stability": now, "lr": player.lr},
                what=f"the sharpest direction is {now:.2g} times as curved as this step can bear.",
                cause=(
                    "The learning rate is too high for the curvature here: that direction grows at "
                    "every step."
                ),
                remedy=lower(context, player, player.lr * 0.7 / now),
            )

    def _of_sgd(self, history: History, context: Context, player: Player) -> list[float]:
        """Where only the sharpness is measured: over (2 + 2 b) / lr, for SGD with momentum b."""
        sharpness = history.recent(f"{player.prefix}curvature/sharpness", self.measurements)
        if player.optimizer != "SGD" or context.options.get("optimizer.nesterov"):
            return []
        threshold = (2 + 2 * (context.number("optimizer.momentum") or 0.0)) / max(player.lr, 1e-30)
        return [value / threshold for value in sharpness]
