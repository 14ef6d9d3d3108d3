"""Every number of the monitor against its definition in float64."""

import pytest
import torch
from torch import nn

from core.gradients import GlobalNorm, GradientStep, MonitorConfig
from core.gradients.monitor import RING


def run(steps: int, sample_interval: int = 5, max_norm: float = 0.5, drain_every: int = 10**9):
    """Train a little and return what the monitor says beside float64 records of every step."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    clipper = GlobalNorm(max_norm=max_norm)
    step = GradientStep(net, optimizer, [clipper], monitor=MonitorConfig(sample_interval=sample_interval))
    generator = torch.Generator().manual_seed(1)
    records = []
    for i in range(steps):
        x = torch.randn(8, 3, generator=generator)
        weights = [p.detach().double().clone() for p in net.parameters()]
        raw = torch.autograd.grad(net(x).square().mean(), list(net.parameters()))
        step(lambda x=x: (net(x).square().mean(), {}))
        records.append(
            {
                "gradient": [g.double() for g in raw],
                "weight": weights,
                "update": [p.detach().double() - w for p, w in zip(net.parameters(), weights, strict=True)],
            }
        )
        if (i + 1) % drain_every == 0:
            step.monitor.drain()
    return step, records


def joint(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([t.flatten() for t in tensors])


@pytest.mark.parametrize("steps", [7, RING + 3])
def test_norms_before_and_after_clipping_are_means_over_the_window(steps):
    step, records = run(steps)
    tags = step.monitor.drain()
    norms = torch.stack([joint(r["gradient"]).norm() for r in records])
    assert tags["gradient/norm"] == pytest.approx(norms.mean().item(), rel=1e-5)
    assert tags["gradient/norm_clipped"] == pytest.approx(norms.clamp(max=0.5).mean().item(), rel=1e-5)
    assert tags["gradient/clipped"] == pytest.approx((norms > 0.5).double().mean().item())
    first = torch.stack([r["gradient"][0].norm() for r in records]).mean().item()
    assert tags["layer/0.weight/gradient_norm"] == pytest.approx(first, rel=1e-5)


def test_the_cosine_is_between_consecutive_gradients():
    step, records = run(12)
    expected = [
        torch.dot(joint(records[t]["gradient"]), joint(records[t - 1]["gradient"]))
        / (joint(records[t]["gradient"]).norm() * joint(records[t - 1]["gradient"]).norm())
        for t in (5, 10)  # sample_interval 5: the pairs (4, 5) and (9, 10)
    ]
    assert step.monitor.drain()["gradient/cosine"] == pytest.approx(
        torch.stack(expected).mean().item(), rel=1e-5
    )


def test_the_update_ratio_is_what_the_parameters_really_moved():
    step, records = run(12)
    sampled = [records[t] for t in (4, 9)]
    tags = step.monitor.drain()
    ratio = (
        torch.stack([joint(r["update"]).norm() / joint(r["weight"]).norm() for r in sampled]).mean().item()
    )
    assert tags["gradient/update_ratio"] == pytest.approx(ratio, rel=1e-4)
    layer = torch.stack([r["update"][2].norm() / r["weight"][2].norm() for r in sampled]).mean().item()
    assert tags["layer/2.weight/update_ratio"] == pytest.approx(layer, rel=1e-4)


def test_a_window_holds_only_what_came_since_the_last_one():
    step, records = run(13, drain_every=10)
    norms = torch.stack([joint(r["gradient"]).norm() for r in records[10:]])
    assert step.monitor.drain()["gradient/norm"] == pytest.approx(norms.mean().item(), rel=1e-5)
    assert step.monitor.drain() == {}


def test_a_named_step_puts_its_name_in_front_of_every_tag():
    net = nn.Linear(2, 1)
    step = GradientStep(net, torch.optim.SGD(net.parameters(), lr=0.1), name="generator")
    step(lambda: (net(torch.ones(1, 2)).sum(), {}))
    assert all(tag.startswith("generator/") for tag in step.monitor.drain())


@pytest.mark.parametrize("bad", [{"sample_interval": 1}, {"max_layer_scalars": -1}])
def test_intervals_out_of_range_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        MonitorConfig(**bad)
