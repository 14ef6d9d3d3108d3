"""Layers × magnitude: how the components of every layer's gradient spread over the powers of two."""

from functools import partial

import numpy as np
from torch import Tensor

from core.draw.layer_page import GAP, LayerPage, titled
from core.draw.media import Image
from core.draw.palette import DARK, LIGHT, Look
from core.draw.pen import Box, Mark, Pen
from core.draw.ticks import whole_ticks
from core.draw.viridis import viridis
from core.gradients.measure.exponents import BINS, LOWEST, ZERO
from core.numbers import SUPERSCRIPT

ZEROS = 0.1  # of the width, for the components that are 0
BROAD = 2  # pixels of the two limits
LIMITS = {  # of float16, and the length of a dash
    -14: ("float16: rounded below 2⁻¹⁴", 9),
    -24: ("0 below 2⁻²⁴", 3),
}


def draw_exponents(counts: Tensor, names: list[str], player: str = "") -> Image:
    """Draw how the components of every layer's gradient spread over the powers of two.

    The counts [layers, BINS + 1] are those of `core.gradients.measure.exponents`.
    """
    shares = (counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy().astype(np.float64)
    light, dark = (_drawn(look, shares, names, player) for look in (LIGHT, DARK))
    return Image(light, dark)


def _drawn(look: Look, shares: np.ndarray, names: list[str], player: str) -> np.ndarray:
    """One rendering of the shares [layers, BINS + 1]."""
    used = np.flatnonzero(shares[:, :BINS].any(0))
    low, high = (max(used[0] - 1, 0), min(used[-1] + 2, BINS)) if used.size else (0, BINS)
    limits = {x: each for x, each in LIMITS.items() if low + LOWEST < x < high + LOWEST}
    legend: list[tuple[str, Mark]] = [
        (name, partial(_sample, colour=look.orange, dash=dash)) for name, dash in limits.values()
    ]
    title = titled("Magnitude of every component of every layer's gradient", player)
    page = LayerPage(look, title, names, 1, legend)
    largest = max(float(shares.max(initial=0.0)), 1e-6)
    percents = whole_ticks(0, 100 * largest)
    page.key("share of the layer", {f"{x}%": (x / 100 / largest) ** 0.5 for x in percents})
    area, pen = page.area, page.pen
    colours = _cells(look, shares, largest)
    zeros = Box(area.left, area.top, area.left + round(ZEROS * area.width), area.bottom)
    powers = Box(zeros.right + 2 * GAP, area.top, area.right, area.bottom)
    pen.paint(zeros, colours[:, [ZERO]])
    pen.paint(powers, colours[:, low:high])
    for box in (zeros, powers):
        pen.frame(box)
    page.mark(zeros, 0.5, "0")
    for x in whole_ticks(low + LOWEST, high + LOWEST):
        page.mark(powers, (x - LOWEST - low) / (high - low), f"2{str(x).translate(SUPERSCRIPT)}")
    for x, (_, dash) in limits.items():
        left = powers.left + round((x - LOWEST - low) / (high - low) * (powers.width - 1))
        pen.dashes(Box(left, area.top, left + BROAD, area.bottom), look.orange, dash)
    return pen.pixels()


def _cells(look: Look, shares: np.ndarray, largest: float) -> np.ndarray:
    """The colour of every share, that of the page for none: uint8 [layers, BINS + 1, 3].

    The root makes a hundredth of a layer visible next to a half.
    """
    from PIL.ImageColor import getrgb

    colours = viridis((shares / largest) ** 0.5)
    colours[shares == 0] = getrgb(look.page)
    return colours


def _sample(pen: Pen, box: Box, colour: str, dash: int) -> None:
    middle = (box.top + box.bottom) // 2
    pen.dashes(Box(box.left, middle - 1, box.right, middle - 1 + BROAD), colour, dash)
