"""A limit on how many non-finite gradients in a row a training may skip."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge

from core.checks import checked
from core.gradients.norms import GradientView
from core.state import StateDict


@dataclass(frozen=True, kw_only=True)
@checked
class SkipNonFinite:
    """Stop when more than `max_consecutive` gradients in a row were not finite.

    `GradientStep` itself skips every step whose gradient is not finite. This transform counts the gradients
    that are not finite when backward has finished, not those that a later transform makes so. On the CPU the
    error is raised at once. On an accelerator the count stays on the device and is read only at every
    (max_consecutive + 1)-th step, so that the host waits no more often: the error comes up to that many steps
    late, in which nothing is updated, or not at all if the gradient has recovered by then. In a `Chain` this
    transform stands first, before another one can hide an infinity (`Value` does).

    Attributes:
        max_consecutive: skipped steps in a row that are allowed. The loss scaling of float16 may skip
            16 while it comes down from 2^16, so fewer than that can stop a healthy start.
    """

    max_consecutive: Annotated[int, Ge(0)] = 20

    def __call__(self, gradients: GradientView, state: StateDict) -> None:
        """Count, and raise FloatingPointError above the limit."""
        norm = gradients.norm
        previous = state.get("consecutive", torch.zeros((), dtype=torch.int64, device=norm.device))
        state["consecutive"] = torch.where(norm.isfinite(), 0, previous + 1)
        state["steps"] = state.get("steps", 0) + 1
        if norm.device.type != "cpu" and state["steps"] % (self.max_consecutive + 1):
            return
        count = state["consecutive"].item()
        if count > self.max_consecutive:
            finite = gradients.norms.isfinite().tolist()
            names = [name for name, ok in zip(gradients.names, finite, strict=True) if not ok]
            more = f" and {len(names) - 6} more" if len(names) > 6 else ""
            raise FloatingPointError(
                f"steps skipped in a row for a non-finite gradient: {count}, in {', '.join(names[:6])}{more}"
                "; the parameters are unharmed: try a lower optimizer.lr or clipper=global_norm"
            )
