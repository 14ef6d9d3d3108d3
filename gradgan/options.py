"""Small groups of options: what each player has of its own, and how the generator is measured."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Interval

from core.checks import Finite, checked


@dataclass(frozen=True, kw_only=True)
@checked
class GeneratorConfig:
    """What the generator has of its own.

    Attributes:
        top_k: share of its batch it learns from at the end, the samples that D finds most real.
    """

    top_k: Annotated[float, Interval(gt=0, le=1)]


@dataclass(frozen=True, kw_only=True)
@checked
class DiscriminatorConfig:
    """What the discriminator has of its own.

    Attributes:
        lr: its learning rate; null = the generator's (two time scales: arXiv:1706.08500).
        steps: its updates for one of the generator's, each on a batch of its own.
        instance_noise: standard deviation of the noise on all it is shown, at the start.
    """

    lr: Annotated[float | None, Ge(0)]
    steps: Annotated[int, Ge(1)]
    instance_noise: Annotated[float, Ge(0), Finite]


@dataclass(frozen=True, kw_only=True)
@checked
class EvaluationConfig:
    """How a generator is measured.

    Attributes:
        samples: generated samples that metrics are computed on.
        truncation: latents drawn and measured have no element beyond it; null = all of them.
    """

    samples: Annotated[int, Ge(2)]
    truncation: Annotated[float | None, Gt(0), Finite]
