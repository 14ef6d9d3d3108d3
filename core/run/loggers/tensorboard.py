"""The option `logger=tensorboard`: the event file, which every run has."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorBoard:
    """Nothing besides the event file, which the run writes itself: reports and comparisons read it."""

    def check(self) -> None:
        """TensorBoard is always installed."""
