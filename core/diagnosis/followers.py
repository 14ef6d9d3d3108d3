"""The rule about a network that should follow another one and does not: an average, a target."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from core.diagnosis.context import Context, Overrides
from core.diagnosis.findings import Sign
from core.diagnosis.signals import History


@dataclass(frozen=True, kw_only=True)
class Stale:
    """A follower is still, to a large part, what it was at the start.

    Attributes:
        follower: what its tags begin with, and what the finding is called after.
        player: whose network it follows.
        cause: one sentence about the likely reason.
        remedy: overrides that let it follow more closely.
        share: of its initial weights that the follower will consist of at the end, if it goes on as before:
            what is left now is exact, from how often and how far it has moved, and falls geometrically.
        distance: |follower - followed| / |followed|: where the network itself has hardly moved, nothing is
            wrong.
        progress: share of the run from which it should have followed.
    """

    follower: str
    player: str
    cause: str
    remedy: Callable[[Context], Overrides]
    share: float = 0.3
    distance: float = 0.1
    progress: float = 0.1

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign."""
        share = history.last(f"{self.follower}/initial_share")
        distance = history.last(f"{self.follower}/distance")
        progress = history.step / context.total
        if share is None or distance is None or progress < self.progress:
            return
        if share ** (1.0 / progress) < self.share or distance < self.distance:
            return
        yield Sign(
            name=f"stale_{self.follower}",
            kinds=("target_update",),
            severity="warning",
            player=self.player,
            evidence={"initial_share": share, "distance": distance},
            what=(
                f"{share:.0%} of it is still the initial weights; its distance from the trained weights is "
                f"{distance:.0%} of their length."
            ),
            cause=self.cause,
            remedy=self.remedy(context),
        )
