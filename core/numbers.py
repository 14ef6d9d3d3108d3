"""Numbers as text: few digits, thousands separated, powers of ten written as such; and which is higher."""

import math
import statistics
from collections.abc import Iterable, Sequence

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def beats(score: float, best: float | None) -> bool:
    """Whether a score is higher than the best so far, of which NaN is none and beats none."""
    return not math.isnan(score) and (best is None or math.isnan(best) or score > best)


def unfit(value: object) -> str:
    """What a number must be that no tensor could take: neither NaN nor infinite, nor of more than 64 bits."""
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    too_long = isinstance(value, int) and not -(2**63) <= value < 2**64
    return "an integer of at most 64 bits" if too_long else ""


def number(value: object) -> str:
    """A number with three significant digits; whole numbers in full, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if value < 0:
        return f"−{number(-value)}"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return f"{value:g}"
    if value < 1e7 and value == int(value):
        return f"{int(value):,}"
    if value < 1e-3 or value >= 1e7:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{float(mantissa):g}·10{str(int(exponent)).translate(SUPERSCRIPT)}"
    places = max(0, 2 - math.floor(math.log10(value)))
    return f"{value:,.{places}f}"


def plain_number(value: float) -> str:
    """A number for a terminal or Markdown: four significant digits, whole numbers from 1,000 on."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.4g}"


def tick(value: float, digits: int = 4) -> str:
    """An axis label of at most so many significant digits: 0.05, 250k, 1.5M, 10⁻⁴, 10¹⁹."""
    if value < 0:
        return f"−{tick(-value, digits)}"
    if value == 0:
        return "0"
    if digits > 4 and 1e3 <= value < 1e6:  # 1,000.2 says more than 1.0002k
        return f"{value:,.{max(digits, 6)}g}"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size <= value < 1e12:
            rounded = float(f"{value / size:.{digits}g}")
            return f"{rounded:.{max(digits, 4)}g}{letter}"
    if 1e-3 <= value < 1e12:
        rounded = float(f"{value:.{digits}g}")  # as 100, where two digits of it would be 1e+02
        return f"{rounded:.{max(digits, 4)}g}"
    return number(value).removeprefix("1·") if digits <= 4 else f"{value:.{digits}g}"


def ticks(values: Iterable[float]) -> list[str]:
    """Labels of one axis, with as many digits as they need to differ."""
    values = [float(value) for value in values]
    labels: list[str] = []
    for digits in range(4, 18):
        labels = [tick(value, digits) for value in values]
        if len(set(labels)) == len(set(values)):
            break
    return labels


def quartiles(values: Sequence[float], digits: str) -> str:
    """The median and, in brackets, the quartiles, each in the format `digits`."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{median:{digits}} [{low:{digits}}, {high:{digits}}]"


def percent(value: object) -> str:
    """A share in [0, 1], in percent."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return number(value)
    return f"{100 * value:.1f} %"


def seconds(value: object) -> str:
    """A duration in seconds, minutes or hours."""
    if not isinstance(value, int | float):
        return number(value)
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"
