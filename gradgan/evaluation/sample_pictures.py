"""Pictures of generated samples: grids of images, and points over the true centres."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from core.draw.figure import TEXT, framed, legend, new_figure, picture, pixels, styled
from core.draw.palette import LIGHT, Look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 480  # pixels that a grid is enlarged to, about: 8x8 digits are unreadable at their own size
GAP = 4  # pixels between the images of a grid; dark digits fill their frame to the edge
BREAK = 20  # pixels between groups of columns
GROUND = 243  # grey level of the gaps: light, and not the white of a white image
DPI = 100
NEAR = 8.0  # standard deviations around a centre that are shown


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
    large = max(1.0, width / SIDE)  # a grid of many pixels is shown smaller, and its words with it
    left = round((14 + 9 * max(map(len, rows))) * large) if rows else 0
    letters = max(20, int((left + width) / (9 * large)))
    lines = textwrap.wrap(title, letters)
    line = 20 * large
    top = round(10 + line * len(lines) + (line + 2 if headings else 0))
    high, wide = height + top, max(width + left, 160)
    size = TEXT * large
    with styled(LIGHT):
        made = new_figure((high + 0.5) / DPI, width=(wide + 0.5) / DPI, dpi=DPI)  # rounds down
        made.set_layout_engine("none")
        made.text(GAP / wide, 1 - 6 / high, "\n".join(lines), va="top", fontweight="bold", fontsize=size)
        for share, text in headings:
            x, y = (left + GAP + share * width) / wide, (height + 3) / high
            made.text(x, y, text, va="bottom", fontsize=size)
        for i, name in enumerate(rows):
            y = (height - (i + 0.5) * height / len(rows)) / high
            made.text((left - 5) / wide, y, name, va="center", ha="right", fontsize=size)
        drawn = pixels(made)
    drawn[top:, left : left + width] = canvas
    return drawn


@picture
def scatter(look: Look, fake: Tensor, centres: Tensor, std: float) -> "Figure":
    """Two views of generated points: where they lie, and how far from the nearest centre.

    Args:
        look: the colours to draw it in.
        fake: [N, 2], in the units of the centres; points that are not finite are left out.
        centres: of the Gaussians, drawn as crosses, [K, 2].
        std: of each Gaussian along each axis; 3 of them are the radius of the circle.
    """
    from matplotlib.patches import Circle

    fake = fake[fake.isfinite().all(dim=1)]
    made = new_figure(10.6, f"{len(fake):,} generated points")
    whole, near = made.subplots(2, 1)

    limit = 1.3 * centres.abs().max().item() + 3 * std
    whole.scatter(*fake.T.numpy(), s=5, color=look.orange, alpha=0.45, linewidths=0)
    whole.scatter(*centres.T.numpy(), s=60, marker="+", color=look.ink, linewidths=1.1)
    whole.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    whole.set_title(f"Crosses: true centres{_beyond(fake, limit)}")

    offset = (fake - centres[torch.cdist(fake, centres).argmin(dim=1)]) / std
    real = torch.randn(len(fake), 2, generator=torch.Generator().manual_seed(0))
    near.scatter(*real.T.numpy(), s=5, color=look.blue, alpha=0.6, linewidths=0, label="real")
    near.scatter(*offset.T.numpy(), s=5, color=look.orange, alpha=0.6, linewidths=0, label="generated")
    near.add_patch(Circle((0, 0), 3.0, fill=False, color=look.ink, linewidth=1.0))
    near.set(xlim=(-NEAR, NEAR), ylim=(-NEAR, NEAR), aspect="equal")
    near.set_title(f"Offset from the nearest centre, in std; circle: 3{_beyond(offset, NEAR)}")
    for axes in (whole, near):
        framed(axes)
    legend(made, near.get_legend_handles_labels()[0], markerscale=3)
    return made


def _beyond(points: Tensor, limit: float) -> str:
    """How many points the picture does not show."""
    outside = int((points.abs() > limit).any(dim=1).sum())
    return f"; {outside:,} outside" if outside else ""
