"""Pictures of generated samples: grids of images, and points over the true centres."""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from core.draw.figure import new_figure, pixels
from core.draw.palette import FAINT, INK, ORANGE

SIDE = 480  # pixels that a grid is enlarged to, about: 8x8 digits are unreadable at their own size
GAP = 4  # pixels between the images of a grid; dark digits fill their frame to the edge
BREAK = 20  # pixels between groups of columns
GROUND = 243  # grey level of the gaps: light, and not the white of a white image
DPI = 100
FAKE, REAL = ORANGE, FAINT


def image_grid(pixels: Tensor, columns: int | None = None, *, group: int | None = None) -> np.ndarray:
    """Lay images out row by row on a light ground, each pixel enlarged by a whole factor.

    Args:
        pixels: uint8 [N, C, H, W], C = 1 or 3, N >= 1.
        columns: images in a row; None = about as many as rows.
        group: number of columns to the left of a wider gap; None = no such gap.

    Returns:
        uint8 [height, width, 3], about 480 pixels wide or more. Enlarging copies pixels (no smoothing), so
        what is seen is what was generated.
    """
    count, _, height, width = pixels.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    factor = max(1, round(SIDE / (columns * width)))
    large = pixels.expand(-1, 3, -1, -1).repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    high, wide = height * factor + GAP, width * factor + GAP
    extra = BREAK if group else 0
    canvas = torch.full((3, rows * high + GAP, columns * wide + GAP + extra), GROUND, dtype=torch.uint8)
    for i, image in enumerate(large):
        row, column = divmod(i, columns)
        top, left = row * high + GAP, column * wide + GAP + (extra if group and column >= group else 0)
        canvas[:, top : top + high - GAP, left : left + wide - GAP] = image
    return canvas.permute(1, 2, 0).numpy()


def titled(
    canvas: np.ndarray,
    title: str,
    *,
    rows: Sequence[str] = (),
    headings: Sequence[tuple[float, str]] = (),
) -> np.ndarray:
    """Add a title, headings and row names around a grid, whose own pixels do not change.

    Args:
        canvas: uint8 [H, W, 3].
        title: a line above; broken into more where it is too wide.
        rows: a name for each of the rows, evenly down the left; none = no names.
        headings: text between title and grid, each with its left edge as a share of the width.

    Returns:
        uint8, larger.
    """
    height, width = canvas.shape[:2]
    left = 14 + 7 * max(map(len, rows)) if rows else 0
    letters = max(20, (left + width) // 8)  # of 10.5 points, on the average
    lines = textwrap.wrap(title, letters)
    top = 10 + 18 * len(lines) + (20 if headings else 0)
    high, wide = height + top, max(width + left, 160)
    figure = new_figure((wide + 0.5) / DPI, (high + 0.5) / DPI, dpi=DPI, pad=None)  # rounds down
    figure.text(GAP / wide, 1 - 6 / high, "\n".join(lines), va="top", fontsize=10.5, color=INK)
    for share, text in headings:
        x, y = (left + GAP + share * width) / wide, (height + 3) / high
        figure.text(x, y, text, va="bottom", fontsize=9, color=INK)
    for i, name in enumerate(rows):
        y = (height - (i + 0.5) * height / len(rows)) / high
        figure.text((left - 5) / wide, y, name, va="center", ha="right", fontsize=9, color=INK)
    picture = pixels(figure).pixels
    picture[top:, left : left + width] = canvas
    return picture


def scatter(fake: Tensor, centres: Tensor, std: float) -> np.ndarray:
    """Two views of generated points: where they lie, and how far from the nearest centre.

    Args:
        fake: [N, 2], in the units of the centres; points that are not finite are left out.
        centres: of the Gaussians, drawn as crosses, [K, 2].
        std: of each Gaussian along each axis; 3 of them are the radius of the circle.

    Returns:
        A picture, uint8 [H, W, 3].
    """
    from matplotlib.patches import Circle

    fake = fake[fake.isfinite().all(dim=1)]
    figure = new_figure(9.0, 4.5, dpi=DPI)
    whole, near = figure.subplots(1, 2)

    limit = 1.3 * centres.abs().max().item() + 3 * std
    whole.scatter(*fake.T.numpy(), s=4, color=FAKE, alpha=0.35, linewidths=0)
    whole.scatter(*centres.T.numpy(), s=40, marker="+", color=INK, linewidths=0.8)
    whole.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    whole.set_title(f"{len(fake)} generated points; crosses: true centres", fontsize=11)

    offset = (fake - centres[torch.cdist(fake, centres).argmin(dim=1)]) / std
    real = torch.randn(len(fake), 2, generator=torch.Generator().manual_seed(0))
    near.scatter(*real.T.numpy(), s=4, color=REAL, alpha=0.5, linewidths=0, label="real")
    near.scatter(*offset.T.numpy(), s=4, color=FAKE, alpha=0.4, linewidths=0, label="generated")
    near.add_patch(Circle((0, 0), 3.0, fill=False, color=INK, linewidth=0.8))
    near.set(xlim=(-8, 8), ylim=(-8, 8), aspect="equal")
    near.set_title("Offset from the nearest centre, in std; circle: 3", fontsize=11)
    near.legend(loc="upper right", markerscale=3)
    return pixels(figure).pixels
