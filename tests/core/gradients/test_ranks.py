"""Several ranks on gloo: every one ends with the gradient of the whole batch."""

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from core.gradients import GlobalNorm, GradientStep, MonitorConfig, global_norm


def data(ranks: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8 * ranks, 3, generator=generator), torch.randn(8 * ranks, 1, generator=generator)


def train(chunk: tuple[torch.Tensor, torch.Tensor]) -> tuple[list[torch.Tensor], dict[str, float]]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    step = GradientStep(net, torch.optim.SGD(net.parameters(), lr=0.1), [GlobalNorm(max_norm=0.3)])
    for _ in range(3):
        step(lambda: ((net(chunk[0]) - chunk[1]).square().mean(), {}), samples=len(chunk[0]))
    return [p.detach() for p in net.parameters()], step.monitor.drain()


def noise(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> list[float]:
    """The averaged estimates after steps that do not move, each batch a micro-batch of every step."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    monitor = MonitorConfig(sample_interval=2)
    step = GradientStep(net, torch.optim.SGD(net.parameters(), lr=0.0), monitor=monitor)
    closures = [lambda x=x, y=y: ((net(x) - y).square().mean(), {}) for x, y in batches]
    for _ in range(4):
        step(*closures, samples=sum(len(x) for x, _ in batches))
    return [x.item() for x in step.noise_scale.noise]


def halves(chunk: tuple[torch.Tensor, torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [*zip(chunk[0].chunk(2), chunk[1].chunk(2), strict=True)]


def worker(rank: int, ranks: int, store: str, results) -> None:
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=ranks)
    x, y = data(4)
    chunk = x.chunk(ranks)[rank], y.chunk(ranks)[rank]
    parameters, tags = train(chunk)
    shards = [s.chunk(ranks)[rank] for s in (torch.arange(8.0), torch.full((40_000,), 3.0))]
    results[rank] = {
        "parameters": [p.tolist() for p in parameters],
        "norm": tags["gradient/norm"],
        "sharded": global_norm(shards, torch.distributed.group.WORLD).item(),
        "noise": noise([chunk]),
        "noise_of_halves": noise(halves(chunk)),
    }
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_take_the_step_and_give_the_numbers_of_the_whole_batch(tmp_path, ranks):
    whole, tags = train(data(4))
    x, y = data(4)
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(worker, (ranks, str(tmp_path / "store"), results), nprocs=ranks)
        for result in results.values():
            assert result["norm"] == pytest.approx(tags["gradient/norm"], rel=1e-6)
            assert result["sharded"] == pytest.approx((140.0 + 360_000.0) ** 0.5, rel=1e-6)
            # Ranks are parts of the batch exactly as micro-batches are.
            parts = [*zip(x.chunk(ranks), y.chunk(ranks), strict=True)]
            assert result["noise"] == pytest.approx(noise(parts), rel=1e-5)
            parts = [*zip(x.chunk(2 * ranks), y.chunk(2 * ranks), strict=True)]
            assert result["noise_of_halves"] == pytest.approx(noise(parts), rel=1e-5)
            for ours, expected in zip(result["parameters"], whole, strict=True):
                torch.testing.assert_close(torch.tensor(ours), expected, rtol=1e-6, atol=1e-7)
