"""SAM against its formula, and what it leaves behind when the second gradient fails."""

import copy
import io

import pytest
import torch
from torch import nn

from core.config import Component
from core.gradients import GlobalNorm, GradientStep
from core.optim.factory import build_optimizer
from core.optim.sam import SAM, SAMConfig

CURVATURE = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)


def sam(rho: float = 0.3, adaptive: bool = False, **options: object) -> SAMConfig:
    base = Component(torch.optim.SGD, options, "optimizer.base")
    return SAMConfig(lr=0.1, rho=rho, adaptive=adaptive, base=base)


def quadratic() -> tuple[list[tuple[str, nn.Parameter]], torch.Tensor]:
    """A point of 0.5 sum a w^2 + sum w^4 in two tensors, and the same point in one."""
    w = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    return [("a", nn.Parameter(w[:1].clone())), ("b", nn.Parameter(w[1:].clone()))], w


def loss_at(w: torch.Tensor) -> torch.Tensor:
    return 0.5 * (CURVATURE * w.square()).sum() + w.pow(4).sum()


def gradient_at(w: torch.Tensor) -> torch.Tensor:
    return CURVATURE * w + 4 * w.pow(3)


def loss_of(named: list[tuple[str, nn.Parameter]]) -> torch.Tensor:
    return loss_at(torch.cat([p for _, p in named]))


def make(adaptive: bool = False, rho: float = 0.3, **options: object):
    named, w = quadratic()
    optimizer = SAM(sam(rho, adaptive, **options), named)
    return named, w, GradientStep(named, optimizer)


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_step_uses_the_gradient_at_the_top_of_the_neighbourhood(adaptive):
    named, w, step = make(adaptive)
    step(lambda: (loss_of(named), {}))
    g = gradient_at(w)
    t = w.abs() + 0.01 if adaptive else torch.ones_like(w)
    e = 0.3 * t.square() * g / (t * g).norm()
    torch.testing.assert_close(
        torch.cat([p for _, p in named]), w - 0.1 * gradient_at(w + e), rtol=1e-12, atol=0
    )


def test_a_first_order_loss_and_a_zero_gradient_make_it_the_base_optimizer():
    p = nn.Parameter(torch.tensor([1.0, 2.0]))
    step = GradientStep([("p", p)], SAM(sam(0.05), [("p", p)]))
    step(lambda: ((3 * p).sum(), {}))
    assert torch.equal(p, torch.tensor([0.7, 1.7]))
    step(lambda: ((0 * p).sum(), {}))
    assert torch.equal(p, torch.tensor([0.7, 1.7]))


@pytest.mark.parametrize("failure", [RuntimeError("no"), KeyboardInterrupt()])
def test_the_parameters_are_back_to_the_bit_when_the_closure_raises(failure):
    torch.manual_seed(0)
    model = nn.Linear(50, 40)
    optimizer = SAM(sam(0.7, adaptive=True), model.named_parameters())
    before = copy.deepcopy(model)
    model(torch.randn(8, 50)).square().mean().backward()

    def closure() -> float:
        assert not torch.equal(model.weight, before.weight)
        raise failure

    with pytest.raises(type(failure)):
        optimizer.step(closure)
    assert torch.equal(model.weight, before.weight)
    assert torch.equal(model.bias, before.bias)


def test_a_second_gradient_that_is_not_finite_moves_nothing():
    p = nn.Parameter(torch.tensor([1.0]))
    step = GradientStep([("p", p)], SAM(sam(0.05), [("p", p)]))
    calls = iter([1.0, float("nan")])
    step(lambda: ((p * next(calls)).sum(), {}))
    assert p.item() == 1.0
    step(lambda: (p.sum(), {}))
    assert p.item() == pytest.approx(0.9)


def test_a_sparse_embedding_takes_the_step_of_a_dense_one():
    rows = []
    for sparse in (True, False):
        torch.manual_seed(0)
        net = nn.Embedding(5, 3, sparse=sparse)
        step = GradientStep(net, SAM(sam(), net.named_parameters()))
        step(lambda net=net: (net(torch.tensor([1, 3, 1])).pow(4).sum(), {}))
        rows.append(net.weight.detach())
    torch.testing.assert_close(*rows, rtol=1e-6, atol=1e-7)
    torch.manual_seed(0)
    begin = nn.Embedding(5, 3).weight
    assert [torch.equal(a, b) for a, b in zip(rows[0], begin, strict=True)] == [
        True,
        False,
        True,
        False,
        True,
    ]


def test_both_gradients_are_transformed():
    named, w, _ = make()
    optimizer = SAM(sam(), named)
    GradientStep(named, optimizer, [GlobalNorm(max_norm=1.0)])(lambda: (loss_of(named), {}))
    g = gradient_at(w + 0.3 * gradient_at(w) / gradient_at(w).norm())
    torch.testing.assert_close(torch.cat([p for _, p in named]), w - 0.1 * g / g.norm(), rtol=1e-6, atol=0)


def test_a_saved_state_holds_the_base_optimizers_and_the_schedule_still_reaches_it():
    first_named, _, first = make(momentum=0.9)
    for _ in range(3):
        first(lambda: (loss_of(first_named), {}))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second_named, _, second = make(momentum=0.9)
    second.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        for (_, a), (_, b) in zip(second_named, first_named, strict=True):
            a.copy_(b)
    for step, named in ((first, first_named), (second, second_named)):
        step.set_lr_scale(0.25)
        assert step.optimizer.base.param_groups[0]["lr"] == 0.025
        step(lambda named=named: (loss_of(named), {}))
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first_named, second_named, strict=True))


def test_its_rate_can_be_replaced_and_a_radius_of_zero_is_refused():
    named, _ = quadratic()
    optimizer = build_optimizer(Component(SAM, sam(), "optimizer"), named, lr=0.5)
    assert optimizer.param_groups[0]["lr"] == 0.5
    with pytest.raises(ValueError, match=r"rho must be a finite number > 0, got 0.0"):
        sam(0.0)
