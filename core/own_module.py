"""A user's own module: its weights follow from the run's seed, and it is tried before anything is made."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from core.config import ConfigError
from core.errors import described

Made = TypeVar("Made")
ALIKE = 0.01  # of the largest output; the power iteration of a spectral norm moves less, batch norm more


def attempt(what: str, call: Callable[..., Made], *arguments: object) -> Made:
    """What somebody else's code returns for these arguments.

    Raises:
        ValueError: it raised something, in one line that says what and where (a ConfigError says it itself).
    """
    try:
        return call(*arguments)
    except ConfigError:
        raise
    except Exception as error:
        raise ValueError(f"{what} raised {described(error)}") from error


def seeded(seed: int, make: Callable[[], Made]) -> Made:
    """Call what draws from torch's global generator on the CPU, which it finds as after `manual_seed(seed)`.

    Nobody else's numbers change: the generator is put back.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def tried(
    what: str,
    module: object,
    shape: tuple[int, ...],
    wanted: tuple[int, ...] | None = None,
    *,
    alone: bool = True,
) -> Tensor:
    """Outputs of a module for three random inputs; so a lazy one takes its shape, too.

    Args:
        what: names the module, at the beginning of a message.
        module: as the user's code returned it.
        shape: of one input, whose elements are in [0, 1].
        wanted: of one output; None = a vector of any length.
        alone: an output must follow from its input alone.

    Returns:
        [3, *wanted], float32.

    Raises:
        ValueError: it is no module, has no parameters, fails, returns something else, or mixes its inputs.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"{what} must be a torch.nn.Module, got {type(module).__name__}")
    inputs = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    given = f"forward of {list(inputs.shape)}"
    outputs = attempt(f"{what}: {given}", module, inputs)
    text = "[3, F]" if wanted is None else str([3, *wanted])
    if not isinstance(outputs, Tensor):
        raise ValueError(f"{what}: {given} must return a tensor {text}, got {type(outputs).__name__}")
    fits = outputs.dim() == 2 if wanted is None else outputs.shape[1:] == wanted
    if not fits or len(outputs) != 3 or outputs.dtype != torch.float32 or not outputs.numel():
        came = f"{list(outputs.shape)} of {str(outputs.dtype).removeprefix('torch.')}"
        raise ValueError(f"{what}: {given} must return {text} of float32, got {came}")
    parameters = list(module.parameters())
    if not parameters:
        raise ValueError(
            f"{what} has no parameters to learn (layers in a plain list are not found: use nn.ModuleList)"
        )
    if any(p.requires_grad for p in parameters) and not outputs.requires_grad:
        raise ValueError(f"{what}: what forward returns has no gradient (is there a detach or no_grad?)")
    if not alone:
        return outputs.detach()
    fewer = attempt(f"{what}: forward of {[2, *shape]}", module, inputs[:2]).detach()
    outputs = outputs.detach()
    if (fewer - outputs[:2]).abs().max() > ALIKE * outputs.abs().max():
        raise ValueError(
            f"{what}: what forward makes of one sample must follow from that sample alone, always alike: "
            "leave out batch norm and dropout"
        )
    return outputs
