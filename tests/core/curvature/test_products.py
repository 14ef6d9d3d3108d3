"""Products with curvature matrices against dense float64 matrices."""

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.autograd.functional import hessian
from torch.autograd.functional import jacobian as jacobian_of
from torch.func import functional_call
from torch.nn.functional import cross_entropy, kl_div, log_softmax, mse_loss, scaled_dot_product_attention

from core.curvature import Fisher, GaussNewton, Hessian


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def convolutional() -> nn.Module:
    torch.manual_seed(1)
    layers = [nn.Conv2d(1, 2, 3), nn.Softplus(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)]
    return nn.Sequential(*layers).double()


def batch(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    shape = (7, 5) if isinstance(module[0], nn.Linear) else (7, 1, 6, 6)
    return torch.randn(shape, dtype=torch.float64), torch.randint(3, (7,))


def flat_function(module, loss):
    """The loss as a function of one flat vector, and where it now stands."""
    shapes = {name: p.shape for name, p in module.named_parameters()}
    sizes = [s.numel() for s in shapes.values()]

    def function(vector):
        pieces = vector.split(sizes)
        tensors = {name: x.view(s) for (name, s), x in zip(shapes.items(), pieces, strict=True)}
        return loss(lambda x: functional_call(module, tensors, (x,)))

    return function, torch.cat([p.detach().flatten() for p in module.parameters()])


def columns(operator) -> torch.Tensor:
    return torch.stack([operator(e) for e in torch.eye(operator.size, dtype=torch.float64)], dim=1)


@pytest.mark.parametrize("make", [mlp, convolutional])
def test_hessian_products_are_those_of_the_dense_hessian_and_the_gradient_is_autograds(make):
    module = make()
    x, y = batch(module)
    function, point = flat_function(module, lambda forward: cross_entropy(forward(x), y))
    operator = Hessian(cross_entropy(module(x), y), list(module.parameters()))
    dense = hessian(function, point)
    torch.testing.assert_close(columns(operator), dense, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(operator.gradient, jacobian_of(function, point))
    assert not operator.gradient.requires_grad
    assert all(p.grad is None for p in module.parameters())


def test_the_hessian_of_rosenbrocks_function_at_its_minimum():
    x, y = (torch.ones((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    operator = Hessian((1 - x) ** 2 + 100 * (y - x * x) ** 2, [x, y])
    expected = torch.tensor([[802.0, -400.0], [-400.0, 200.0]], dtype=torch.float64)
    torch.testing.assert_close(columns(operator), expected)
    torch.testing.assert_close(operator.gradient, torch.zeros(2, dtype=torch.float64))


def test_parameters_that_the_loss_does_not_reach_or_in_which_it_is_linear_have_zero_rows():
    a, b, c = (torch.full((2,), 3.0, dtype=torch.float64, requires_grad=True) for _ in range(3))
    operator = Hessian((a**3).sum() + b.sum(), [a, b, c])
    expected = torch.diag(torch.tensor([18.0, 18, 0, 0, 0, 0], dtype=torch.float64))
    torch.testing.assert_close(columns(operator), expected)
    torch.testing.assert_close(operator.gradient, torch.tensor([27.0, 27, 1, 1, 0, 0], dtype=torch.float64))
    linear = Hessian(b.sum(), [a, b])
    assert linear(torch.ones(4)).tolist() == [0.0] * 4


def test_parameters_with_zero_rows_may_stand_in_front_of_the_others():
    a, b, c = (torch.full((2,), 3.0, dtype=torch.float64, requires_grad=True) for _ in range(3))
    operator = Hessian((a**3).sum() + b.sum(), [c, b, a])
    expected = torch.diag(torch.tensor([0.0, 0, 0, 0, 18, 18], dtype=torch.float64))
    torch.testing.assert_close(columns(operator), expected)


def test_mixed_dtypes_act_on_a_vector_of_the_promoted_one():
    a = torch.tensor([2.0], dtype=torch.bfloat16, requires_grad=True)
    b = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    operator = Hessian((a.double() * b * b).sum(), [a, b])
    assert operator.dtype == torch.float64
    torch.testing.assert_close(columns(operator), torch.tensor([[0.0, 6], [6, 4]], dtype=torch.float64))


def test_a_float32_product_is_right_to_a_millionth_of_the_largest_eigenvalue():
    module = mlp()
    x, y = batch(module)
    exact = Hessian(cross_entropy(module(x), y), list(module.parameters()))
    vector = torch.randn(exact.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    product, largest = exact(vector / vector.norm()), torch.linalg.eigvalsh(columns(exact)).abs().max()
    module.float()
    rounded = Hessian(cross_entropy(module(x.float()), y), list(module.parameters()))(vector / vector.norm())
    assert rounded.dtype == torch.float32
    assert (rounded - product).norm() < 1e-6 * largest


def test_gauss_newton_is_jt_h_j_and_equals_the_hessian_of_a_linear_network():
    module = mlp()
    x, y = batch(module)
    function, point = flat_function(module, lambda forward: forward(x))
    jacobian = jacobian_of(function, point).flatten(0, 1)  # [B C, d]
    outputs = module(x)
    curvature = hessian(lambda o: cross_entropy(o.view(7, 3), y), outputs.detach().flatten())
    operator = GaussNewton(outputs, lambda o: cross_entropy(o, y), list(module.parameters()))
    torch.testing.assert_close(columns(operator), jacobian.T @ curvature @ jacobian, rtol=1e-10, atol=1e-12)
    linear = nn.Linear(5, 3).double()
    parameters = list(linear.parameters())
    dense = columns(Hessian(cross_entropy(linear(x), y), parameters))
    matrix = columns(GaussNewton(linear(x), lambda o: cross_entropy(o, y), parameters))
    torch.testing.assert_close(matrix, dense, rtol=1e-10, atol=1e-12)


def test_gauss_newton_of_several_outputs_one_of_them_a_parameter():
    """As a Gaussian policy has them: the mean from a network, the log standard deviation a parameter."""
    linear, log_std = nn.Linear(2, 1).double(), nn.Parameter(torch.tensor([0.3], dtype=torch.float64))
    x = torch.randn(4, 2, dtype=torch.float64)
    parameters = [*linear.parameters(), log_std]

    def divergence(mean, log_std, new_mean, new_log_std):
        ratio = (2 * (log_std - new_log_std)).exp()
        distance = (mean - new_mean) ** 2 / (2 * new_log_std).exp()
        return 0.5 * (ratio + distance - 1 - ratio.log()).mean()

    operator = Fisher([linear(x), log_std], divergence, parameters)
    design = torch.cat([x, torch.ones(4, 1)], dim=1).double()
    expected = torch.zeros(4, 4, dtype=torch.float64)
    expected[:3, :3] = design.T @ design / 4 / torch.tensor(0.6).exp().double()
    expected[3, 3] = 2
    torch.testing.assert_close(columns(operator), expected, rtol=1e-6, atol=1e-9)


def test_the_fisher_matrix_is_the_expected_outer_product_of_the_models_own_scores():
    module = mlp()
    x, _ = batch(module)
    parameters = list(module.parameters())

    def kl(fixed, moving):
        return kl_div(
            log_softmax(moving, 1), log_softmax(fixed, 1), log_target=True, reduction="batchmean"
        )  # fmt: skip

    operator = Fisher(module(x), kl, parameters)
    expected = torch.zeros(operator.size, operator.size, dtype=torch.float64)
    log_prob = log_softmax(module(x), 1)
    for i in range(7):
        for c in range(3):
            score = torch.autograd.grad(log_prob[i, c], parameters, retain_graph=True)
            score = torch.cat([s.flatten() for s in score])
            expected += log_prob[i, c].exp().detach() * score[:, None] * score / 7
    torch.testing.assert_close(columns(operator), expected, rtol=1e-10, atol=1e-12)
    hessian_of_kl = Hessian(kl(module(x).detach(), module(x)), parameters)
    torch.testing.assert_close(columns(hessian_of_kl), expected, rtol=1e-10, atol=1e-12)


def test_a_loss_linear_in_the_outputs_has_no_gauss_newton_curvature():
    module = mlp()
    x, _ = batch(module)
    operator = GaussNewton(module(x), lambda o: o.mean(), list(module.parameters()))
    assert operator(torch.ones(operator.size)).abs().max() == 0


@pytest.mark.parametrize(
    ("loss", "parameters", "message"),
    [
        (lambda w: w * 2, lambda w: [w], r"a scalar loss, got one of shape \(3,\)"),
        (lambda w: w.detach().sum(), lambda w: [w], "depends on none of these parameters"),
        (lambda w: w.sum(), lambda w: [], "at least one parameter"),
        (lambda w: w.sum(), lambda w: [w, w], "each parameter once"),
        (lambda w: w.sum(), lambda w: [w, torch.zeros(1, dtype=torch.complex64)], "real floating parameters"),
        (lambda w: w.sum(), lambda w: [w, torch.zeros(1, device="meta")], "on one device"),
    ],
)
def test_what_has_no_hessian_is_refused(loss, parameters, message):
    w = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match=message):
        Hessian(loss(w), parameters(w))


def test_a_vector_of_another_length_is_refused():
    w = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match=r"shape \(3,\), got \(2,\)"):
        Hessian((w**3).sum(), [w])(torch.ones(2))


def test_sparse_gradients_are_refused():
    table = nn.Embedding(4, 2, sparse=True)
    with pytest.raises((ValueError, RuntimeError), match="sparse"):
        Hessian(table(torch.tensor([1])).square().sum(), [table.weight])


def test_a_freed_graph_and_moved_parameters_ask_for_a_fresh_loss():
    module = mlp()
    x, y = batch(module)
    parameters = list(module.parameters())
    loss = cross_entropy(module(x), y)
    loss.backward()
    with pytest.raises(RuntimeError, match="freed already: call with a fresh loss"):
        Hessian(loss, parameters)
    operator = Hessian(cross_entropy(module(x), y), parameters)
    torch.optim.SGD(parameters, lr=0.1).step()
    with pytest.raises(RuntimeError, match="have moved since the loss was made: call with a fresh loss"):
        operator(torch.ones(operator.size))


def test_kernels_without_a_second_derivative_say_what_to_do():
    query = torch.randn(1, 1, 4, 8, requires_grad=True)
    fused = scaled_dot_product_attention(query, query, query)
    with pytest.raises(RuntimeError, match=r"sdpa_kernel\(SDPBackend.MATH\)"):
        Hessian(fused.square().sum(), [query])(torch.ones(32))

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        @once_differentiable
        def backward(ctx, g):
            return 2 * ctx.saved_tensors[0] * g

    with pytest.raises(RuntimeError, match="once_differentiable"):
        Hessian(mse_loss(Once.apply(query), query.detach()), [query])
