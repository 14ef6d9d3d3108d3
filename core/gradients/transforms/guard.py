"""A limit on how long training may stand still on non-finite gradients."""

from dataclasses import dataclass

import torch

from core.checks import require
from core.gradients.transforms.protocol import GradientView
from core.state import StateDict


@dataclass(frozen=True, kw_only=True)
class SkipNonFinite:
    """Stop when more than `max_consecutive` gradients in a row were not finite.

    `GradientStep` itself skips every step whose gradient is not finite; this counts the gradients that arrive
    so, not those that a later transform makes so. On the CPU the
    error comes at once. On an accelerator the count stays on the device and is read at every
    (max_consecutive + 1)-th step only, so that the host waits no more often: the error comes up to that many
    steps late, in which nothing was updated, or not at all if the gradient has recovered by then. In a
    `Chain` it stands first, before a transform could hide an infinity (`Value` does).

    Attributes:
        max_consecutive: skipped steps in a row that are let pass; >= 0. The loss scaling of float16 may skip
            16 while it comes down from 2^16, so fewer than that can stop a healthy start.
    """

    max_consecutive: int = 20

    def __post_init__(self) -> None:
        require(self.max_consecutive >= 0, "max_consecutive", self.max_consecutive, "an integer >= 0")

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
