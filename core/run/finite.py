"""A run cannot go on once no gradient is finite any more."""

from collections.abc import Mapping

import torch

from core.gradients import GradientStep


def advice(optimizer: torch.optim.Optimizer) -> str:
    """What may keep the numbers finite: no clipper where a line search would refuse it."""
    searches = any(group.get("line_search_fn") for group in optimizer.param_groups)
    return "try a lower optimizer.lr" + " or clipper=global_norm" * (not searches)


def require_finite(step: GradientStep, tags: Mapping[str, float], window: str, place: str) -> None:
    """Raise FloatingPointError where every gradient of a logged point was skipped.

    Length of the point's window and place of the run are texts for the message.
    """
    prefix = step.monitor.prefix
    if tags.get(f"{prefix}gradient/skipped") != 1.0:
        return
    begin, end = f"{prefix}layer/", "/nonfinite"
    layers = [
        t.removeprefix(begin).removesuffix(end) for t in tags if t.startswith(begin) and t.endswith(end)
    ]
    of_whom = f" of the {step.name}" if step.name else ""
    raise FloatingPointError(
        f"every gradient{of_whom} in the last {window} was non-finite and skipped, at {place}, "
        f"in {', '.join(layers[:6])}; the parameters are unharmed: {advice(step.optimizer)}"
    )
