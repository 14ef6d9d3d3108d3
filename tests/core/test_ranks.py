"""Several ranks on gloo: every one ends with the gradient of the whole batch."""

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from core.gradients import GlobalNorm, GradientStep


def data(ranks: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8 * ranks, 3, generator=generator), torch.randn(8 * ranks, 1, generator=generator)


def train(chunk: tuple[torch.Tensor, torch.Tensor]) -> tuple[list[torch.Tensor], dict[str, float]]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    step = GradientStep(net, torch.optim.SGD(net.parameters(), lr=0.1), [GlobalNorm(max_norm=0.3)])
    for _ in range(3):
        step(lambda: ((net(chunk[0]) - chunk[1]).square().mean(), {}))
    return [p.detach() for p in net.parameters()], step.monitor.drain()


def worker(rank: int, ranks: int, store: str, results) -> None:
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=ranks)
    x, y = data(ranks)
    parameters, tags = train((x.chunk(ranks)[rank], y.chunk(ranks)[rank]))
    results[rank] = ([p.tolist() for p in parameters], tags["gradient/norm"])
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_take_the_step_of_the_whole_batch(tmp_path):
    whole, tags = train(data(2))
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(worker, (2, str(tmp_path / "store"), results), nprocs=2)
        for rank in range(2):
            parameters, norm = results[rank]
            assert norm == pytest.approx(tags["gradient/norm"], rel=1e-6)
            for ours, expected in zip(parameters, whole, strict=True):
                torch.testing.assert_close(torch.tensor(ours), expected, rtol=1e-6, atol=1e-7)
