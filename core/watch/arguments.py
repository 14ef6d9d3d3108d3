"""What a Watch is made of, and one clear error for each way in which it does not fit together."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from core.checks import require
from core.config import ConfigError
from core.gradients.norms import require_real
from core.run.directory import holds_run
from core.watch.models import is_lazy, named_parameters

Kind = TypeVar("Kind", nn.Module, torch.optim.Optimizer)
WATCHED = "of_a_watch"  # what the hook of a Watch that is open is known by
GROUPS = {"gradient", "layer", "curvature", "noise", "input", "output", "label", "mode", "units"}
MEASURED = {"loss/train", "loss/no_grad", "loss/constant", "loss/maximised", "time/steps_per_s"}


def by_name(argument: str, given: Kind | Mapping[str, Kind], kind: type[Kind]) -> dict[str, Kind]:
    """One thing under an empty name, or several by their own.

    Raises:
        TypeError: it is of another kind.
        ValueError: there are none.
    """
    found = dict(given) if isinstance(given, Mapping) else {"": given}
    wrong = [type(each).__name__ for each in found.values() if not isinstance(each, kind)]
    if wrong:
        one = f"{'an' if kind is torch.optim.Optimizer else 'a'} {kind.__name__}"
        raise TypeError(f"{argument} must be {one}, or several by name in a dictionary; got {wrong[0]}")
    if not found:
        raise ValueError(f"{argument} is an empty dictionary: there is nothing to watch")
    return {name: _hooked(each) for name, each in found.items()}


def _hooked(thing: Any) -> Any:
    """The optimizer inside of one that has no hooks, as accelerate's; anything else itself."""
    inner = getattr(thing, "optimizer", None)
    bare = isinstance(thing, torch.optim.Optimizer) and not hasattr(thing, "_optimizer_step_pre_hooks")
    return _hooked(inner) if bare and isinstance(inner, torch.optim.Optimizer) else thing


def status_after(error: BaseException | None, otherwise: str) -> str:
    """How a training has ended."""
    if error is None:
        return otherwise
    return "stopped" if isinstance(error, KeyboardInterrupt) else "failed"


def uncaught() -> BaseException | None:
    """The error that ends the interpreter, if one does."""
    return getattr(sys, "last_value", None)


def refuse_strangers(
    models: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> None:
    """Raise ValueError where models have nothing to train, or an optimizer has nothing of theirs."""
    sides = {"model": models, "optimizer": optimizers}
    for (side, own), (_, other) in (sides.items(), reversed(sides.items())):
        if len(own) == 1 and "" not in own and list(other) == [""]:
            raise ValueError(
                f"the {side} has a name, {next(iter(own))!r}, and the other side has none: hand over both in "
                "dictionaries, or both as they are"
            )
    if odd := [name for name in (*models, *optimizers) if not isinstance(name, str) or "/" in name]:
        raise ValueError(f"names of models and optimizers are texts without a slash, got {odd[0]!r}")
    known = named_parameters(models)
    if not known:
        raise ValueError("the model has no parameters: hand over the module that the optimizer trains")
    if not any(entry.parameter.requires_grad for entry in known.values()):
        raise ValueError(
            "the parameters of the model are all frozen (requires_grad=False): call requires_grad_() on what "
            "is to be trained before the Watch is made"
        )
    if len({id(optimizer) for optimizer in optimizers.values()}) < len(optimizers):
        raise ValueError(f"one optimizer has several names, of {', '.join(optimizers)}: hand it over once")
    for name, optimizer in optimizers.items():
        held = [p for group in optimizer.param_groups for p in group["params"]]
        who = f"the optimizer {name!r}" if name else "the optimizer"
        if not any(id(p) in known for p in held):
            raise ValueError(
                f"{who} holds {len(held)} tensors, and none of them is a parameter of the model: make it "
                "from this model's parameters(), after the last of its parts has been replaced"
            )
        ours = [known[id(p)] for p in held if id(p) in known and p.dtype.is_complex]
        require_real("Watch", [entry.name for entry in ours], [entry.parameter for entry in ours])
        if any(hasattr(hook, WATCHED) for hook in optimizer._optimizer_step_pre_hooks.values()):
            raise ValueError(f"{who} is watched already: call close() of that Watch before making another")


def refuse_options(
    loss: object, scaler: object, rules: object, interval: object, directory: object, resume: object
) -> None:
    """Raise TypeError or ValueError where an argument of `Watch` is of another kind than what it takes."""
    if isinstance(loss, type):
        raise TypeError(f"loss must be a module or a function, got the class: make one, {loss.__name__}()")
    if not (loss is None or callable(loss)):
        raise TypeError(f"loss must be a module or a function, got {type(loss).__name__}")
    if scaler is not None and not hasattr(scaler, "get_backoff_factor"):
        raise TypeError(f"scaler must be a torch.amp.GradScaler, got {type(scaler).__name__}")
    given = rules if isinstance(rules, list | tuple) else [None]
    if not all(callable(rule) and not isinstance(rule, type) for rule in given):
        wrong = next(rule for rule in given if not callable(rule) or isinstance(rule, type))
        named = repr(rules if given == [None] else wrong)[:80]
        raise TypeError(f"rules must be a list of functions of the history and the context, got {named}")
    whole = isinstance(interval, int) and not isinstance(interval, bool) and interval >= 2
    require(whole, "interval", interval, "an integer >= 2")
    if not isinstance(resume, bool):
        raise TypeError(f"resume must be True or False, got {resume!r:.80}")
    if resume and directory is None:
        raise ValueError("resume=True needs the directory of the run that goes on")


def directory_of(given: object, resume: bool) -> Path | None:
    """The run's directory.

    Raises:
        TypeError: it is no path.
        ConfigError: its name is empty or none that a folder can have, or there is no run that could go on.
    """
    if given is None:
        return None
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"directory must be a path or None, got {type(given).__name__}")
    if not str(given):
        raise ConfigError("directory is an empty text: name a folder, or None to write no files")
    directory = Path(given)
    try:
        held = holds_run(directory)
    except (OSError, ValueError) as error:  # a name that is too long, or has a NUL
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"directory {str(given)[:60]!r} cannot be looked at: {reason}") from error
    if resume and not held:
        raise ConfigError(
            f"{directory} holds no run that could go on: leave out resume=True, or name its folder"
        )
    return directory


def number_of(tag: str, value: object) -> Tensor:
    """A number of the user's own for a curve, 0-d.

    Raises:
        TypeError: it is no number.
        ValueError: it is several, or the curve is one that is measured.
    """
    if tag in MEASURED or any(part in GROUPS for part in tag.split("/")[:2][: tag.count("/")]):
        raise ValueError(f"{tag} is a curve that Watch measures itself: log yours by another name")
    try:
        number = torch.as_tensor(value).detach()
    except (RuntimeError, TypeError, ValueError):
        raise TypeError(f"{tag} must be a number or a tensor of one, got {type(value).__name__}") from None
    if number.is_complex() or number.is_meta:
        raise TypeError(f"{tag} must be a real number, got {number.dtype} on {number.device}")
    if number.numel() != 1:
        raise ValueError(
            f"{tag} must be a single number, got a tensor of {tuple(number.shape)}: log its mean"
        )
    return number.reshape(())


def refuse_lazy(method: str, models: Iterable[nn.Module]) -> None:
    """Raise ValueError where a layer has no shape yet: a method that needs one would give it one."""
    for model in models:
        for name, parameter in model.named_parameters():
            if is_lazy(parameter):
                raise ValueError(f"{name} has no shape yet: call the model once, and then {method}()")


def refuse_views(views: object, grid: object) -> None:
    """Raise ValueError where there are no such pictures of a landscape, or no such grid."""
    known = ("slices", "surface", "spectrum")
    listed = isinstance(views, list | tuple) and {*map(str, views)} <= {*known}
    require(listed, "views", views, f"a list of some of {', '.join(known)}")
    whole = isinstance(grid, int) and not isinstance(grid, bool) and grid >= 3
    require(whole, "grid", grid, "an integer >= 3")


def first_rank() -> bool:
    """Whether this process is the one that writes."""
    return torch.distributed.get_rank() == 0 if _in_group() else os.environ.get("RANK", "0") == "0"


def num_ranks() -> int:
    """Processes whose gradients are averaged."""
    return torch.distributed.get_world_size() if _in_group() else 1


def _in_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
