"""The options of a search."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge

from core.checks import checked
from core.config import Component


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is varied, and what is sought.

    Attributes:
        trainer: the root file of the command that is called.
        words: in front of what was typed for it.
        objective: entry of `summary.json`, or the tag of a curve, whose last value counts.
        direction: whether more of it is better, or less.
        evaluation: tag of the curve that the pruner looks at while a trial runs; None = nothing is pruned.
        space: ranges and choices of the options, nested as the options are.
    """

    trainer: str
    words: tuple[str, ...]
    objective: str
    direction: Literal["maximize", "minimize"]
    evaluation: str | None
    space: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
@checked
class TuneConfig:
    """A study; conf/tune.yaml explains each option."""

    search: Search
    sampler: Component
    pruner: Component
    study: str | None
    storage: str | None
    trials: Annotated[int, Ge(1)]
    jobs: Annotated[int, Ge(1)]
    heartbeat: Annotated[int, Ge(1)]
