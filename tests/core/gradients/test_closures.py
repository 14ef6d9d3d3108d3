"""What a GradientStep refuses, in one line each, and what it takes after a second look."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from core.gradients import AGC, Centralize, GlobalNorm, GradientStep, Objective, PCGrad, SkipNonFinite, Value
from core.gradients.unit_health import term_shares
from core.noise import noise_statistics, per_sample_gradients, per_sample_norms
from core.noise.per_sample import gradients_or_zeros

ONE = torch.ones(1, 2)


def sgd(net: nn.Module) -> GradientStep:
    return GradientStep(net, torch.optim.SGD(net.parameters(), lr=0.1))


def rosenbrock(x: torch.Tensor) -> torch.Tensor:
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def lbfgs(
    *transforms: object, line_search_fn: str | None = "strong_wolfe"
) -> tuple[nn.Parameter, GradientStep]:
    x = nn.Parameter(torch.tensor([-1.5, 2.0], dtype=torch.float64))
    return x, GradientStep([("x", x)], torch.optim.LBFGS([x], line_search_fn=line_search_fn), transforms)


@pytest.mark.parametrize("transform", [GlobalNorm(max_norm=1.0), Value(max_value=0.1), PCGrad()])
def test_a_line_search_refuses_gradients_that_are_not_those_of_its_loss(transform):
    name = type(transform).__name__
    with pytest.raises(
        ValueError, match=rf"^clipper: {name} would change .* line search of LBFGS .*clipper=none"
    ):
        lbfgs(SkipNonFinite(), transform)
    lbfgs(transform, line_search_fn=None)


def test_a_line_search_takes_a_guard_that_leaves_the_gradient_alone():
    (bare, plain), (watched, guarded) = lbfgs(), lbfgs(SkipNonFinite())
    for x, step in ((bare, plain), (watched, guarded)):
        for _ in range(5):
            step(lambda x=x: (rosenbrock(x), {}))
    assert rosenbrock(bare).item() < 1e-8
    assert torch.equal(bare, watched)


@pytest.mark.parametrize(("samples", "closures"), [(7, 2), (8, 3), (1, 2), (0, 1)])
def test_samples_must_be_those_of_equal_micro_batches(samples, closures):
    net = nn.Linear(2, 1)
    before = copy.deepcopy(net.state_dict())
    parts = [lambda: (net(ONE).sum(), {})] * closures
    with pytest.raises(ValueError, match=rf"^samples must be .* multiple of {closures}, got {samples}$"):
        sgd(net)(*parts, samples=samples)
    with pytest.raises(ValueError, match="at least one closure"):
        sgd(net)(samples=samples)
    assert all(torch.equal(a, before[name]) for name, a in net.state_dict().items())


def test_a_parameter_frozen_after_the_step_was_built_is_named():
    net = nn.Linear(2, 1)
    step = sgd(net)
    net.bias.requires_grad_(False)
    with pytest.raises(ValueError, match=r"requires_grad of bias was set to False after"):
        step(lambda: (net(ONE).sum(), {}))
    net.bias.requires_grad_(True)
    step(lambda: (net(ONE).sum(), {}))


@pytest.mark.parametrize("held", [True, False])
def test_a_parameter_unfrozen_or_added_after_the_step_was_built_is_refused_or_trained_by_another_step(held):
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[0].requires_grad_(False)
    optimizer = torch.optim.SGD((net if held else net[1]).parameters(), lr=0.1)
    step = GradientStep(net, optimizer)
    step(lambda: (net(ONE).sum(), {}))
    net[0].requires_grad_(True)
    if not held:
        step(lambda: (net(ONE).sum(), {}))  # the optimizer does not know of it
        optimizer.add_param_group({"params": list(net[0].parameters()), "lr": 0.02})
    with pytest.raises(ValueError, match=r"2 of the optimizer's parameters were unfrozen or added after"):
        step(lambda: (net(ONE).sum(), {}))
    step.set_lr_scale(0.5)
    step.set_lr_scale(0.5)
    assert [g["lr"] for g in optimizer.param_groups] == ([0.05] if held else [0.05, 0.01])
    before, outer = net[0].bias.detach().clone(), net[1].weight.detach().clone()
    GradientStep(net, optimizer)(lambda: (net(ONE).sum(), {}))
    torch.testing.assert_close(before - net[0].bias, optimizer.param_groups[-1]["lr"] * outer[0])


def test_layers_in_a_reentrant_checkpoint_are_refused_where_they_would_get_no_gradient():
    net = nn.ModuleDict({"inner": nn.Linear(2, 2), "outer": nn.Linear(2, 1)})
    x = torch.ones(3, 2, requires_grad=True)

    def loss(reentrant: bool) -> torch.Tensor:
        hidden = checkpoint(lambda t: net["inner"](t).sin(), x, use_reentrant=reentrant)
        return net["outer"](hidden).square().mean()

    objective = Objective(net, lambda forward, x: loss(True), (x,))
    step = sgd(net)
    step(lambda: (net["outer"](net["inner"](x).sin()).square().mean(), {}))
    for takes in (
        lambda: step(lambda: (loss(True), {})),  # switched on in the middle of training
        lambda: gradients_or_zeros(objective, loss(True)),
        lambda: term_shares({"a": loss(True), "b": loss(True)}, objective.parameters),
    ):
        with pytest.raises(ValueError, match="use_reentrant=False"):
            takes()
    wanted = torch.autograd.grad(net["outer"](net["inner"](x).sin()).square().mean(), net["inner"].weight)
    step(lambda: (loss(False), {}))
    torch.testing.assert_close(net["inner"].weight.grad, wanted[0])


@pytest.mark.parametrize("make", [lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1, fused=True),
                                  lambda p: torch.optim.LBFGS(p)], ids=["adam", "lbfgs"])  # fmt: skip
def test_an_optimizer_may_hold_frozen_parameters_and_leaves_them_where_they_are(make):
    def train(held: Callable[[nn.Module], object]) -> nn.Module:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        net(ONE).sum().backward()  # leaves a gradient behind on what is frozen next
        net[0].requires_grad_(False)
        step = GradientStep(net, make(held(net)))
        assert step.names == ["2.weight", "2.bias"]
        for _ in range(3):
            step(lambda: ((net(ONE) - 1).square().sum(), {}))
        return net

    whole = train(lambda net: net.parameters())
    trained = train(lambda net: [p for p in net.parameters() if p.requires_grad])
    torch.manual_seed(0)
    assert torch.equal(whole[0].weight, nn.Linear(2, 3).weight)
    for a, b in zip(whole.parameters(), trained.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0)


def test_complex_parameters_are_refused_by_name():
    net = nn.Linear(2, 1, dtype=torch.complex64)
    with pytest.raises(
        ValueError, match="GradientStep takes only real parameters, and weight, bias is complex"
    ):
        sgd(net)
    objective = Objective(net, lambda f, x: f(x).abs().mean(), (ONE.expand(3, 2).to(torch.complex64),))
    for measure in (per_sample_gradients, per_sample_norms, noise_statistics):
        with pytest.raises(ValueError, match="per-sample gradients takes only real parameters"):
            measure(objective)


@pytest.mark.parametrize(
    ("returned", "what"),
    [
        (lambda loss: loss, "Tensor"),
        (lambda loss: (loss,), r"\(Tensor\)"),
        (lambda loss: (loss, None), r"\(Tensor, NoneType\)"),
        (lambda loss: torch.stack([loss, loss]), "Tensor"),
        (lambda loss: {"loss": loss, "metrics": {}}, "dict"),
    ],
)
def test_a_closure_without_metrics_is_told_what_to_return(returned, what):
    net = nn.Linear(2, 1)
    with pytest.raises(ValueError, match=rf"must return \(loss, metrics\), .* got {what}$"):
        sgd(net)(lambda: returned(net(ONE).sum()))


def test_closures_of_one_step_must_agree_on_their_metrics():
    net = nn.Linear(2, 1)
    one = torch.tensor(1.0)
    first, second = (
        (lambda: (net(ONE).sum(), {"a": one, "b": one})),
        (lambda: (net(ONE).sum(), {"a": one, "c": one})),
    )
    with pytest.raises(ValueError, match=r"must return the same metrics; only some have b, c$"):
        sgd(net)(first, second)


class Scattered(torch.autograd.Function):
    """Sum of a matrix, with a gradient that is sparse within its rows."""

    @staticmethod
    def forward(ctx, weight: torch.Tensor) -> torch.Tensor:
        """Their sum."""
        return weight.sum()

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        """Of two elements alone."""
        return torch.sparse_coo_tensor([[0, 1], [1, 2]], torch.ones(2), (4, 3), check_invariants=True)


@pytest.mark.parametrize("transform", [AGC(), Centralize()])
def test_a_gradient_sparse_within_its_rows_is_refused_by_what_works_on_rows(transform):
    p = nn.Parameter(torch.ones(4, 3))
    step = GradientStep([("p", p)], torch.optim.SGD([p], lr=0.1), [transform])
    with pytest.raises(ValueError, match="the gradient of p is sparse in 2 dimensions"):
        step(lambda: (Scattered.apply(p), {}))
    assert torch.equal(p, torch.ones(4, 3))
