"""Small loops of somebody else, healthy ones, to be watched."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from core import Watch
from core.diagnosis import Finding

Data = Iterator[tuple[Tensor, Tensor]]


def classes(steps: int, batch: int = 64, scale: float = 1.0, features: int = 8) -> Data:
    """Batches of three classes that a line separates, from a generator of their own."""
    random = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(batch, features, generator=random)
        yield scale * x, (x[:, 0] > 0.4).long() + (x[:, 1] > 0).long()


def classifier(*head: nn.Module, features: int = 8, outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(features, 32), nn.Tanh(), nn.Linear(32, outputs), *head)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: nn.Module,
    watch: Watch | None,
    data: Data,
    each: Callable[[int], None] = lambda step: None,
) -> None:
    """The loop that everybody writes."""
    for step, (x, y) in enumerate(data):
        each(step)
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    if watch is not None:
        watch.close()


def heard(watch: Watch) -> Callable[..., Tensor]:
    """Its loss, of a watch that was given one."""
    assert watch.loss is not None
    return watch.loss


def named(watch: Watch) -> dict[str, Finding]:
    """Findings by name."""
    return {finding.name: finding for finding in watch.findings}


def alarms(watch: Watch) -> set[str]:
    """Names of the findings that are more than a note."""
    return {finding.name for finding in watch.findings if finding.severity != "note"}
