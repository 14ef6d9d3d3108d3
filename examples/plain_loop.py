"""`core` in an ordinary training loop: every gradient measured, clipped, and drawn by TensorBoard.

python examples/plain_loop.py && tensorboard --logdir runs/plain_loop
"""

import argparse
from functools import partial

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset, random_split
from torch.utils.tensorboard import SummaryWriter

from core.gradients import GlobalNorm, GradientStep


def train(log_dir: str, epochs: int = 12) -> float:
    """Learn to read scikit-learn's 8x8 digits; returns the accuracy on 300 images not trained on."""
    torch.manual_seed(0)
    pixels, labels = map(torch.from_numpy, load_digits(return_X_y=True))
    images = pixels.float().reshape(-1, 1, 8, 8) / 16
    training, testing = random_split(TensorDataset(images, labels), [len(labels) - 300, 300])

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    step = GradientStep(model, optimizer, [GlobalNorm(max_norm=1.0)])

    def loss(x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return cross_entropy(model(x), y), {}  # the loss, and metrics of your own

    with SummaryWriter(log_dir) as writer:
        for epoch in range(epochs):
            for x, y in DataLoader(training, batch_size=64, shuffle=True):
                # In place of zero_grad, backward, clip_grad_norm_ and optimizer.step.
                step(partial(loss, x, y), samples=len(y))
            for tag, value in step.monitor.drain().items():
                writer.add_scalar(tag, value, epoch)

    x, y = next(iter(DataLoader(testing, batch_size=300)))
    return (model(x).argmax(1) == y).float().mean().item()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(f"accuracy {train('runs/plain_loop'):.1%}; the gradients: tensorboard --logdir runs/plain_loop")
