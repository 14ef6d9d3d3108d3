"""A rule of your own for the diagnosis: what it sees is reported like what ours see.

python examples/own_rule.py "diagnosis.rules=[{_target_: own_rule.ShortEpisodes, least: 100}]"

What the class must have stands in core.diagnosis.Rule. One that fails is left out, which is said once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Interval

from core.checks import checked
from core.cli.command import launch
from core.diagnosis import Context, History, Sign


@dataclass(frozen=True, kw_only=True)
@checked
class ShortEpisodes:
    """Episodes are still short when a good part of the training is over."""

    least: Annotated[float, Gt(0)] = 50.0  # steps
    after: Annotated[float, Interval(ge=0, lt=1)] = 0.5  # share of the training

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """A warning at every logged point where it is so; None where there is no value yet."""
        length = history.now("episode/length")
        if length is not None and length < self.least and history.step > self.after * context.total:
            yield Sign(name="short_episodes", severity="warning", evidence={"length": length},
                       what=f"An episode lasts {length:.0f} steps.", cause="The policy has not learnt.",
                       remedy=(f"total_steps={2 * context.total}",))  # fmt: skip


if __name__ == "__main__":
    launch("rl", by_id="env")
