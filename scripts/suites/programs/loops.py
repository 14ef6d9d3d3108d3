"""What a small program consists of, and the loop that everybody writes around it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from core import Watch
from core.diagnosis import Finding


@dataclass(kw_only=True)
class Loop:
    """A program before it runs.

    Attributes:
        model: called with a batch of inputs.
        data: inputs [N, ...] and targets [N, ...].
        loss: called with predictions and targets.
        optimizer: of the model.
        epochs: passes over the data.
        batch: samples of a step.
        clear: whether the gradient is cleared after each step.
        sign: what the loss is multiplied by before backward.
        each: called after every epoch; a schedule, say.
        training: whether the model is put into training mode.
    """

    model: nn.Module
    data: tuple[Tensor, Tensor]
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    epochs: int = 10
    batch: int = 32
    clear: bool = True
    sign: float = 1.0
    each: Callable[[], object] = field(default=lambda: None)
    training: bool = True

    def run(self, directory: str | None) -> tuple[list[Finding], float]:
        """Train under a Watch that nothing is told of the program; findings, and the score."""
        self.model.train(self.training)
        with Watch(self.model, self.optimizer, loss=self.loss, directory=directory) as watch:
            for _ in range(self.epochs):
                for x, y in batches(*self.data, self.batch):
                    loss = self.loss(self.model(x), y)
                    (self.sign * loss).backward()
                    self.optimizer.step()
                    if self.clear:
                        self.optimizer.zero_grad()
                self.each()
        logits = isinstance(self.loss, nn.BCEWithLogitsLoss)
        return watch.findings, score(self.model.eval(), *self.data, logits=logits)


Program = Callable[[bool], Loop]


@dataclass(frozen=True)
class Case:
    """A fault that somebody had.

    Attributes:
        name: of the table.
        program: makes the faulty loop of True, the fixed one of False.
        kinds: which of faults' kinds are right.
        layer: what the name of the layer at fault begins with; empty where it has none.
    """

    name: str
    program: Program
    kinds: tuple[str, ...]
    layer: str = ""


def batches(x: Tensor, y: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the data in another order; the last batch may be smaller."""
    for rows in torch.randperm(len(x)).split(size):
        yield x[rows], y[rows]


@torch.no_grad()
def score(model: nn.Module, x: Tensor, y: Tensor, *, logits: bool) -> float:
    """On the training data: accuracy of classes, or the share of the targets' variance that is explained."""
    output = model(x)
    if y.dtype == torch.long and output.dim() == y.dim() + 1:
        return (output.argmax(1) == y).double().mean().item()
    if output.shape == y.shape and y.dim() == 2 and y.shape[1] > 1 and bool((y.sum(1) == 1).all()):
        return (output.argmax(1) == y.argmax(1)).double().mean().item()
    output = output.sigmoid() if logits else output
    left = (output.reshape(y.shape) - y).double().square().mean()
    return 1.0 - (left / (y - y.double().mean(0)).square().mean()).item()


def mlp(*sizes: int, activation: type[nn.Module] = nn.ReLU, head: nn.Module | None = None) -> nn.Sequential:
    """Linear layers with an activation between two of them, and a module behind the last."""
    parts: list[nn.Module] = []
    for before, after in pairwise(sizes):
        parts += [nn.Linear(before, after), activation()]
    return nn.Sequential(*parts[:-1], *([head] if head is not None else []))


def cnn(channels: int, side: int, classes: int, *, head: nn.Module | None = None) -> nn.Sequential:
    """Two convolutions with pooling, and two linear layers."""
    flat = 16 * (side // 4) ** 2
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(flat, 32),
        nn.ReLU(),
        nn.Linear(32, classes),
        *([head] if head is not None else []),
    )


def sgd(model: nn.Module, lr: float = 0.01, momentum: float = 0.0) -> torch.optim.SGD:
    """Plain, as Keras' default is."""
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def adam(model: nn.Module, lr: float = 1e-3, eps: float = 1e-8) -> torch.optim.Adam:
    """With the customary rate."""
    return torch.optim.Adam(model.parameters(), lr=lr, eps=eps)


def filled(model: nn.Module, value: float) -> nn.Module:
    """All weights equal, biases too."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def normal(model: nn.Module, deviation: float) -> nn.Module:
    """All weights and biases from one normal distribution."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, deviation)
    return model
