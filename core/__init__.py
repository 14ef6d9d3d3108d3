"""Gradients in full view: clip, track, step and explain the gradients of any `torch.nn.Module`."""

# `core` is a common name. The packages above look for this mark, so that another distribution's `core`,
# or a `core/` folder in the working directory, is told apart from ours by one clear line.
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.config import ConfigError
    from core.errors import ContractError
    from core.watch.watch import Watch

__all__ = ["ConfigError", "ContractError", "Watch"]
__project__ = "gradsight"
__version__ = "0.1.0"
PLACES = {"ConfigError": "core.config", "ContractError": "core.errors", "Watch": "core.watch.watch"}


def __getattr__(name: str) -> object:
    """What is public, imported when it is asked for: not everything needs torch."""
    if name in PLACES:
        return getattr(import_module(PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
