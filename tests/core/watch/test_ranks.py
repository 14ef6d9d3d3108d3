"""Two ranks of `DistributedDataParallel`: the first one watches, and neither changes."""

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from core import Watch
from core.run.tensorboard import read_scalars
from tests.core.watch.loops import classes, classifier, train


def parameters(rank: int, ranks: int, directory: Path | None) -> list[list[float]]:
    inner = classifier()
    model = nn.parallel.DistributedDataParallel(inner) if ranks > 1 else inner
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = nn.CrossEntropyLoss()
    watch = None if directory is None else Watch(model, optimizer, loss=loss, directory=directory)
    data = ((x.chunk(ranks)[rank], y.chunk(ranks)[rank]) for x, y in classes(30))
    train(model, optimizer, loss, watch, data)
    if watch is not None and rank == 0:
        assert watch._players[0].batch == 64
    return [p.tolist() for p in inner.parameters()]


def worker(rank: int, store: str, directory: str, results) -> None:
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    plain = parameters(rank, 2, None)
    watched = parameters(rank, 2, Path(directory))
    results[rank] = plain == watched
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_the_first_rank_writes_what_one_process_would(tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(worker, (str(tmp_path / "store"), str(tmp_path / "two"), results), nprocs=2)
        assert dict(results) == {0: True, 1: True}
    assert len(list((tmp_path / "two").glob("events.*"))) == 1
    parameters(0, 1, tmp_path / "one")
    two, one = (read_scalars(tmp_path / name) for name in ("two", "one"))
    for tag in ("gradient/norm", "layer/0.weight/gradient_norm", "gradient/cosine"):
        assert list(two[tag].values()) == pytest.approx(list(one[tag].values()), rel=1e-4, abs=1e-5)
