"""Optimizers by configuration: any class, fused where its device has a fused kernel."""

import inspect
from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor

from core.checks import require


class OptimizerComponent(Protocol):
    """An optimizer class and its keywords (`core.run.config.Component` is one)."""

    @property
    def target(self) -> type:
        """The class."""
        ...

    @property
    def options(self) -> object:
        """Its keywords."""
        ...


def build_optimizer(
    component: OptimizerComponent, named_parameters: Iterable[tuple[str, Tensor]], lr: float | None = None
) -> torch.optim.Optimizer:
    """Build an optimizer over named parameters.

    On the CPU too the fused Adam is worth choosing: its step takes a third of the default's time.

    Args:
        component: class and keywords.
        named_parameters: as `nn.Module.named_parameters` gives them; frozen ones are left out.
        lr: replaces the configured learning rate (the second player's); None keeps it.

    Raises:
        ValueError: the class refuses an option.
    """
    options = dict(component.options) if isinstance(component.options, dict) else {}
    if lr is not None:
        options["lr"] = lr
    parameters = [p for _, p in named_parameters if p.requires_grad]
    if _has_fused(component.target, parameters):
        options.setdefault("fused", True)
    return component.target(parameters, **options)


def check_optimizer(component: OptimizerComponent) -> None:
    """Try the options on one parameter, so that the class can refuse them before a network is made.

    Raises:
        ValueError: `optimizer.<option> ...`, or the class's own words.
    """
    if isinstance(component.options, dict) and "lr" in component.options:
        lr = component.options["lr"]
        require(isinstance(lr, int | float) and lr >= 0, "optimizer.lr", lr, "a number >= 0")
    try:
        build_optimizer(component, [("probe", torch.nn.Parameter(torch.zeros(1, 1)))])
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"optimizer: {component.target.__qualname__} refuses its options: {error}"
        ) from error


def _has_fused(target: Callable[..., object], parameters: list[Tensor]) -> bool:
    """Whether this class has a fused kernel for these parameters."""
    if "fused" not in inspect.signature(target).parameters:
        return False
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda", "mps") for p in parameters)
