"""Second derivatives of kernels that torch differentiates wrongly, against differences of the gradient."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from core.curvature import Hessian, twice_differentiable
from core.gradients import Objective

NORMS = {
    "layer": lambda: nn.LayerNorm(8),
    "layer without gain": lambda: nn.LayerNorm(8, elementwise_affine=False),
    "batch": lambda: nn.BatchNorm1d(8),
    "batch in evaluation": lambda: nn.BatchNorm1d(8).eval(),
    "group": lambda: nn.GroupNorm(2, 8),
    "root mean square": lambda: nn.RMSNorm(8),
    "none": nn.Identity,
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def penalised(forward, x: Tensor) -> Tensor:
    """A critic's loss with a penalty on its input gradients."""
    x = x.detach().requires_grad_()
    out = forward(x)
    (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    return nn.functional.softplus(-out).mean() + 0.5 * slope.square().flatten(1).sum(1).mean()


def squared(forward, x: Tensor) -> Tensor:
    return (forward(x).flatten(1) - x.flatten(1)[:, :1]).square().mean()


def error(objective: Objective) -> float:
    """|H v - (g(w + e v) - g(w - e v)) / 2 e| / |H v|, to about 1e-9 in float64."""
    parameters = objective.parameters
    with twice_differentiable(objective.module):
        hessian = Hessian(objective(), parameters)
    v = normal(hessian.size, seed=3)
    found = hessian(v)

    def gradient_at(e: float) -> Tensor:
        pieces = (e * v).split([p.numel() for p in parameters])
        moved = {
            name: (p + d.view_as(p)).detach().requires_grad_()
            for name, p, d in zip(objective.names, parameters, pieces, strict=True)
        }
        gradients = torch.autograd.grad(
            objective(moved), [*moved.values()], allow_unused=True, materialize_grads=True
        )
        return torch.cat([g.flatten() for g in gradients])

    wanted = (gradient_at(1e-6) - gradient_at(-1e-6)) / 2e-6
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", [squared, penalised])
def test_norms_have_the_right_hessian_under_a_gradient_penalty_too(norm, loss):
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(6, 8), NORMS[norm](), nn.Tanh(), nn.Linear(8, 1)).double()
    assert error(Objective(critic, loss, (normal(16, 6, seed=1),))) < 1e-6


@pytest.mark.parametrize("loss", [squared, penalised])
@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)),
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
        ),
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.LayerNorm([4, 2, 2])),
        lambda: weight_norm(nn.Conv2d(2, 4, 3)),
        lambda: weight_norm(nn.ConvTranspose2d(2, 4, 3), dim=1),
        lambda: weight_norm(nn.Conv2d(2, 4, 3), dim=None),
    ],
)
def test_norms_of_maps_and_of_weights_have_the_right_hessian(layer, loss):
    torch.manual_seed(0)
    net = nn.Sequential(layer(), nn.Tanh(), nn.Flatten()).double()
    assert error(Objective(net, loss, (normal(5, 2, 4, 4, seed=1),))) < 1e-6


def test_plain_norms_give_the_values_and_the_running_statistics_of_torch():
    torch.manual_seed(0)
    x = 2 * torch.randn(6, 3, 4, 4) + 1
    for make in (
        lambda: nn.BatchNorm2d(3),
        lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
        lambda: nn.LayerNorm([3, 4, 4]),
        lambda: nn.BatchNorm2d(3, affine=False, track_running_stats=False),
    ):
        own, plain = make(), make()
        with twice_differentiable(plain):
            torch.testing.assert_close(plain(x), own(x))
            torch.testing.assert_close(plain.eval()(x), own.eval()(x))
        for name, value in own.named_buffers():
            torch.testing.assert_close(plain.get_buffer(name), value)


def test_a_loss_made_by_a_kernel_with_wrong_second_derivatives_is_refused():
    x = normal(16, 6)
    weighted = weight_norm(nn.Linear(6, 1)).double()
    with pytest.raises(RuntimeError, match=r"weight_norm are wrong.*twice_differentiable"):
        Hessian(squared(weighted, x), list(weighted.parameters()))
    critic = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 1)).double()
    Hessian(squared(critic, x), list(critic.parameters()))  # right without a penalty
    with pytest.raises(RuntimeError, match=r"layer norm .* are wrong.*twice_differentiable"):
        Hessian(penalised(critic, x), list(critic.parameters()))
    critic[1] = nn.BatchNorm1d(8).double()
    with pytest.raises(RuntimeError, match=r"batch norm in training mode .*twice_differentiable"):
        Hessian(penalised(critic, x), list(critic.parameters()))


class _ConstantSlope(torch.autograd.Function):
    """x^3 x[0], whose derivative forgets in a part that x[0] is a variable."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3 * x[0]

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        first = torch.zeros_like(x)
        first[0] = (g * x**3).sum()
        return g * 3 * x**2 * x[0].detach() + first


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_second_derivatives_that_are_not_symmetric_are_refused(dtype):
    w = normal(5).to(dtype).requires_grad_()
    v = normal(5, seed=4)
    hessian = Hessian(_ConstantSlope.apply(w).square().sum(), [w])
    with pytest.raises(RuntimeError, match="second derivatives of this loss are not symmetric"):
        hessian(v)
    assert Hessian((w**3 * w[0]).square().sum(), [w])(v).isfinite().all()


def test_rounding_alone_is_no_asymmetry():
    # Two terms of 1e5 leave a Hessian of 1e-2, of which float32 knows nothing but noise.
    a, b = normal(64, 64).float(), normal(64, 64, seed=1).float()
    w = normal(64, seed=2).float().requires_grad_()
    curved = 1e5 * (torch.tanh(a @ w) @ (b @ w))
    hessian = Hessian(curved - 1.00000005 * (1e5 * ((a @ w).tanh() * (b @ w)).sum()) + w.sin().sum(), [w])
    assert hessian(normal(64, seed=3)).isfinite().all()


def test_a_reentrant_checkpoint_is_refused():
    inner, outer = nn.Linear(3, 3), nn.Linear(3, 1)
    x = torch.randn(4, 3, requires_grad=True)

    def loss(reentrant: bool) -> Tensor:
        return outer(checkpoint(lambda t: inner(t).sin(), x, use_reentrant=reentrant)).square().mean()

    parameters = [*inner.parameters(), *outer.parameters()]
    with pytest.raises(ValueError, match="use_reentrant=False"):
        Hessian(loss(True), parameters)
    plain = outer(inner(x).sin()).square().mean()
    v = torch.ones(16)
    torch.testing.assert_close(Hessian(loss(False), parameters)(v), Hessian(plain, parameters)(v))


@pytest.mark.parametrize("seed", range(6))
def test_second_derivatives_of_which_only_rounding_is_left_are_not_refused(seed):
    """A network that is sure of every sample, its weights times 1,000: p (1 - p) is below 1e-16."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).double()
        x = torch.randn(40, 2, dtype=torch.float64)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1000.0)
    loss = nn.functional.cross_entropy(network(x), network(x).argmax(1))
    hessian = Hessian(loss, list(network.parameters()))
    assert hessian(torch.ones(hessian.size)).norm() < 1e-6
