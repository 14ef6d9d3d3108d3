"""Models of somebody else's loop: how their parameters are called, and what their parts are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

Models = Mapping[str, nn.Module]


class Named(NamedTuple):
    """A parameter, and where it is."""

    model: str
    name: str
    parameter: Tensor


@dataclass(frozen=True)
class Strays:
    """Parameters that are in a model or in an optimizer, and not in both.

    Attributes:
        orphans: names of those that require a gradient and that no optimizer holds.
        reached: of these, those that have received a gradient.
        elements: numbers that the orphans consist of, and all that require a gradient.
        stale: how many an optimizer holds that no model has, and that had no gradient when it stepped.
        held: how many the optimizers hold.
    """

    orphans: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()
    elements: tuple[int, int] = (0, 0)
    stale: int = 0
    held: int = 0


def is_lazy(parameter: Tensor) -> bool:
    """Whether it has no shape before its layer has been called."""
    return isinstance(parameter, nn.parameter.UninitializedParameter)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside of what parallel training puts around it."""
    parallel = nn.parallel.DistributedDataParallel | nn.DataParallel
    inner = model.module if isinstance(model, parallel) else model
    assert isinstance(inner, nn.Module)
    return inner


def named_parameters(models: Models) -> dict[int, Named]:
    """Every parameter by its identity, a shared one by its first name; compiling leaves no trace in names."""
    found: dict[int, Named] = {}
    for key, model in models.items():
        for name, parameter in unwrapped(model).named_parameters():
            plain = name.replace("_orig_mod.", "")
            found.setdefault(id(parameter), Named(key, plain, parameter))
    return found


def prefixes(models: Models, held: Mapping[str, Sequence[Tensor]]) -> dict[str, str]:
    """What the tags of each model begin with: the name of the player that holds most of its parameters."""
    found = {}
    for name, model in models.items():
        own = {id(p) for p in model.parameters()}
        shares = {player: sum(id(p) in own for p in parameters) for player, parameters in held.items()}
        player = max(shares, key=lambda key: shares[key])
        found[name] = f"{player}/" if player else ""
    return found


def strays(known: Mapping[int, Named], held: Sequence[Tensor], stale: int) -> Strays:
    """What models and optimizers do not have in common.

    Args:
        known: the models' parameters.
        held: those of all optimizers.
        stale: as in `Strays`.
    """
    own = {id(p) for p in held}
    trained = [e for e in known.values() if e.parameter.requires_grad and not is_lazy(e.parameter)]
    orphans = [entry for entry in trained if id(entry.parameter) not in own]
    sizes = [sum(entry.parameter.numel() for entry in part) for part in (orphans, trained)]
    return Strays(
        orphans=tuple(entry.name for entry in orphans),
        reached=tuple(entry.name for entry in orphans if entry.parameter.grad is not None),
        elements=(sizes[0], sizes[1]),
        stale=stale,
        held=len(own),
    )


def is_compiled(model: nn.Module) -> bool:
    """Whether a part is compiled: hooks on what is inside would break its graph, or go unheard."""
    return any(hasattr(part, "_orig_mod") for part in model.modules())


def differs_in_evaluation(model: nn.Module) -> bool:
    """Whether it computes something else in evaluation: dropout, or statistics of the batch."""
    return any(
        isinstance(part, _BatchNorm) or (isinstance(part, _DropoutNd) and part.p > 0)
        for part in model.modules()
    )


def first_weights(model: nn.Module) -> str | None:
    """Name of the linear or convolutional layer that meets the inputs as they are; None where a norm does.

    A bare parameter beside layers, as a policy's standard deviation or a class token, meets no input.
    """
    for name, part in unwrapped(model).named_modules():
        beside = any(True for _ in part.children()) and not type(part).__module__.startswith("torch.")
        if not beside and any(True for _ in part.parameters(recurse=False)):
            return name.replace("_orig_mod.", "") if isinstance(part, nn.Linear | _ConvNd) else None
    return None
