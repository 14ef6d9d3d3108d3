"""The rule about what the first weights meet: inputs out of scale, or all the same."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from core.diagnosis.causes import NO_GRADIENT, SCALE
from core.diagnosis.context import Context, Overrides
from core.diagnosis.findings import Sign
from core.diagnosis.signals import History


def scaled(context: Context, rms: float) -> Overrides:
    """Inputs on a common scale, as the options have it."""
    return context.remedies.smaller_inputs(context)


@dataclass(frozen=True, kw_only=True)
class UnscaledInputs:
    """A network meets inputs of a large scale, or inputs that are all the same.

    Attributes:
        rms: root mean square from which one should act: bytes as floats have 70 to 150, standardised data 1,
            pixels in [0, 1] below 1.
        variation: largest standard deviation of a component over its samples, over the root mean square,
            below which all samples are equal.
        points: in a row.
        kinds: of fault that a large scale is.
        remedy: what brings a root mean square to 1.
    """

    rms: float = 50.0
    variation: float = 1e-6
    points: int = 2
    kinds: tuple[str, ...] = ("preprocessing", "normalisation")
    remedy: Callable[[Context, float], Overrides] = scaled

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """At most one sign for each player."""
        for player in context.players:
            sizes = history.fresh(f"{player.prefix}input/rms", self.points)
            varied = history.fresh(f"{player.prefix}input/variation", self.points)
            if varied and max(varied) < self.variation:
                yield Sign(
                    name="constant_inputs",
                    severity="warning",
                    player=player.name,
                    evidence={"input/variation": varied[-1]},
                    what="all samples of a batch are the same.",
                    cause="Where the data come from, one sample is returned again and again, or a constant.",
                    remedy=context.remedies.varied_inputs(context),
                    kinds=("data", "observation"),
                    explains=NO_GRADIENT,
                )
            elif sizes and min(sizes) >= self.rms:
                yield Sign(
                    name="unscaled_inputs",
                    severity="warning",
                    player=player.name,
                    evidence={
                        "input/rms": sizes[-1],
                        "input/largest": history.last(f"{player.prefix}input/largest") or 0.0,
                    },
                    what=f"the inputs have a root mean square of {sizes[-1]:.3g}.",
                    cause="They are not normalised: the first layer's steps are too long by this factor.",
                    remedy=self.remedy(context, sizes[-1]),
                    kinds=self.kinds,
                    explains=(*SCALE, "vanishing_gradient"),
                )
