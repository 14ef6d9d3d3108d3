"""A throw-away step of somebody else's optimizer: what would end a run later ends it before it begins."""

import io
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from core.errors import described
from core.gradients.arguments import step_needs_closure
from core.state import unreadable

NEEDED = ("step", "zero_grad", "state_dict", "load_state_dict")


def require_kind(target: object, path: str) -> None:
    """Raise ValueError unless this, a class or one made of it, has what an optimizer has."""
    if not all(hasattr(target, attribute) for attribute in NEEDED):
        name = getattr(target, "__qualname__", type(target).__qualname__)
        raise ValueError(f"{path}: {name} is no optimizer (a class like those of torch.optim)")


def require_optimizer(optimizer: object, path: str) -> None:
    """Raise ValueError unless this is an optimizer, and one whose learning rate can be scheduled."""
    require_kind(optimizer, path)
    name = type(optimizer).__qualname__
    groups = getattr(optimizer, "param_groups", None)
    if not groups or any("lr" not in group for group in groups):
        raise ValueError(f"{path}: {name} has no learning rate (lr), which schedules and measurements need")


def is_foreign(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer, or one inside of it, is neither torch's nor ours."""
    inside = [part for value in vars(optimizer).values() for part in _parts(value)]
    own = type(optimizer).__module__.startswith(("torch.optim.", "core."))
    return not own or any(map(is_foreign, inside))


def try_step(
    make: Callable[[Iterable[tuple[str, Tensor]]], torch.optim.Optimizer],
    named: Iterable[tuple[str, Tensor]],
    path: str,
) -> None:
    """Take a step on a copy of the parameters, save the state, and take another from what was read back.

    Args:
        make: builds the optimizer over named parameters.
        named: the parameters, which are left alone.
        path: where the optimizer stands in the configuration, for messages.

    Raises:
        ValueError: a step fails, or the state is not one that a checkpoint can hold.
    """
    copies = [(name, nn.Parameter(p.detach().clone())) for name, p in named if p.requires_grad]
    optimizer = make(copies)
    name = type(optimizer).__qualname__
    random = torch.Generator().manual_seed(0)
    for _, p in copies:
        p.grad = torch.randn(p.shape, generator=random).to(p)
    try:
        _step(optimizer)
    except Exception as error:  # foreign classes raise what they like
        raise ValueError(f"{path}: {name} cannot take a step here: {described(error)}") from error
    if lost := unreadable(optimizer.state_dict()):
        raise ValueError(
            f"{path}: {name} keeps what no checkpoint can hold: its state{lost}; the run could not be resumed"
        )
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    try:
        resumed = make(copies)
        resumed.load_state_dict(torch.load(file, weights_only=True))
        _step(resumed)
    except Exception as error:
        raise ValueError(
            f"{path}: {name} cannot go on from a state it has saved: {described(error)}"
        ) from error


def _step(optimizer: torch.optim.Optimizer) -> None:
    """As a `GradientStep` calls it; the loss of an optimizer that evaluates again is constant."""
    if step_needs_closure(type(optimizer)):
        optimizer.step(lambda: 0.0)
    else:
        optimizer.step()


def _parts(value: object) -> list[torch.optim.Optimizer]:
    values = value.values() if isinstance(value, dict) else [value]
    return [part for part in values if isinstance(part, torch.optim.Optimizer)]
