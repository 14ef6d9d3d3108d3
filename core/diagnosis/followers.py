"""Rules about what should follow a network and does not: averages and targets."""

from collections.abc import Iterator
from dataclasses import dataclass

from core.diagnosis import remedies
from core.diagnosis.findings import Sign
from core.diagnosis.signals import Context, History


@dataclass(frozen=True, kw_only=True)
class Stale:
    """A follower is still, to a large part, what it was at the start.

    Attributes:
        share: of its initial weights that the follower will consist of at the end, if it goes on as before:
            what is left now is exact, from how often and how far it has moved, and falls geometrically.
        distance: |follower - followed| / |followed|: where the network itself has hardly moved, nothing is
            wrong.
        progress: share of the run from which it should have followed.
    """

    share: float = 0.3
    distance: float = 0.1
    progress: float = 0.1

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """Signs for the generator's average and for the critics' target."""
        for follower in ("average", "target"):
            share = history.last(f"{follower}/initial_share")
            distance = history.last(f"{follower}/distance")
            progress = history.step / context.total
            if share is None or distance is None or progress < self.progress:
                continue
            if share ** (1.0 / progress) < self.share or distance < self.distance:
                continue
            words, cause = self._words(follower, context)
            yield Sign(
                name=f"stale_{follower}",
                severity="warning",
                player="generator" if follower == "average" else "critic",
                evidence={"initial_share": share, "distance": distance},
                what=(
                    f"{share:.0%} of it are still the initial weights; it is {distance:.0%} of their "
                    "length away."
                ),
                cause=cause,
                remedy=words,
            )

    def _words(self, follower: str, context: Context) -> tuple[tuple[str, ...], str]:
        if follower == "average":
            words = (
                remedies.toward(context, "average.half_life", float(context.total) / 20),
                "average.ramp_up=0.05",
            )
            return (
                words,
                "Its half-life is longer than the run: what is drawn and measured is not what is trained.",
            )
        tau = remedies.toward(context, "agent.tau", max(0.005, 10 * (context.number("agent.tau") or 0.0)))
        return (tau,), "tau is too small: the critics chase targets of networks long gone."
