"""How often a run does what it does besides training."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from core.checks import checked, require


@dataclass(frozen=True, kw_only=True)
@checked
class RunConfig:
    """How often a run logs, evaluates, draws and saves.

    Attributes:
        interval: iterations averaged into one point of every curve.
        eval_interval, draw_interval, checkpoint_interval: in units of the x-axis.
        progress: show progress during training.
        snapshots: snapshots of all trained parameters over the run, see `core.run.snapshots`; 0 = none.
    """

    interval: Annotated[int, Ge(1)]
    eval_interval: Annotated[int, Ge(1)]
    draw_interval: Annotated[int, Ge(1)]
    checkpoint_interval: Annotated[int, Ge(1)]
    progress: bool
    snapshots: int = 24

    def __post_init__(self) -> None:
        count = self.snapshots
        require(count == 0 or count >= 3, "snapshots", count, "0 or an integer >= 3")
