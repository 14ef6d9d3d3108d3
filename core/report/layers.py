"""The last gradient norm and update ratio of every layer, as a table with a small bar in each cell."""

import math
from collections.abc import Sequence
from html import escape

from core.report.numbers import number

LAYER_WORDS = (
    "Each weight and bias, the network's input on top. First the length of its gradient, then how far one "
    "step moves it relative to its own size: about 10⁻³ is common; far above, it is being thrown about; far "
    "below, it hardly learns. Last values of the run; bars are logarithmic."
)

LayerRow = tuple[str, float | None, float | None]


def layer_table(player: str, rows: Sequence[LayerRow], name: str = "") -> str:
    """One player's table; an empty string without rows.

    Args:
        player: name of the gradient step, "" for a run with one.
        rows: layer, gradient norm and update ratio; None where none was measured.
        name: of the run, where there are two.
    """
    if not rows:
        return ""
    norms, ratios = _scale([row[1] for row in rows]), _scale([row[2] for row in rows])
    body = "".join(
        f"<tr><th>{escape(name)}</th>{_cell(norm, norms)}{_cell(ratio, ratios)}</tr>\n"
        for name, norm, ratio in rows
    )
    title = " · ".join(part for part in (f"Run {name}" if name else "", player.capitalize()) if part)
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    return (
        f'<div class="card">{heading}<table><thead><tr><th>layer</th><th>gradient norm</th>'
        f"<th>update ratio</th></tr></thead><tbody>{body}</tbody></table></div>\n"
    )


def bar_width(value: float, scale: tuple[float, float]) -> float:
    """Width of a bar in percent: 100 for the column's largest, 4 for its smallest, logarithmic between."""
    low, high = scale
    return 100.0 if high == low else 4 + 96 * (math.log10(value) - low) / (high - low)


def _scale(values: Sequence[float | None]) -> tuple[float, float]:
    """Exponents of ten of the smallest and the largest positive value."""
    logs = [math.log10(v) for v in values if v is not None and v > 0]
    return (min(logs), max(logs)) if logs else (0.0, 0.0)


def _cell(value: float | None, scale: tuple[float, float]) -> str:
    if value is None or value <= 0:
        return f'<td class="none"><span>{number(value)}</span></td>'
    width = bar_width(value, scale)
    return f'<td><span>{number(value)}</span><i style="width:{width:.0f}%"></i></td>'
