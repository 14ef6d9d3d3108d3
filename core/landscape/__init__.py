"""The loss around trained weights: slices, surfaces, paths, spectra."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.landscape.directions import filter_normalised
    from core.landscape.draw_loss import draw_surface
    from core.landscape.surface import Surface, surface_of

__all__ = ["Surface", "draw_surface", "filter_normalised", "surface_of"]
PLACES = {
    "Surface": "core.landscape.surface",
    "draw_surface": "core.landscape.draw_loss",
    "filter_normalised": "core.landscape.directions",
    "surface_of": "core.landscape.surface",
}


def __getattr__(name: str) -> object:
    """What is public, imported when it is asked for."""
    if name in PLACES:
        return getattr(import_module(PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
