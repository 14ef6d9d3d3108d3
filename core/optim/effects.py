"""Options of an optimizer, and of what is measured of it, that change nothing: said where they were typed."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from inspect import signature
from typing import Any

import torch

from core.curvature.probe import CurvatureProbe
from core.curvature.stability import WITH_THRESHOLD
from core.gradients.probe import Probe
from core.optim.factory import OptimizerComponent
from core.optim.groups import NO_DECAY


def optimizer_without_effect(
    component: OptimizerComponent, probes: Mapping[str, Probe] | None = None, *, vectors: str = ""
) -> dict[str, str]:
    """Options that change nothing with this optimizer, by dotted name, and why.

    Args:
        component: class and options; those of optimizers inside of it are looked at too.
        probes: of the run, by name.
        vectors: why no parameter is a matrix; empty where one is.
    """
    idle = {f"{path}.{name}": reason for path, name, reason in _idle(component, vectors)}
    for name, probe in (probes or {}).items():
        if isinstance(probe, CurvatureProbe) and component.target not in WITH_THRESHOLD:
            reason = f"the stability threshold of {component.target.__name__} is not known"
            idle[f"probe.{name}.stability"] = reason
    return idle


def _idle(component: OptimizerComponent, vectors: str) -> Iterator[tuple[str, str, str]]:
    """Path, option and reason."""
    options = component.options
    if is_dataclass(options):
        for field in fields(options):
            inside = getattr(options, field.name)
            if hasattr(inside, "target"):
                yield from _idle(inside, vectors)
    if not isinstance(options, dict):
        return
    if _always_zero("weight_decay", options):
        reason = f"{component.path}.weight_decay is 0"
        yield component.path, "decoupled_weight_decay", reason
        if options.get("groups") == NO_DECAY:
            yield component.path, "groups", reason
    elif options.get("groups") == NO_DECAY and "weight_decay" not in signature(component.target).parameters:
        yield component.path, "groups", f"{component.target.__name__} has no weight decay"
    elif vectors and options.get("groups") == NO_DECAY:
        for name in ("weight_decay", "decoupled_weight_decay"):
            yield component.path, name, f"{component.path}.groups is {NO_DECAY}, and {vectors}"
    if _always_zero("momentum", options):
        for name in ("dampening", "nesterov"):
            yield component.path, name, f"{component.path}.momentum is 0"
    if component.target is torch.optim.ASGD:
        yield component.path, "t0", "the average that begins there stays in the state of ASGD"


def _always_zero(name: str, options: Mapping[str, Any]) -> bool:
    """Whether an option is there, and 0 for every parameter."""
    groups = options.get("groups")
    of_groups = groups.values() if isinstance(groups, Mapping) else ()
    return options.get(name) == 0 and not any(group.get(name) for group in of_groups)
