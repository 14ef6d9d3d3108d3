"""The rows of a rollout that each of several ranks collects, and those that it learns from.

Every rank steps its own environments and then holds the rollout of all of them, in the order of one process.
So values, advantages, running statistics, minibatches and everything that is decided from them are computed
by each rank alike; only the gradient of a minibatch is divided, each rank taking every R-th row.
"""

import operator
from collections.abc import Callable, Sequence, Sized
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from core.gradients import Metrics
from core.gradients.ranks import gathered, num_ranks, patient_group, this_rank
from gradrl.experience.rollout import Batch

Losses = tuple[dict[str, torch.Tensor], Metrics]


def divided() -> tuple[Callable[[Callable[[Batch], Losses], Batch], Losses], Callable[[Batch], int]]:
    """The loss of this rank's rows of a batch, and their number; of one rank, just loss and length."""
    return (own_loss, own_count) if num_ranks() > 1 else (cast(Any, operator.call), len)


def own_loss(loss: Callable[[Batch], Losses], batch: Batch) -> Losses:
    """The loss of a batch; of several ranks, of this one's rows: the mean over the ranks is that of all.

    Args:
        loss: its terms and metrics are means over the rows.
        batch: the same on every rank, with as many rows as there are ranks, at least.
    """
    ranks = num_ranks()
    rows = batch.rows(slice(this_rank(), None, ranks))
    weight = len(rows) * ranks / len(batch)  # 1 where the rows can be divided evenly
    terms, metrics = loss(rows)
    return {k: weight * v for k, v in terms.items()}, {k: weight * v for k, v in metrics.items()}


def own_count(batch: Sized) -> int:
    """How many rows of a batch each rank learns from, on average."""
    return max(1, len(batch) // num_ranks())


def own_envs(num_envs: int) -> slice:
    """Which of the environments of all ranks, `num_envs`, are this one's: as many as each other rank's."""
    count = num_envs // num_ranks()
    return slice(this_rank() * count, (this_rank() + 1) * count)


def dealt_envs() -> slice:
    """Which of any number of environments are this rank's: every R-th."""
    return slice(this_rank(), None, num_ranks())


def share_columns(arrays: Sequence[NDArray[Any]], envs: slice) -> None:
    """Fill in what the other ranks' environments did: arrays [T, N, ...], of which `envs` are this rank's."""
    if num_ranks() == 1:
        return
    for rank, parts in enumerate(gathered([array[:, envs] for array in arrays])):
        count = envs.stop - envs.start
        for array, part in zip(arrays, parts, strict=True):
            array[:, rank * count : (rank + 1) * count] = part


class OwnDraws:
    """A generator of the whole: every rank draws for the environments of all, and gets those of its own.

    Args:
        generator: with the same state on every rank.
        num_envs: of all ranks.
        own: which of them are this rank's.
    """

    def __init__(self, generator: np.random.Generator, num_envs: int, own: slice) -> None:
        self.generator, self.num_envs, self.own = generator, num_envs, own

    def gumbel(self, *, size: tuple[int, ...]) -> NDArray[np.float64]:
        """As NumPy's; the first dimension counts environments."""
        return self.generator.gumbel(size=(self.num_envs, *size[1:]))[self.own]

    def integers(self, high: int, *, size: int) -> NDArray[np.int64]:
        """As NumPy's, one number for each environment."""
        return self.generator.integers(high, size=self.num_envs)[self.own]

    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> NDArray[np.float64]:
        """As NumPy's; the first dimension counts environments."""
        return self.generator.uniform(low, high, (self.num_envs, *size[1:]))[self.own]

    def logistic(self, *, size: tuple[int, ...]) -> NDArray[np.float64]:
        """As NumPy's; the first dimension counts environments."""
        return self.generator.logistic(size=(self.num_envs, *size[1:]))[self.own]

    def standard_normal(self, size: tuple[int, ...], dtype: Any = np.float64) -> NDArray[Any]:
        """As NumPy's; the first dimension counts environments."""
        return self.generator.standard_normal((self.num_envs, *size[1:]), dtype=dtype)[self.own]


def shared_list(own: list[Any]) -> list[Any]:
    """One list of all ranks', in their order."""
    return own if num_ranks() == 1 else [each for part in gathered(own) for each in part]


def shared_dict(own: dict[int, Any]) -> dict[int, Any]:
    """One dictionary of all ranks', in the order of its keys."""
    return own if num_ranks() == 1 else dict(sorted(shared_list([*own.items()])))


def shared_late(own: list[Any]) -> list[Any]:
    """What all ranks have of environments that were dealt to them; some may be much later than others."""
    if num_ranks() == 1:
        return own
    parts = gathered(own, patient_group())
    return [parts[n % len(parts)][n // len(parts)] for n in range(sum(map(len, parts)))]


def own_draws(generator: np.random.Generator, num_envs: int, own: slice) -> np.random.Generator:
    """What an actor draws from: the generator itself; over several ranks, see `OwnDraws`."""
    drawing: Any = generator if num_ranks() == 1 else OwnDraws(generator, num_envs, own)
    return drawing
