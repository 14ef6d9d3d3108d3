"""Rules about units that pass nothing on: dead ones and saturated ones, on a frozen batch."""

from collections.abc import Iterator
from dataclasses import dataclass

from core.diagnosis import remedies
from core.diagnosis.agents import improved
from core.diagnosis.findings import Severity, Sign
from core.diagnosis.signals import Context, History, Player

CRITICS = ("critic", "head.critic")  # where the layers of a value function are


@dataclass(frozen=True, kw_only=True)
class DeadUnits:
    """Units of a ReLU that are zero for every sample of the batch: no gradient passes them.

    Attributes:
        share: of a layer's units, from which one should act.
        noted: from which it is worth a note; healthy ReLU networks lose a few.
        measurements: in a row.
    """

    share: float = 0.9
    noted: float = 0.6
    measurements: int = 2

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
                severity=severity,
                player=player.name,
                layer=layer,
                evidence={"dead": share, "activation_layers": float(layers)},
                what=f"{share:.0%} of its units are zero for every sample: no gradient passes them.",
                cause="A step too long, or biases far below zero, took them out of reach of the data.",
                remedy=remedies.if_too_fast(context, player)
                or remedies.built_in_network(context)
                or leakier(context)
                or remedies.learning_rate(context, player, 0.1),
            )


@dataclass(frozen=True, kw_only=True)
class SaturatedUnits:
    """Units of a tanh or sigmoid that stand at an end of their range for nearly every sample.

    Attributes:
        share: of a layer's units, from which one should act.
        noted: from which it is worth a note.
        measurements: in a row.
    """

    share: float = 0.9
    noted: float = 0.6
    measurements: int = 2

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player, its worst layer; a note once an agent's return has risen, and of critics.

        A critic of large returns stands at the ends of its units in healthy runs.
        """
        for player in context.players:
            found = _worst(history, player, "saturated_units", self.measurements, last=CRITICS)
            if found is None or found[1] < self.noted:
                continue
            layer, share, layers = found
            acts = share >= self.share and not layer.startswith(CRITICS) and not improved(history)
            yield Sign(
                name="saturated_units",
                severity="warning" if acts else "note",
                player=player.name,
                layer=layer,
                evidence={"saturated": share, "activation_layers": float(layers)},
                what=(
                    f"{share:.0%} of its units stand at an end of their range: almost no gradient "
                    "passes them."
                ),
                cause="Weights or inputs are too large: steps too long, or observations of a large scale.",
                remedy=_smaller(context, player),
            )


def leakier(context: Context) -> tuple[str, ...]:
    """An activation that passes something on either side, where one can be chosen."""
    if context.options.get("policy.activation") == "relu":
        return ("policy.activation=silu",)
    if context.number("network.slope") == 0.0:
        return ("network.slope=0.2",)
    return ()


def _smaller(context: Context, player: Player) -> tuple[str, ...]:
    if words := remedies.if_too_fast(context, player) or remedies.built_in_network(context):
        return words
    off_policy = "agent.replay_size" in context.options
    if context.options.get("normalize_observation") is False and not off_policy and player.lr <= 1e-3:
        return ("normalize_observation=true",)
    return remedies.learning_rate(context, player, 0.1)


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
