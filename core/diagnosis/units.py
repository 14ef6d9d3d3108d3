"""Rules about units that pass no gradient on: dead and saturated ones, measured on a frozen batch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from core.diagnosis import remedies
from core.diagnosis.causes import NO_GRADIENT
from core.diagnosis.context import Context, Overrides, Player
from core.diagnosis.findings import Severity, Sign
from core.diagnosis.signals import History, never


@dataclass(frozen=True, kw_only=True)
class DeadUnits:
    """Units of a ReLU that are zero for every sample of the batch: no gradient passes them.

    Attributes:
        share: of a layer's units, from which one should act.
        noted: from which it is worth a note; healthy ReLU networks lose a few.
        measurements: in a row.
        patience: as of a `Sign`.
    """

    share: float = 0.9
    noted: float = 0.6
    measurements: int = 2
    patience: int | None = None

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player: its worst layer."""
        for player in context.players:
            found = _worst(history, player, "dead_units", self.measurements)
            if found is None or found[1] < self.noted:
                continue
            layer, share, layers = found
            severity: Severity = "error" if share == 1.0 else "warning" if share >= self.share else "note"
            yield Sign(
                name="dead_units",
                kinds=("learning_rate", "init"),
                explains=NO_GRADIENT,
                severity=severity,
                player=player.name,
                layer=layer,
                evidence={"dead": share, "activation_layers": float(layers)},
                what=f"{share:.0%} of its units are zero for every sample: no gradient passes them.",
                cause="A step too long, or biases far below zero, took them out of reach of the data.",
                remedy=remedies.if_too_fast(context, player)
                or remedies.built_in_network(context)
                or context.remedies.leakier(context)
                or remedies.learning_rate(context, player, 0.1),
                patience=self.patience,
            )


@dataclass(frozen=True, kw_only=True)
class SaturatedUnits:
    """Units of a tanh or sigmoid that are saturated for nearly every sample.

    Attributes:
        share: of a layer's units, from which one should act.
        noted: from which it is worth a note.
        measurements: in a row.
        tolerated: what the names of layers begin with that stand there in healthy runs as well.
        learnt: whether a run has learnt in spite of it, or None where that is not known.
    """

    share: float = 0.9
    noted: float = 0.6
    measurements: int = 2
    tolerated: tuple[str, ...] = ()
    learnt: Callable[[History], bool | None] = never

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player: its worst layer; a note where it is tolerated or the run has learnt."""
        for player in context.players:
            found = _worst(history, player, "saturated_units", self.measurements, last=self.tolerated)
            if found is None or found[1] < self.noted:
                continue
            layer, share, layers = found
            acts = share >= self.share and not layer.startswith(self.tolerated) and not self.learnt(history)
            yield Sign(
                name="saturated_units",
                kinds=("init", "preprocessing"),
                explains=NO_GRADIENT,
                severity="warning" if acts else "note",
                player=player.name,
                layer=layer,
                evidence={"saturated": share, "activation_layers": float(layers)},
                what=(f"{share:.0%} of its units are saturated: almost no gradient passes them."),
                cause="Weights or inputs are too large: steps too long, or observations of a large scale.",
                remedy=_smaller(context, player),
            )


def _smaller(context: Context, player: Player) -> Overrides:
    """What makes the weights or the inputs of these units smaller."""
    scaled = context.remedies.smaller_inputs(context) if player.lr <= 1e-3 else ()
    return (
        remedies.if_too_fast(context, player)
        or remedies.built_in_network(context)
        or scaled
        or remedies.learning_rate(context, player, 0.1)
    )


def _worst(
    history: History, player: Player, quantity: str, measurements: int, last: tuple[str, ...] = ()
) -> tuple[str, float, int] | None:
    """The layer with the largest share in all of the last measurements, that share, and their number.

    Of two that are equally bad, one whose name begins as none of `last` does.
    """
    found = {
        n: min(values) for n, values in history.layers_last(player.prefix, quantity, measurements).items()
    }
    if not found:
        return None
    layer = max(found, key=lambda name: (found[name], not name.startswith(last)))
    return layer, found[layer], len(found)
