"""A Lightning module, watched: manual optimization without zero_grad, what the Watch says of it, and mended.

python examples/watch_lightning.py && gradsight-report run=runs/watch_lightning/mistaken
"""

import argparse
from pathlib import Path

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from core.diagnosis import Finding
from core.watch.lightning import WatchCallback


class Reader(pl.LightningModule):
    """Reads 8x8 digits."""

    def __init__(self, clears: bool) -> None:
        super().__init__()
        self.automatic_optimization, self.clears = False, clears
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        self.criterion = nn.CrossEntropyLoss()  # a part of the module: it is listened to

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        """One step by hand."""
        loss = self.criterion(self.net(batch[0]), batch[1])
        self.manual_backward(loss)
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)  # there is one
        optimizer.step()
        if self.clears:  # the mistake: without this, every step follows the sum of all gradients so far
            optimizer.zero_grad()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain descent."""
        return torch.optim.SGD(self.parameters(), lr=0.05)


def train(directory: Path, *, clears: bool, epochs: int = 12) -> list[Finding]:
    """What is found."""
    pl.seed_everything(0)
    pixels, labels = map(torch.from_numpy, load_digits(return_X_y=True))
    data = DataLoader(TensorDataset(pixels.float() / 16, labels), batch_size=64)
    callback = WatchCallback(directory)  # the one new line
    trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
                         enable_progress_bar=False, callbacks=[callback])  # fmt: skip
    trainer.fit(Reader(clears), data)
    return callback.watch.findings if callback.watch else []


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name, clears in (("mistaken", False), ("mended", True)):
        found = train(Path("runs/watch_lightning", name), clears=clears)
        print(f"{name}: {', '.join(finding.name for finding in found) or 'no findings'}\n")
