"""What a step of several ranks decides from all: metrics, a line search, surgery, a skipped step."""

from typing import Any

import pytest
import torch
from torch import nn

from core.gradients import GradientStep, PCGrad
from core.gradients.ranks import alone, batch_mean, batch_std, num_ranks, own, whole
from tests.ranks import on_ranks


def data() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(8, n, dtype=torch.float64, generator=generator) for n in (3, 2)]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def trained(kind: str) -> dict[str, Any]:
    """Parameters after three steps on this rank's rows, and the metrics of the last."""
    x, y = (own(rows) for rows in data())
    net = network()
    lbfgs = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=4, line_search_fn="strong_wolfe")
    optimizer = lbfgs if kind == "line search" else torch.optim.SGD(net.parameters(), lr=0.3)
    step = GradientStep(net, optimizer, [PCGrad(seed=0)] if kind == "surgery" else [])

    def closure():
        error = (net(x) - y).square().mean(0)
        poison = float("nan") if kind == "lost" and num_ranks() > 1 and rank() == 1 else 1.0
        losses = {"first": error[0] * poison, "second": -3 * error[1]}
        return losses if kind != "line search" else error.sum(), {"error": error.detach().sum()}

    for _ in range(3):
        metrics = step(closure)
    return {
        "parameters": [p.tolist() for p in net.parameters()],
        "metrics": metrics["error"].item(),
        "skipped": step.monitor.drain().get("gradient/skipped", 0.0),
    }


def rank() -> int:
    return torch.distributed.get_rank()


def all_of_them() -> dict[str, Any]:
    kinds: dict[str, Any] = {kind: trained(kind) for kind in ("plain", "surgery", "line search", "lost")}
    x, _ = data()
    kinds["whole"] = whole(3)
    kinds["moments"] = [batch_mean(own(x)).item(), batch_std(own(x)).item()]
    with alone():
        kinds["alone"] = [num_ranks(), len(own(x)), batch_mean(x).item()]
    return kinds


@pytest.mark.slow
def test_ranks_decide_as_the_whole_batch_would():
    one = {kind: trained(kind) for kind in ("plain", "surgery", "line search")}
    x, _ = data()
    for found in on_ranks(all_of_them, 2):
        for kind, expected in one.items():
            assert found[kind]["metrics"] == pytest.approx(expected["metrics"], rel=1e-9), kind
            for ours, theirs in zip(found[kind]["parameters"], expected["parameters"], strict=True):
                torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=0, atol=1e-6)
        assert found["lost"]["skipped"] == 1.0
        unmoved = [p.tolist() for p in network().parameters()]
        assert found["lost"]["parameters"] == unmoved
        assert found["whole"] == 6
        assert found["moments"] == pytest.approx([x.mean().item(), x.std().item()], rel=1e-12)
        assert found["alone"] == [1, 8, x.mean().item()]


def test_rows_that_cannot_be_divided_are_refused(monkeypatch):
    monkeypatch.setattr("core.gradients.ranks.num_ranks", lambda: 3)
    with pytest.raises(ValueError, match=r"8 rows cannot be divided evenly among 3 ranks"):
        own(torch.zeros(8))
