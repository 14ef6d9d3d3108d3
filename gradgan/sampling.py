"""Samples of a generator, and pictures of them: a grid of images, or points over the true centres."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from gradgan.data import Mixture

BATCH = 500  # samples drawn at once
SIDE = 320  # pixels that a grid is enlarged to, about: 8x8 digits are unreadable at their own size
GAP = 4  # pixels between the images of a grid; dark digits fill their frame to the edge
GREY = 70  # of the gap
REAL, FAKE = "#9aa0a6", "#d1495b"


def latents(count: int, size: int, random: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal latents [count, size]; drawn where the generator is, then moved."""
    return torch.randn(count, size, generator=random, device=random.device).to(device)


@torch.no_grad()
def sample(generator: nn.Module, z: Tensor) -> Tensor:
    """Samples [N, ...] on the CPU of a generator in evaluation mode, for latents [N, latent_size]."""
    return torch.cat([generator(batch).cpu() for batch in z.split(BATCH)])


def to_pixels(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8, 0 to 255, rounded; what lies outside is cut off."""
    return ((images + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def image_grid(pixels: Tensor) -> np.ndarray:
    """Lay images out in a square, row by row, on a grey ground, each pixel enlarged by a whole factor.

    Args:
        pixels: uint8 [N, C, H, W], C = 1 or 3, N >= 1.

    Returns:
        uint8 [height, width, 3] (or [height, width] for one channel), about 320 pixels wide or more.
        Enlarging copies pixels (no smoothing), so what is seen is what was generated.
    """
    count, channels, height, width = pixels.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    factor = max(1, round(SIDE / (columns * width)))
    large = pixels.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    high, wide = height * factor + GAP, width * factor + GAP
    canvas = torch.full((channels, rows * high + GAP, columns * wide + GAP), GREY, dtype=torch.uint8)
    for i, image in enumerate(large):
        top, left = i // columns * high + GAP, i % columns * wide + GAP
        canvas[:, top : top + high - GAP, left : left + wide - GAP] = image
    return canvas[0].numpy() if channels == 1 else canvas.permute(1, 2, 0).numpy()


def scatter(fake: Tensor, mixture: Mixture) -> np.ndarray:
    """Two views of generated points: where they lie, and how far from the nearest centre.

    Args:
        fake: [N, 2], in the units of the mixture; points that are not finite are left out.
        mixture: gives the centres (crosses) and the circles of 3 standard deviations.

    Returns:
        A picture, uint8 [H, W, 3].
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # late: importing it takes a second
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    fake = fake[fake.isfinite().all(dim=1)]
    centres = mixture.centres
    figure = Figure(figsize=(9.0, 4.5), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    whole, near = figure.subplots(1, 2)

    limit = 1.3 * centres.abs().max().item() + 3 * mixture.std
    whole.scatter(*fake.T.numpy(), s=4, color=FAKE, alpha=0.35, linewidths=0)
    whole.scatter(*centres.T.numpy(), s=40, marker="+", color="black", linewidths=0.8)
    whole.set(
        xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title=f"{len(fake)} generated points"
    )

    offset = (fake - centres[torch.cdist(fake, centres).argmin(dim=1)]) / mixture.std
    real = torch.randn(len(fake), 2, generator=torch.Generator().manual_seed(0))
    near.scatter(*real.T.numpy(), s=4, color=REAL, alpha=0.4, linewidths=0, label="real")
    near.scatter(*offset.T.numpy(), s=4, color=FAKE, alpha=0.4, linewidths=0, label="generated")
    near.add_patch(Circle((0, 0), 3.0, fill=False, color="black", linewidth=0.8))
    near.set(xlim=(-8, 8), ylim=(-8, 8), aspect="equal", title="offset from the nearest centre, in std")
    near.legend(loc="upper right", markerscale=3)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
