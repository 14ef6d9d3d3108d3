"""Rules about weights: units that are all the same, decay that outweighs the gradient, an eps above it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from core.diagnosis import remedies
from core.diagnosis.causes import NO_GRADIENT, SCALE
from core.diagnosis.context import Context
from core.diagnosis.findings import Sign
from core.diagnosis.signals import History


@dataclass(frozen=True, kw_only=True)
class EqualUnits:
    """All units of a layer have the same weights, and so the same gradient: they stay one unit.

    Attributes:
        measurements: in a row; the first layer that differs ends it.
    """

    measurements: int = 2

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player: the layer nearest to the input."""
        for player in context.players:
            equal = history.layers_fresh(player.prefix, "equal_units", self.measurements)
            names = [layer.name for layer in player.layers if layer.name in equal]
            if not names:
                continue
            yield Sign(
                name="equal_units",
                severity="warning",
                kinds=("init",),
                explains=("dead_units", "saturated_units", "update_too_large", *NO_GRADIENT),
                player=player.name,
                layer=names[0],
                evidence={"layers": float(len(names)), "of": float(len(player.layers))},
                what="all its units have the same weights, and the training does not tell them apart.",
                cause="It began with a constant, such as zeros: equal units have equal gradients for ever.",
                remedy=remedies.built_in_network(context) or context.remedies.random_weights(context),
            )


@dataclass(frozen=True, kw_only=True)
class WeightDecay:
    """Weight decay decides where the weights go, and not the gradient.

    Attributes:
        shrinks: share of the weights that decay alone takes at a step. Common practice has 1e-6 to 3e-4.
        outweighs: decay's part of the gradient over the rest; at a minimum both are equally long.
        points: whose median is taken.
    """

    shrinks: float = 3e-3
    outweighs: float = 4.0
    points: int = 2

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player whose optimizer decays."""
        for player in context.players:
            decay = remedies.own_number(context, player, "weight_decay") or 0.0
            if decay <= 0:
                continue
            decoupled = player.optimizer == "AdamW" or bool(
                remedies.own_option(context, player, "decoupled_weight_decay")
            )
            adaptive = player.optimizer not in remedies.UNSCALED
            lengths = history.fresh(f"{player.prefix}gradient/weight_norm", self.points)
            weights = median(lengths) if lengths else None
            norm = history.level(f"{player.prefix}gradient/norm", self.points)
            evidence = {"weight_decay": decay, "lr": player.lr}
            if decoupled or not adaptive:
                share, most = player.lr * decay, self.shrinks
                what = f"it takes {share:.1%} of the weights at every step."
            elif weights is not None and norm:
                share, most = decay * weights / norm, self.outweighs
                what = f"its part of the gradient is {share:.1f} times as long as the loss's."
            else:
                continue
            usual = 0.01 if decoupled else 1e-4
            if share < most or decay <= usual:  # then it is the rate that is too high, or the gradient small
                continue
            yield Sign(
                name="weight_decay_dominates",
                severity="warning",
                kinds=("regularisation",),
                explains=(*SCALE, *NO_GRADIENT, "mode_collapse", "discriminator_too_weak"),
                player=player.name,
                evidence={**evidence, "share": share},
                what=f"weight decay pulls the weights to zero: {what}",
                cause="It is far above what is common: 1e-4 for SGD and Adam, 1e-2 for AdamW.",
                remedy=remedies.own_value(context, player, "weight_decay", usual),
            )


@dataclass(frozen=True, kw_only=True)
class LargeEps:
    """The eps of an optimizer that divides by the gradient's size is far above that size.

    Attributes:
        above: times the root mean square of the gradient's components.
        least: below which it is never wrong: the default is 1e-8, and 1e-5 is in use.
        points: whose median is taken.
    """

    above: float = 10.0
    least: float = 1e-4
    points: int = 2

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player whose optimizer has one."""
        for player in context.players:
            eps = remedies.own_number(context, player, "eps")
            norm = history.level(f"{player.prefix}gradient/norm", self.points)
            size = sum(layer.size for layer in player.layers)
            if player.optimizer in remedies.UNSCALED or eps is None or eps < self.least or not norm:
                continue
            component = norm / math.sqrt(size)
            if eps < self.above * component:
                continue
            yield Sign(
                name="eps_too_large",
                severity="warning",
                kinds=("optimizer",),
                explains=NO_GRADIENT,
                player=player.name,
                evidence={"eps": eps, "gradient_rms": component},
                what=f"eps is {eps / component:,.0f} times the gradient's components.",
                cause="The division by their size has no effect: steps are shorter by that factor.",
                remedy=remedies.own_value(context, player, "eps", 1e-8),
            )
