"""Policy-gradient agents, with the gradients in full view."""

from importlib import import_module
from typing import TYPE_CHECKING

import core

if getattr(core, "__project__", None) != "gradsight":
    raise ImportError(f"'core' came from {core.__file__}, another project's: install gradsight on its own")
if TYPE_CHECKING:
    from gradrl.policy import Policy, load_policy

__all__ = ["Policy", "load_policy"]


def __getattr__(name: str) -> object:
    """What is public, imported when it is asked for."""
    if name in __all__:
        return getattr(import_module("gradrl.policy"), name)
    raise AttributeError(f"module 'gradrl' has no attribute {name!r}")
