"""Work on several ranks of one machine, for tests: every one is a process of its own that talks by gloo."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp


def on_ranks(work: Callable[..., Any], ranks: int, *arguments: object) -> list[Any]:
    """What `work(*arguments)`, a function of a module, returns on each of the ranks."""
    with tempfile.TemporaryDirectory() as folder, mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(_rank, (ranks, str(Path(folder) / "store"), results, work, arguments), nprocs=ranks)
        return [results[rank] for rank in range(ranks)]


def _rank(rank: int, ranks: int, store: str, results: Any, work: Callable[..., Any], arguments: Any) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=ranks)
    results[rank] = work(*arguments)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
