"""Pictures of landscapes: level lines, the path of an optimizer, the known critical points."""

import re

import numpy as np
import torch
from torch import Tensor

from core.landscape.functions import Function
from core.run.media import Image

GRID = 300  # points of the surface along each axis
LEVELS = 28
# Marker, size and colour of the known critical points.
MARKS = {
    "minimum": ("o", 6, "#ffffff"),
    "saddle": ("X", 7, "#ffb000"),
    "maximum": ("^", 7, "#fe6100"),
    "degenerate": ("D", 6, "#ffb000"),
}
PATH = "#dc267f"


def draw_path(function: Function, path: Tensor, title: str) -> Image:
    """Draw the path of a descent over the level lines of a function of two variables.

    The picture shows the function's domain, and more where the path leaves it, up to once the domain's width
    on every side.

    Args:
        function: of two variables.
        path: points in order, [T, 2]; not finite ones are left out.
        title: what descended.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import BoundaryNorm
    from matplotlib.figure import Figure

    path = path[path.isfinite().all(1)]
    box = [_span(path[:, i], function.domain[i]) for i in range(2)]
    x, y = (torch.linspace(*span, GRID, dtype=torch.float64) for span in box)
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    value = function(points).numpy()
    levels = _levels(value)
    colours = BoundaryNorm(levels, 256)
    figure = Figure(figsize=(7.2, 6.0), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    axes.contourf(x, y, value, levels, cmap="Blues_r", norm=colours)
    axes.contour(x, y, value, levels, colors="white", linewidths=0.4, alpha=0.6)
    steps = path.numpy()
    few = len(steps) <= 200  # single steps can be told apart
    axes.plot(*steps.T, "-", color=PATH, linewidth=1.4, marker="." if few else None, markersize=3)
    for kind, (marker, size, colour) in MARKS.items():
        known = [c.point for c in function.critical_points if c.kind == kind]
        if known:
            style = {"markerfacecolor": colour, "markeredgecolor": "#222222", "markeredgewidth": 0.8}
            axes.plot(*np.array(known).T, marker, markersize=size, label=kind, clip_on=True, **style)
    axes.plot(*steps[0], "s", color=PATH, markeredgecolor="white", markersize=7, label="start")
    axes.plot(*steps[-1], "*", color=PATH, markeredgecolor="white", markersize=14, label="end")
    axes.set_xlim(*box[0])
    axes.set_ylim(*box[1])
    axes.set_xlabel("x0")
    axes.set_ylabel("x1", rotation=0)
    name = re.sub(r"(?<!^)(?=[A-Z])", " ", type(function).__name__).capitalize()
    axes.set_title(f"{name}: {title}", fontsize=11)
    figure.legend(loc="outside lower center", ncols=6, fontsize=9, frameon=False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _span(path: Tensor, domain: tuple[float, float]) -> tuple[float, float]:
    """An interval that holds the domain and, as far as it is near, the path."""
    low, high = domain
    width = high - low
    if len(path):
        margin = 0.05 * width
        low = min(low, max(float(path.min()) - margin, low - width))
        high = max(high, min(float(path.max()) + margin, high + width))
    return low, high


def _levels(value: np.ndarray) -> np.ndarray:
    """Heights of the level lines, ascending.

    Half of them are spaced evenly in the logarithm of the height above the lowest point shown, which shows
    the floor of a valley; half cut the picture into equal areas, which shows hills and plains.
    """
    lowest, middle, highest = (np.quantile(value, q) for q in (0.0, 0.5, 1.0))
    offset = 1e-3 * (middle - lowest) + 1e-12
    log = lowest - offset + np.geomspace(offset, highest - lowest + offset, LEVELS // 2)
    areas = np.quantile(value, np.linspace(0, 1, LEVELS // 2 + 1)[1:-1])
    return np.unique(np.concatenate([log, areas, [lowest, highest]]))
