"""The stations of the tour, in the order of a reader who knows nothing but what a gradient is."""

from collections.abc import Callable

from . import (
    batches,
    clipping,
    critical_points,
    depth,
    learning_rate,
    noise,
    optimizers,
    policy_gradient,
    slope,
    two_players,
)
from .station import Station

STATIONS: tuple[Callable[[], Station], ...] = (
    slope.station,
    learning_rate.station,
    batches.station,
    optimizers.station,
    critical_points.station,
    depth.station,
    noise.station,
    clipping.station,
    policy_gradient.station,
    two_players.station,
)
