"""Rules about gradients on their way back: where they vanish, explode, stop being finite or never arrive.

Every threshold is a field; docs/diagnosis.md says which runs it was calibrated on.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from core.diagnosis import remedies
from core.diagnosis.causes import LITTLE_LEARNT
from core.diagnosis.context import Context, Layer, Overrides, Player
from core.diagnosis.findings import Sign
from core.diagnosis.signals import LOST, History, never


@dataclass(frozen=True, kw_only=True)
class VanishingGradient:
    """The gradient's components in one layer are far smaller than in a layer nearer to the output.

    Attributes:
        ratio: of the root mean squares below which it is a finding. Common practice asks for 1e-3 between
            first and last layer; a policy's last layer of gain 0.01 alone makes 1e-2, a critic of returns of
            hundreds 4e-5.
        depth: weights that a branch must have.
        reached: whether the loss stands at a minimum, as far as that is known: no gradient is right there.
    """

    ratio: float = 1e-5
    depth: int = 3
    reached: Callable[[History], bool | None] = never

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """At most one sign for each player: its worst branch, or that there is no gradient anywhere."""
        for player in context.players:
            if history.now(f"{player.prefix}gradient/norm") == 0.0:
                if not self.reached(history):
                    yield self._nothing(context, player)
                continue
            norms = history.layers(player.prefix, "gradient_norm")
            worst: tuple[float, Layer, float, float] | None = None
            for branch in branches(player.layers):
                sizes = [
                    (layer, norms[layer.name] / math.sqrt(layer.size))
                    for layer in branch
                    if layer.name in norms
                ]
                if len(sizes) < self.depth:
                    continue
                place, (layer, small) = min(enumerate(sizes), key=lambda item: item[1][1])
                large = max((size for _, size in sizes[place + 1 :]), default=0.0)
                ratio = small / large if large > 0 else 1.0
                if ratio < self.ratio and (worst is None or ratio < worst[0]):
                    worst = ratio, layer, small, large
            if worst is not None:
                ratio, layer, small, large = worst
                yield Sign(
                    name="vanishing_gradient",
                    kinds=("activation", "layers"),
                    explains=("update_too_small", *LITTLE_LEARNT),
                    severity="warning",
                    player=player.name,
                    layer=layer.name,
                    evidence={"gradient_rms": small, "largest_rms_after_it": large, "ratio": ratio},
                    what=f"the gradient's components there are {ratio:.1e} of those nearer to the output.",
                    cause=(
                        "Too many layers, or activations that pass little on, stand between it and the loss."
                    ),
                    remedy=remedies.if_too_fast(context, player)
                    or remedies.built_in_network(context)
                    or context.remedies.shallower(context),
                )

    def _nothing(self, context: Context, player: Player) -> Sign:
        """All gradients are exactly zero."""
        own = (*remedies.built_in_network(context), *remedies.built_in_loss(context))
        return Sign(
            name="vanishing_gradient",
            kinds=("activation", "layers"),
            explains=("update_too_small", *LITTLE_LEARNT),
            severity="error",
            player=player.name,
            layer=player.layers[-1].name if player.layers else None,
            evidence={"norm": 0.0},
            what="every gradient is exactly zero, in all layers.",
            cause="The loss does not depend on the parameters where they are, or its gradient underflows.",
            remedy=context.remedies.full_precision(context) or own,
        )


def branches(layers: Iterable[Layer]) -> Iterator[list[Layer]]:
    """Weights of each branch of a network, from the input on: names that begin alike, or with a number."""
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        if layer.dim >= 2:
            first = layer.name.partition(".")[0]
            groups.setdefault("" if first.isdigit() else first, []).append(layer)
    yield from groups.values()


@dataclass(frozen=True, kw_only=True)
class ExplodingGradient:
    """The joint norm is many times what it used to be, for several points in a row.

    What a gradient that had vanished regains is no explosion: it must also be longer than at the beginning.

    Attributes:
        growth: times the median of the whole course. Practice says 10; values that grow with the return of a
            learning agent reach 30 in healthy runs.
        points: logged points before it can be a finding.
        falling: whether the loss falls, as far as that is known: on the way down from a saddle or a plateau
            a gradient may grow by any factor.
    """

    growth: float = 100.0
    points: int = 8
    falling: Callable[[History], bool | None] = never

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player whose gradient it is; the layer is the one with the largest norm."""
        for player in context.players:
            tag = f"{player.prefix}gradient/norm"
            now, usual = history.now(tag), history.usual(tag)
            if now is None or not usual or history.count(tag) <= self.points or self.falling(history):
                continue
            first = max(history.course(tag)[:3])
            if now > max(self.growth * usual, first):
                norms = history.layers(player.prefix, "gradient_norm")
                clipping = remedies.has_clipping(context)
                slower = remedies.learning_rate(context, player, 0.1)
                yield Sign(
                    name="exploding_gradient",
                    kinds=("learning_rate",),
                    explains=("non_finite", "dead_units", "saturated_units", *LITTLE_LEARNT),
                    severity="warning",
                    player=player.name,
                    layer=max(norms, key=norms.__getitem__) if norms else None,
                    evidence={"norm": now, "median_norm": usual, "growth": now / usual},
                    what=f"its norm is {now / usual:.0f} times the median of the run.",
                    cause="The steps carry the parameters to where the loss is ever steeper.",
                    remedy=slower
                    if clipping
                    else remedies.clip(context, max(history.steady(tag) or 0.0, first)) or slower,
                )


@dataclass(frozen=True, kw_only=True)
class NonFinite:
    """Gradients or losses that are not numbers; such a step is skipped.

    Attributes:
        rare: share of skipped steps up to which it is a note only.
        skips: whether the loop skips such steps; where it does not, they reach the weights.
        points: logged points in a row.
    """

    rare: float = 0.02
    skips: bool = True
    points: int = 1

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player with skipped steps in this window, at once; else one for a lost loss."""
        shares = [history.now(f"{player.prefix}gradient/skipped") for player in context.players]
        if not any(shares):
            yield from self._lost(history, context)
        for player, share in zip(context.players, shares, strict=True):
            if not share:
                continue
            bad = history.layers(player.prefix, "nonfinite")
            how, where = history.located.get(player.name, ("", ""))
            nearest = next((layer.name for layer in reversed(player.layers) if bad.get(layer.name)), None)
            safe = () if grew(history, context, player) else context.remedies.safe_operations(context)
            yield Sign(
                name="non_finite",
                kinds=_kinds(how, safe),
                explains=("dead_units", "saturated_units", *LITTLE_LEARNT),
                severity="error" if share == 1.0 else "warning" if share > self.rare else "note",
                player=player.name,
                layer=((where or None) if how in ("forward", "backward", "first") else None)
                if how
                else nearest,
                evidence={"skipped": share, "layers": float(len(bad))},
                what=(
                    f"{share:.0%} of the gradients were not finite"
                    f"{' and were skipped' if self.skips else ''}; "
                    f"{_place(how, where, nearest)}."
                ),
                cause=_cause(how, where, safe),
                remedy=self._remedy(context, player, how, safe),
                patience=self.points,
            )

    def _lost(self, history: History, context: Context) -> Iterator[Sign]:
        """What is no number although all gradients are: a term without parameters, or what is saved."""
        if history.now(LOST) is not None:
            yield Sign(
                name="non_finite",
                severity="error",
                evidence={"skipped": 0.0},
                what="the last checkpoint holds weights or averages that are not finite; every gradient is.",
                kinds=("learning_rate",),
                cause="A step was too long, or something wrote there; a saturated unit passes nothing back.",
                remedy=tuple(
                    dict.fromkeys(
                        text for p in context.players for text in remedies.learning_rate(context, p, 0.1)
                    )
                ),
                patience=self.points,
            )
        losses = [tag for tag in sorted(history.tags()) if tag.startswith("loss/")]
        lost = [tag for tag in losses if not math.isfinite(history.now(tag) or 0.0)]
        if lost:
            yield Sign(
                name="non_finite",
                severity="warning",
                evidence={"losses": float(len(lost))},
                what=f"{', '.join(lost)} is not finite, and every gradient is.",
                kinds=("loss",),
                cause="The loss has a term without a value that reaches no parameter.",
                remedy=context.remedies.safe_operations(context),
                patience=self.points,
            )

    def _remedy(self, context: Context, player: Player, how: str, safe: Overrides) -> Overrides:
        if how == "batch":
            return context.remedies.bare_data(context)
        if how == "loss" and (built_in := remedies.built_in_loss(context)):
            return built_in
        if safe:
            return safe
        lower = remedies.learning_rate(context, player, 0.1)
        return lower if remedies.has_clipping(context) else (*lower, *remedies.clip(context, 0.5))


def grew(history: History, context: Context, player: Player) -> bool:
    """Whether steps too long have led there: gradients or losses had grown, or a step was as long as that."""
    courses = [history.course(f"{player.prefix}gradient/norm"), history.course("loss/train")]
    grown = any(max(course) > 10.0 * max(course[0], 0.0) for course in courses if len(course) > 1)
    ratios = history.course(f"{player.prefix}gradient/update_ratio")
    return grown or max(ratios, default=0.0) > 0.1 or bool(remedies.if_too_fast(context, player))


def _place(how: str, where: str, nearest: str | None) -> str:
    if how == "batch":
        return f"the batch's {where} is not finite"
    if how in ("forward", "backward"):
        return f"the first that is not finite is the {how} of {where}"
    if how == "loss":
        return f"the network's outputs are finite, but the {where} of its loss is not"
    if how == "first":
        at_once = (
            "at the first of these steps all layers were lost, by the loss or by what clips them together"
        )
        return f"at the first of these steps it was that of {where}" if where else at_once
    return f"nearest to the loss is {nearest}" if nearest else "no layer could be named"


def _kinds(how: str, safe: Overrides) -> tuple[str, ...]:
    otherwise = ("loss", "layers") if safe else ("learning_rate",)
    return {"batch": ("data", "preprocessing"), "loss": ("loss",)}.get(how, otherwise)


def _cause(how: str, where: str, safe: Overrides) -> str:
    if how == "batch":
        return (
            f"What the environment or the data hand over ({where}) contains a NaN or an infinity: look there."
        )
    if how == "loss":
        return "A logarithm, division or exponential in the loss has left its range."
    if how == "backward":
        return "A derivative is infinite or undefined there: a root or norm at zero, or an overflow."
    if safe:
        return (
            "Nothing had grown before: a logarithm, root or division met zero, or an exponential overflowed."
        )
    return "Numbers have grown out of their range: the steps are too long, or a layer divides by zero."


@dataclass(frozen=True, kw_only=True)
class DetachedLayer:
    """A layer that has had no gradient at all: the loss does not reach it.

    Attributes:
        share: of the steps of a window; below it the layer learns sometimes.
    """

    share: float = 0.999

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player: the detached layer nearest to the output is where the graph ends."""
        for player in context.players:
            found = history.layers(player.prefix, "detached")
            cut = [layer.name for layer in player.layers if found.get(layer.name, 0.0) >= self.share]
            if cut:
                yield Sign(
                    name="detached_layer",
                    kinds=("frozen",),
                    explains=("update_too_small", *LITTLE_LEARNT),
                    severity="warning",
                    player=player.name,
                    layer=cut[-1],
                    evidence={"layers": float(len(cut)), "of": float(len(player.layers))},
                    what=(
                        f"{len(cut)} of {len(player.layers)} layers have no gradient at all; this is the "
                        "last of them."
                    ),
                    cause=(
                        "The graph is cut behind it (detach, no_grad, an item() on the way), or it is "
                        "not used."
                    ),
                    remedy=remedies.built_in_network(context),
                )


@dataclass(frozen=True, kw_only=True)
class FrozenLayer:
    """Parameters that require no gradient: they keep the values they have."""

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One note for each player: it may be meant."""
        for player in context.players:
            if player.frozen:
                several = f" and {len(player.frozen) - 1} more" * (len(player.frozen) > 1)
                yield Sign(
                    name="frozen_layer",
                    kinds=("frozen",),
                    severity="note",
                    player=player.name,
                    layer=player.frozen[0],
                    evidence={"frozen": float(len(player.frozen)), "trained": float(len(player.layers))},
                    what=f"it{several} has requires_grad=False and keeps its values.",
                    cause="Right for a part that is used but not trained; otherwise a line was forgotten.",
                    remedy=remedies.built_in_network(context),
                )


@dataclass(frozen=True, kw_only=True)
class ConflictingLosses:
    """Two terms of one loss pull a player's parameters in opposite directions.

    Attributes:
        balancing: terms that are there to hold another one in balance, and so may pull against it.
        cosine: of their gradients, below which they conflict.
        share: of the summed lengths that the weaker term must have to matter.
        measurements: in a row.
    """

    balancing: tuple[str, ...] = ()
    cosine: float = -0.5
    share: float = 0.1
    measurements: int = 3

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One note for each player: opposite terms are what makes a balance, and not wrong by themselves."""
        for player in context.players:
            prefix = f"{player.prefix}loss_cosine/"
            worst: tuple[float, str] | None = None
            for tag in history.tags():
                level = history.level(tag, self.measurements) if tag.startswith(prefix) else None
                if level is None or level > self.cosine or (worst is not None and level > worst[0]):
                    continue
                pair = tag.removeprefix(prefix)
                terms = pair.split("_vs_")
                shares = [history.last(f"{player.prefix}loss_share/{term}") or 0.0 for term in terms]
                if min(shares) >= self.share and not set(terms) & set(self.balancing):
                    worst = level, pair
            if worst is not None:
                first, _, second = worst[1].partition("_vs_")
                yield Sign(
                    name="conflicting_losses",
                    kinds=("loss",),
                    severity="note",
                    player=player.name,
                    evidence={"cosine": worst[0]},
                    what=f"the gradients of {first} and {second} point against each other.",
                    cause="What one term gains the other loses; the sum moves by what is left of both.",
                    remedy=("clipper=pcgrad",) if context.chosen("clipper") in ("", "GlobalNorm") else (),
                )
