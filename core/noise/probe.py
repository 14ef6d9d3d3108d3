"""A probe of the gradient's noise: from time to time, the gradients of single samples."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Generator, Tensor, nn

from core.checks import Finite, checked
from core.gradients.measure.noise_scale import recommended_batch_size
from core.gradients.measured import Measured
from core.gradients.objective import Objective
from core.noise.per_sample import require_no_shared_statistics
from core.noise.sample_statistics import noise_statistics


@dataclass(frozen=True, kw_only=True)
@checked
class NoiseProbe:
    """Signal and noise of the gradient on a frozen batch, from per-sample gradients.

    Attributes:
        interval: optimizer steps between two measurements. One costs as much as 3 to 6 gradients, up to 8
            where layers of other kinds than linear and convolution have parameters.
        max_samples: samples looked at, drawn from the batch without replacement; None = all. The three tests
            are about a batch of this size.
        chunk_size: samples whose gradients are in memory at once where they are formed (convolutions, norms);
            None = all of them.
        theta: relative error of the gradient that `noise/recommended_batch` allows; 1 = the noise scale.
    """

    interval: Annotated[int, Ge(1)] = 500
    max_samples: Annotated[int | None, Ge(2)] = 256
    chunk_size: Annotated[int | None, Ge(1)] = 32
    theta: Annotated[float, Gt(0), Finite] = 0.5

    def check(self, network: nn.Module) -> None:
        """Refuse batch normalisation: through it a sample has no gradient of its own."""
        require_no_shared_statistics(network)

    def __call__(self, objective: Objective, step: Measured, generator: Generator) -> dict[str, float]:
        """Probe once; changes neither parameters nor gradients nor the global generators.

        Args:
            objective: loss and batch; it must be the mean of its samples' own losses.
            step: not used; other probes look at it.
            generator: draws the samples.

        Returns:
            Values by tag; what is undetermined (noise drowns the signal, the loss is not finite) is left out.

        Raises:
            ValueError: as in `noise_statistics`.
        """
        statistics = noise_statistics(self._subset(objective, generator), chunk_size=self.chunk_size)
        noise = statistics.noise
        tags: dict[str, Tensor] = {
            "noise/signal_to_noise": noise.signal_to_noise,
            "noise/noise_scale": noise.scale,
            "noise/norm_test": statistics.norm_test,
            "noise/inner_product_test": statistics.inner_product_test,
            "noise/orthogonality_test": statistics.orthogonality_test,
            "noise/recommended_batch": recommended_batch_size(noise, self.theta),
        }
        for name, ratio in statistics.layer_signal_to_noise.items():
            tags[f"layer/{name}/signal_to_noise"] = torch.where(ratio > 0, ratio, torch.nan)
        values = torch.stack([value.to(noise.signal) for value in tags.values()])
        usable = values.isfinite().tolist()
        return {tag: v for tag, v, ok in zip(tags, values.tolist(), usable, strict=True) if ok}

    def _subset(self, objective: Objective, generator: Generator) -> Objective:
        """The objective on at most `max_samples` of its samples."""
        if self.max_samples is None or objective.samples <= self.max_samples:
            return objective
        order = torch.randperm(objective.samples, generator=generator, device=generator.device)
        chosen = [part[order[: self.max_samples].to(part.device)] for part in objective.batch]
        return Objective(objective.module, objective.loss, chosen)
