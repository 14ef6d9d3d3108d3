"""A training loop of one's own, watched: one mistake in it, what the Watch says of it, and the mended loop.

python examples/watch_loop.py && gradsight-report run=runs/watch_loop/mistaken
"""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from core import Watch
from core.diagnosis import Finding


def train(directory: Path, *, softmax: bool, epochs: int = 6) -> tuple[float, list[Finding]]:
    """Learn to read scikit-learn's 8x8 digits; returns the last loss and what was found."""
    torch.manual_seed(0)
    pixels, labels = map(torch.from_numpy, load_digits(return_X_y=True))
    data = DataLoader(TensorDataset(pixels.float() / 16, labels), batch_size=64, shuffle=True)

    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    if softmax:
        model.append(nn.Softmax(dim=1))  # the mistake: the loss below applies one already
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    with Watch(model, optimizer, loss=criterion, directory=directory) as watch:  # the one new line
        for _ in range(epochs):
            for x, y in data:
                loss = criterion(model(x), y)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
    return loss.item(), watch.findings


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name, softmax in (("mistaken", True), ("mended", False)):
        last, found = train(Path("runs/watch_loop", name), softmax=softmax)
        print(f"{name}: loss {last:.3f}, {', '.join(finding.name for finding in found) or 'no findings'}\n")
