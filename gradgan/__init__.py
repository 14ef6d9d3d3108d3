"""Generative adversarial networks with the gradients of both players in full view."""

from importlib import import_module
from typing import TYPE_CHECKING

import core

if getattr(core, "__project__", None) != "gradsight":
    raise ImportError(f"'core' came from {core.__file__}, another project's: install gradsight on its own")
if TYPE_CHECKING:
    from gradgan.sampler import Sampler, load_generator

__all__ = ["Sampler", "load_generator"]


def __getattr__(name: str) -> object:
    """What is public, imported when it is asked for."""
    if name in __all__:
        return getattr(import_module("gradgan.sampler"), name)
    raise AttributeError(f"module 'gradgan' has no attribute {name!r}")
