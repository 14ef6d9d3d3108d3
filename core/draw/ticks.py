"""Which numbers stand along an axis."""

import math

STEPS = (1, 2, 5, 10)


def whole_ticks(low: float, high: float, most: int = 5) -> list[int]:
    """At most so many multiples of 1, 2 or 5 times a power of ten, all whole, from one end to the other."""
    exponent = math.floor(math.log10(max((high - low) / most, 1)))
    for step in (m * 10**exponent for m in STEPS):
        found = list(range(math.ceil(low / step) * step, math.floor(high) + 1, step))
        if len(found) <= most:
            break
    return found


def power_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most so many numbers along a logarithmic axis: powers of ten; where fewer than two fit, others too.

    Args:
        low: above 0.
        high: above that.
        most: at least 2.
    """
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    every = max(1, math.ceil((last - first + 1) / most))
    found = [10.0**e for e in range(math.ceil(first / every) * every, last + 1, every)]
    for parts in ((1, 2, 5), range(1, 10)):
        if len(found) > 1:
            break
        found = [float(f"{m}e{e}") for e in range(first - 1, last + 1) for m in parts]
        found = [x for x in found if low <= x <= high]
    if len(found) < 2:
        return [low, high]
    return found[:: math.ceil(len(found) / most)]
