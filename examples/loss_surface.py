"""What does the loss look like around the trained weights? Drawn for an ordinary network.

python examples/loss_surface.py && ls loss_surface.png
"""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from core.draw.media import encode
from core.gradients import GradientStep, Objective
from core.landscape.directions import filter_normalised
from core.landscape.draw_loss import draw_surface
from core.landscape.surface import Surface, surface_of


def study(num_steps: int = 200, grid: int = 41) -> tuple[Surface, float, bytes]:
    """Train on scikit-learn's digits, then look around: the surface, the loss in its middle, a PNG."""
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(0)
    pixels, digits = map(torch.from_numpy, load_digits(return_X_y=True))
    images = pixels.float() / 16
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    step = GradientStep(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    for _ in range(num_steps):
        step(lambda: (cross_entropy(model(images), digits), {}), samples=len(digits))

    objective = Objective(model, lambda forward, x, y: cross_entropy(forward(x), y), (images, digits))
    directions = torch.stack([filter_normalised(objective, random) for _ in range(2)])
    line = torch.linspace(-1, 1, grid)
    surface = surface_of(objective, directions, line, line)
    here = objective().item()
    heading = "Cross-entropy of a small network on digits", "two random, filter-normalised directions"
    return surface, here, encode(draw_surface(surface, here, heading))[0]


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    surface, here, picture = study()
    Path("loss_surface.png").write_bytes(picture)
    print(f"loss {here:.4f} after training, up to {surface.values.max():.2f} around it: loss_surface.png")
