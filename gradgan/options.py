"""Small groups of options: what each player has of its own, and how the generator is measured."""

from dataclasses import dataclass

from core.checks import require


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """What the generator has of its own.

    Attributes:
        top_k: share of its batch it learns from at the end, the samples that D finds most real, in (0, 1].
    """

    top_k: float

    def __post_init__(self) -> None:
        require(0 < self.top_k <= 1, "top_k", self.top_k, "in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """What the discriminator has of its own.

    Attributes:
        lr: its learning rate, >= 0; null = the generator's (two time scales: arXiv:1706.08500).
        steps: its updates for one of the generator's, each on a batch of its own; >= 1.
        instance_noise: standard deviation of the noise on all it is shown, at the start; >= 0.
    """

    lr: float | None
    steps: int
    instance_noise: float

    def __post_init__(self) -> None:
        require(self.lr is None or self.lr >= 0, "lr", self.lr, "null or a number >= 0")
        require(self.steps >= 1, "steps", self.steps, "an integer >= 1")
        noise = self.instance_noise
        require(0 <= noise < float("inf"), "instance_noise", noise, "a finite number >= 0")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How a generator is measured.

    Attributes:
        samples: generated samples that metrics are computed on, >= 2.
        truncation: latents drawn and measured have no element beyond it, > 0; null = all of them.
    """

    samples: int
    truncation: float | None

    def __post_init__(self) -> None:
        require(self.samples >= 2, "samples", self.samples, "an integer >= 2")
        psi = self.truncation
        require(psi is None or 0 < psi < float("inf"), "truncation", psi, "null or a finite number > 0")
