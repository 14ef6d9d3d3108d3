"""Curves as inline SVG: a light grid, what was measured as a thin line, its average as a strong one.

Colours come from the page's style sheet (classes c1, c2, ...): one drawing serves light, dark and print.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from core.numbers import number, ticks

WIDTH, HEIGHT = 400, 210  # of the view box: 12 units of text stay readable on a phone
LEFT, RIGHT, TOP, BOTTOM = 50, 10, 10, 26
LETTER = 7  # width of a digit
MARKS, ROW = 4, 6  # rows of marks above a chart at most, and their height
BUCKETS = 200  # a longer curve keeps the smallest and the largest value of each bucket
FEW = 30  # a curve with fewer points is drawn point by point and not averaged


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        label: for the legend.
        points: {x: y}, ascending; NaN and infinity leave a gap.
        colour: 1, 2, ...: one of the style sheet's.
        dashed: the line is a reference, or the second of the same colour, and is dotted.
        second: the line belongs to the second of two runs and is drawn in long dashes.
        deviation: {x: half-width} of a band around the line.
    """

    label: str
    points: dict[int, float]
    colour: int = 1
    dashed: bool = False
    second: bool = False
    deviation: dict[int, float] | None = None


@dataclass(frozen=True)
class Mark:
    """A stretch of the x-axis, marked with a thin bar at the top.

    Attributes:
        label: what shows under the mouse.
        kind: a class of the style sheet.
        first: where it begins.
        last: where it ends.
    """

    label: str
    kind: str
    first: int
    last: int


@dataclass(frozen=True)
class Axis:
    """Maps values to view-box units; a logarithmic one has no place for values <= 0 (they become NaN)."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Positions of the values, same shape, float64."""
        scaled = _scale(np.asarray(values, dtype=np.float64), self.log)
        return self.start + (scaled - self.low) / (self.high - self.low) * (self.end - self.start)


def draw(
    series: Sequence[Series],
    *,
    title: str,
    log: bool = False,
    level: float | None = None,
    marks: Sequence[Mark] = (),
    end: int = 0,
) -> str:
    """One chart as an `<svg>` element; an empty string when there is nothing finite to draw.

    Args:
        series: lines over a common x-axis.
        title: for those who cannot see it.
        log: logarithmic y-axis.
        level: a height that means something; a rule is drawn there.
        marks: at most `MARKS` of them are drawn.
        end: the x-axis goes at least as far.
    """
    xs = [x for line in series for x in line.points]
    shown = _scale(np.array([y for line in series for y in _extent(line)], dtype=np.float64), log)
    shown = shown[np.isfinite(shown)]
    if not shown.size:
        return ""
    if level is not None:
        shown = np.append(shown, _scale(np.array([level]), log))
    low, high = _padded(float(shown.min()), float(shown.max()), log)
    y = Axis(low, high, HEIGHT - BOTTOM, TOP, log)
    heights = log_ticks(low, high) if log else nice_ticks(low, high)
    labels = ticks(heights)
    left = max(LEFT, LETTER * max(map(len, labels)) + 8)  # long labels need more than the usual margin
    x = Axis(min([0, *xs]), max([1, end, *xs]), left, WIDTH - RIGHT)
    marks = marks[:MARKS]
    body = _grid(x, y, dict(zip(heights, labels, strict=True)))
    body += _level(level, x, y) + "".join(_mark(mark, i, x) for i, mark in enumerate(marks))
    body += "".join(_band(line, x, y) for line in series)
    body += "".join(_line(line, x, y) for line in series)
    above = ROW * len(marks)
    box = f"0 {-above} {WIDTH} {HEIGHT + above}"
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(title)}">{body}</svg>'


def smooth(values: np.ndarray, half_width: int) -> np.ndarray:
    """Centred moving average over 2 half_width + 1 points, fewer at the ends and next to a NaN."""
    kernel = np.ones(2 * half_width + 1)
    finite = np.isfinite(values)
    total = np.convolve(np.where(finite, values, 0.0), kernel, mode="full")
    count = np.convolve(finite.astype(np.float64), kernel, mode="full")
    inner = slice(half_width, half_width + len(values))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(finite, total[inner] / count[inner], np.nan)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """At most about `count` round numbers in [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) if step > 1e-9 else i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between the exponents `low` and `high`; 2 and 5 times them too where one fits or none."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    every = max(1, math.ceil((high - low) / 5))
    factors = (1, 2, 5) if high - low < 2 else (1,)
    ticks = [f * 10.0**d for d in decades if d % every == 0 for f in factors]
    return [t for t in ticks if low - 1e-9 <= math.log10(t) <= high + 1e-9]


def _grid(x: Axis, y: Axis, heights: dict[float, str]) -> str:
    parts = []
    for value, label in heights.items():
        at = float(y([value])[0])
        parts.append(f'<line class="grid" x1="{x.start:g}" x2="{x.end:g}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="y" x="{x.start - 6:g}" y="{at + 4:.1f}">{label}</text>')
    steps = nice_ticks(x.low, x.high, 4)
    for value, label in zip(steps, ticks(steps), strict=True):
        at = float(x([value])[0])
        # A label at the right edge ends there; centred, its second half would lie outside the picture.
        kind = "x last" if at > WIDTH - RIGHT - 16 else "x"
        parts.append(f'<text class="{kind}" x="{at:.1f}" y="{HEIGHT - 8}">{label}</text>')
    base = HEIGHT - BOTTOM
    return "".join(parts) + f'<line class="axis" x1="{x.start:g}" x2="{x.end:g}" y1="{base}" y2="{base}"/>'


def _level(level: float | None, x: Axis, y: Axis) -> str:
    if level is None:
        return ""
    at = float(y([level])[0])
    return f'<line class="level" x1="{x.start:g}" x2="{x.end:g}" y1="{at:.1f}" y2="{at:.1f}"/>'


def _mark(mark: Mark, row: int, x: Axis) -> str:
    first, last = np.clip(x([mark.first, mark.last]), x.start, x.end)
    first = min(first, x.end - 4.0)
    return (
        f'<rect class="mark {mark.kind}" x="{first:.1f}" y="{-ROW * (row + 1) + 3}" '
        f'width="{max(last - first, 4.0):.1f}" height="4"><title>{escape(mark.label)}</title></rect>'
    )


def _line(line: Series, x: Axis, y: Axis) -> str:
    steps = np.array(list(line.points), dtype=np.float64)
    values = np.array(list(line.points.values()), dtype=np.float64)
    values[~np.isfinite(_scale(values, y.log))] = np.nan
    thin = line.dashed or line.second
    colour = f"c{line.colour}" + (" dashed" if line.dashed else "") + (" second" if line.second else "")
    if len(steps) < FEW:
        dots = "" if thin and len(steps) > 1 else _dots(x(steps), y(values), line, colour)
        return _polylines(x(steps), y(values), "line", colour) + dots
    mean = smooth(_scale(values, y.log), max(1, len(values) // 40))
    mean = 10.0**mean if y.log else mean
    raw = "" if thin else _polylines(*_thin(x(steps), y(values)), "raw", colour)
    return raw + _polylines(*_thin(x(steps), y(mean)), "line", colour)


def _dots(xs: np.ndarray, ys: np.ndarray, line: Series, colour: str) -> str:
    """A dot for every finite point, whose numbers show under the mouse."""
    return "".join(
        f'<circle class="dot {colour}" cx="{a:.1f}" cy="{b:.1f}" r="2.6">'
        f"<title>{number(value)} at {step:,}</title></circle>"
        for a, b, (step, value) in zip(xs, ys, line.points.items(), strict=True)
        if math.isfinite(b)
    )


def _band(line: Series, x: Axis, y: Axis) -> str:
    around = {s: (line.points[s], d) for s, d in (line.deviation or {}).items() if s in line.points}
    around = {s: (v, d) for s, (v, d) in around.items() if math.isfinite(v) and math.isfinite(d)}
    if len(around) < 2:
        return ""
    steps = list(around)
    upper, lower = y([v + d for v, d in around.values()]), y([v - d for v, d in around.values()])
    corners = [*zip(x(steps), upper, strict=True), *reversed([*zip(x(steps), lower, strict=True)])]
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
    return f'<polygon class="band c{line.colour}" points="{points}"/>'


def _polylines(xs: np.ndarray, ys: np.ndarray, kind: str, colour: str) -> str:
    """One polyline for each stretch without gaps; a point between two gaps is a dot, for a line needs two."""
    parts: list[str] = []
    for stretch in np.ma.clump_unmasked(np.ma.masked_invalid(ys)):
        points = [f"{x:.1f},{y:.1f}" for x, y in zip(xs[stretch], ys[stretch], strict=True)]
        if len(points) > 1:
            parts.append(f'<polyline class="{kind} {colour}" points="{" ".join(points)}"/>')
        else:
            x, y = points[0].split(",")
            parts.append(f'<circle class="dot {colour}" cx="{x}" cy="{y}" r="1.6"/>')
    return "".join(parts)


def _thin(xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep of a long curve what can be seen: the extremes of each bucket, so that no spike is lost."""
    if len(xs) <= 2 * BUCKETS:
        return xs, ys
    kept = set()
    for bucket in np.array_split(np.arange(len(xs)), BUCKETS):
        finite = bucket[np.isfinite(ys[bucket])]
        chosen = finite if finite.size else bucket
        kept |= {int(chosen[np.argmin(ys[chosen])]), int(chosen[np.argmax(ys[chosen])])}
    order = sorted(kept)
    return xs[order], ys[order]


def _extent(line: Series) -> list[float]:
    """Every height the line and its band reach."""
    around = [(line.points[s], d) for s, d in (line.deviation or {}).items() if s in line.points]
    return [*line.points.values(), *(v + d for v, d in around), *(v - d for v, d in around)]


def _padded(low: float, high: float, log: bool) -> tuple[float, float]:
    """The axis' range: a little more than the data's, and never empty; exponents of ten if `log`."""
    if log:
        middle, half = (low + high) / 2, max((high - low) / 2 * 1.06, 0.35)
        return middle - half, middle + half
    if high == low:
        half = abs(high) * 0.5 or 1.0
        return low - half, high + half
    margin = 0.06 * (high - low)
    return low if low == 0 else low - margin, high + margin


def _scale(values: np.ndarray, log: bool) -> np.ndarray:
    if not log:
        return np.where(np.isfinite(values), values, np.nan)
    return np.log10(np.where(np.isfinite(values) & (values > 0), values, np.nan))
