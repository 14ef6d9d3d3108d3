"""What is around a CUDA graph, with a stand-in for CUDA's part; `test_cuda.py` has the graphs themselves."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from core.gradients import captured, recorded
from core.gradients.captured import Captured
from core.gradients.recorded import Reading


def stand_in(error: float = 0.0):
    """Repeats a call as a graph does: on the same arguments, into the same results."""

    def repeated(call: Callable[[], Sequence[Tensor]], device: torch.device):
        results = list(call())

        def replay() -> None:
            for mine, new in zip(results, call(), strict=True):
                mine.copy_(new + error)

        return replay, results

    return repeated


def product(w: Tensor, x: Tensor, scale: Tensor) -> list[Tensor]:
    return [scale * (w @ x), (w * scale).t(), x.sum()]


def nothing() -> None:
    pass


def test_each_call_has_its_own_arguments_and_keeps_its_own_results(monkeypatch):
    monkeypatch.setattr(captured, "repeated", stand_in())
    random = torch.Generator().manual_seed(0)
    w, *batches = (torch.randn(3, 3, generator=random, dtype=torch.float64) for _ in range(4))
    scales = [torch.tensor(s, dtype=torch.float64) for s in (1.0, -2.0, torch.nan)]
    run = Captured(product, [w, batches[0], scales[0]], range(1, 3), nothing)
    found = []
    for x, scale in zip(batches, scales, strict=True):
        w += 1.0  # in place, as an optimizer does: seen
        found.append((run(w, x, scale), product(w, x, scale)))
    for results, expected in found:
        for a, b in zip(results, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
            assert a.stride() == b.stride()


def test_a_parameter_that_has_other_memory_is_read_from_there(monkeypatch):
    monkeypatch.setattr(captured, "repeated", stand_in())
    w, x, scale = torch.eye(2), torch.ones(2, 2), torch.tensor(1.0)
    run = Captured(product, [w, x, scale], range(1, 3), nothing)
    w.data = 5 * torch.eye(2)
    assert torch.equal(run(w, x, scale)[0], 5 * x)


def test_a_graph_that_gives_other_numbers_is_none(monkeypatch):
    monkeypatch.setattr(captured, "repeated", stand_in(error=1e-3))
    with pytest.raises(ValueError, match="its CUDA graph gives other numbers"):
        Captured(product, [torch.eye(2), torch.ones(2, 2), torch.tensor(1.0)], range(1, 3), nothing)


def test_what_a_call_changes_is_put_back_before_the_graph_is_compared(monkeypatch):
    monkeypatch.setattr(captured, "repeated", stand_in())
    count, reading = torch.zeros(()), Reading([])
    with reading:
        torch.neg(count)

    def counting(w: Tensor, x: Tensor) -> list[Tensor]:
        return [count.add_(1) * (w + x)]

    w, x = torch.ones(2), torch.ones(2)
    run = Captured(counting, [w, x], range(1, 2), reading.put_back)
    assert torch.equal(run(w, x)[0], 2 * torch.full((2,), 2.0))  # the second since it was put back


def test_an_argument_elsewhere_is_refused():
    elsewhere = torch.ones(4, 2, device="meta")
    with pytest.raises(ValueError, match=r"a tensor of shape \(4, 2\) is on meta"):
        Captured(product, [torch.eye(2), elsewhere], range(1, 2), nothing)


def test_what_cuda_cannot_capture_runs_without_which_is_said(monkeypatch):
    def refused(call, device):
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")

    monkeypatch.setattr(captured, "repeated", refused)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: None)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    said = []
    arguments = [torch.eye(2), torch.ones(2, 2), torch.tensor(2.0)]
    run = recorded._as_cuda_graph(product, arguments, range(1, 3), Reading([]), said.append)
    assert run is product
    assert said == ["runs without a CUDA graph: operation not permitted when stream is capturing"]
