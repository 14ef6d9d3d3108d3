"""Gradients in full view: clip, track, step and explain the gradients of any `torch.nn.Module`."""

# `core` is a common name. The packages above look for this mark, so that another distribution's `core`,
# or a `core/` folder in the working directory, is told apart from ours by one clear line.
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.watch.watch import Watch

__all__ = ["Watch"]
__project__ = "gradsight"
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """`from core import Watch`, without importing torch for those that want another thing of `core`."""
    if name == "Watch":
        from core.watch.watch import Watch

        return Watch
    raise AttributeError(f"module 'core' has no attribute {name!r}")
