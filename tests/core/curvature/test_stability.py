"""Stability thresholds against real optimizers on quadratics, and the quadratic model against the loss."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, RMSprop

from core.curvature import (
    Hessian,
    adam_threshold,
    along,
    momentum_threshold,
    stability,
    update_rule,
)

LR = 0.01


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def quadratic(eigenvalues: list[float]) -> tuple[nn.Parameter, nn.Parameter, torch.Tensor]:
    """Two parameters x and y and the matrix A, in a random basis, of the loss [x y] A [x y] / 2."""
    basis, _ = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), generator=rng()).double())
    matrix = basis @ torch.tensor(eigenvalues).double().diag() @ basis.T
    cut = len(eigenvalues) // 2
    x, y = torch.ones(cut).double(), torch.ones(len(eigenvalues) - cut).double()
    return nn.Parameter(x), nn.Parameter(y), matrix


def loss(x, y, matrix):
    z = torch.cat([x, y])
    return 0.5 * z @ matrix @ z


def freeze(optimizer, denominators: list[torch.Tensor]) -> None:
    """Give Adam or RMSprop a second moment that will not move, as if after very many steps."""
    for p, v in zip((p for g in optimizer.param_groups for p in g["params"]), denominators, strict=True):
        if isinstance(optimizer, RMSprop):
            state = {"square_avg": v.clone(), "momentum_buffer": torch.zeros_like(p)}
        else:
            state = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": v.clone()}
        optimizer.state[p] = state | {"step": torch.tensor(1e18)}


def build(name: str, x, y, decay: float = 0.0, second_lr: float = LR):
    groups = [{"params": [x], "weight_decay": decay}, {"params": [y], "lr": second_lr}]
    still = 1 - 2**-53  # the largest number below 1
    options = {
        "sgd": (SGD, {}),
        "momentum": (SGD, {"momentum": 0.9}),
        "dampened": (SGD, {"momentum": 0.9, "dampening": 0.5}),
        "nesterov": (SGD, {"momentum": 0.9, "nesterov": True}),
        "adam": (Adam, {"betas": (0.9, still), "eps": 1e-3}),
        "adamw": (AdamW, {"betas": (0.8, still), "weight_decay": 0.0}),
        "rmsprop": (RMSprop, {"alpha": still, "eps": 1e-3}),
        "rmsprop_momentum": (RMSprop, {"alpha": still, "momentum": 0.9}),
    }
    cls, keywords = options[name]
    optimizer = cls(groups, lr=LR, **keywords)
    if cls is not SGD:
        freeze(optimizer, [torch.linspace(0.5, 2, len(p)).double() for p in (x, y)])
    return optimizer


def scale_for(ratio: float, rule, matrix: torch.Tensor) -> float:
    """How often the matrix must be taken for this ratio, by bisection on the dense preconditioned matrix."""
    root = torch.as_tensor(rule.scale).sqrt() * torch.ones(len(matrix)).double()
    shift = (torch.as_tensor(rule.shift) * torch.ones(len(matrix)).double()).diag()
    low, high = 0.0, 1e6
    for _ in range(60):
        middle = (low + high) / 2
        largest = torch.linalg.eigvalsh(middle * root[:, None] * matrix * root + shift)[-1]
        low, high = (middle, high) if largest < ratio * rule.threshold else (low, middle)
    return high


def distance_after(steps: int, optimizer, x, y, matrix: torch.Tensor) -> float:
    """How far from the minimum at 0 real steps lead; they end when the point has clearly diverged."""
    squares = [state.get("exp_avg_sq", state.get("square_avg")) for state in optimizer.state.values()]
    frozen = [(square, square.clone()) for square in squares if square is not None]
    for _ in range(steps):
        gradient = matrix @ torch.cat([x, y]).detach()
        x.grad, y.grad = gradient.split([len(x), len(y)])
        optimizer.step()
        for square, before in frozen:
            square.copy_(before)
        distance = float(torch.cat([x, y]).detach().norm())
        if distance > 1e3:
            break
    return distance


@pytest.mark.parametrize("ratio", [0.99, 1.01])
@pytest.mark.parametrize(
    ("name", "decay", "second_lr"),
    [
        ("sgd", 0.0, LR),
        ("sgd", 7.0, LR),
        ("momentum", 0.0, LR),
        ("momentum", 7.0, 0.3 * LR),
        ("dampened", 0.0, LR),
        ("nesterov", 0.0, LR),
        ("nesterov", 7.0, 2 * LR),
        ("adam", 0.0, LR),
        ("adam", 50.0, 0.3 * LR),
        ("adamw", 0.0, LR),
        ("adamw", 50.0, 2 * LR),
        ("rmsprop", 7.0, LR),
        ("rmsprop_momentum", 0.0, 0.3 * LR),
    ],
)
def test_a_quadratic_converges_below_the_threshold_and_diverges_above_it(name, decay, second_lr, ratio):
    """The matrix is taken so often that the ratio is 0.99 or 1.01; then the real optimizer decides."""
    x, y, matrix = quadratic([0.2, 0.5, 0.9, 1.0, 3.0])
    optimizer = build(name, x, y, decay, second_lr)
    matrix = matrix * scale_for(ratio, update_rule(optimizer, [x, y]), matrix)
    found = stability(optimizer, Hessian(loss(x, y, matrix), [x, y]), rng())
    assert found.ratio == pytest.approx(ratio, rel=1e-9)
    distance = distance_after(700, optimizer, x, y, matrix)
    assert distance < 1e-2 if ratio < 1 else distance > 1e3


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (momentum_threshold(0.1), 20),
        (momentum_threshold(0.1, 0.9), 38),
        (momentum_threshold(0.1, 0.9, dampening=0.9), 380),
        (momentum_threshold(0.1, dampening=0.9), 20),
        (momentum_threshold(0.1, 0.9, nesterov=True), 38 / 2.8),
        (adam_threshold(0.1), 380),
        (adam_threshold(0.1, 0.0), 20),
    ],
)
def test_the_table_of_thresholds(threshold, expected):
    assert threshold == pytest.approx(expected)


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_adams_preconditioner_with_its_bias_corrections_is_the_one_torch_steps_with(steps, amsgrad):
    x, y, matrix = quadratic([0.3, 1.0, 4.0, 9.0])
    optimizer = Adam([x, y], lr=LR, betas=(0.9, 0.99), eps=1e-2, amsgrad=amsgrad)
    for step in range(steps):
        before = torch.cat([x, y]).detach().clone()
        optimizer.zero_grad()
        (loss(x, y, matrix) * (1.0 if step else 100.0)).backward()  # so that the largest square is the first
        optimizer.step()
    moved = torch.cat([x, y]).detach() - before
    average = torch.cat([optimizer.state[p]["exp_avg"] for p in (x, y)])
    rule = update_rule(optimizer, [x, y])
    torch.testing.assert_close(-rule.lr * rule.scale * average, moved)


@pytest.mark.parametrize("centered", [False, True])
def test_rmsprops_preconditioner_is_the_one_torch_steps_with(centered):
    x, y, matrix = quadratic([0.3, 1.0, 4.0, 9.0])
    optimizer = RMSprop([x, y], lr=LR, centered=centered)
    for _ in range(4):
        before = torch.cat([x, y]).detach().clone()
        optimizer.zero_grad()
        loss(x, y, matrix).backward()
        gradient = torch.cat([x.grad, y.grad])
        optimizer.step()
    rule = update_rule(optimizer, [x, y])
    torch.testing.assert_close(-rule.lr * rule.scale * gradient, torch.cat([x, y]).detach() - before)


def test_the_preconditioned_sharpness_is_the_largest_eigenvalue_of_the_inverse_times_the_hessian():
    x, y, matrix = quadratic([-2.0, 0.5, 1.0, 3.0])
    optimizer = Adam([{"params": [y], "lr": LR / 2}, {"params": [x]}], lr=LR, betas=(0.9, 0.95))
    loss(x, y, matrix).backward()
    optimizer.step()
    found = stability(optimizer, Hessian(loss(x, y, matrix), [x, y]), rng())
    v = torch.cat([optimizer.state[p]["exp_avg_sq"] for p in (x, y)]) / 0.05
    rates = torch.cat([torch.full_like(x, LR), torch.full_like(y, LR / 2)]).detach()
    inverse = rates / LR / (0.1 * (v.sqrt() + 1e-8))
    expected = torch.linalg.eigvals(inverse.diag() @ matrix).real.max()
    assert found.sharpness == pytest.approx(float(expected))
    assert found.threshold == pytest.approx(38 / LR)
    assert found.ratio == pytest.approx(float(expected) * LR / 38)
    assert found.reason == ""


def test_a_parameter_that_never_had_a_gradient_does_not_count():
    x, y, _ = quadratic([0.5, 1.0, 2.0, 3.0])
    optimizer = Adam([x, y], lr=LR)
    x.grad = torch.ones_like(x)
    optimizer.step()
    scale = update_rule(optimizer, [x, y]).scale
    assert scale[:2].min() > 0
    assert scale[2:].tolist() == [0.0, 0.0]


class Own(SGD):
    """A subclass may step in another way."""


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: torch.optim.NAdam(p), "no threshold is known for NAdam"),
        (lambda p: torch.optim.LBFGS(p), "no threshold is known for LBFGS"),
        (lambda p: Own(p, lr=0.1), "no threshold is known for Own"),
        (lambda p: SGD(p, lr=0.1, maximize=True), "maximize"),
        (lambda p: SGD(p, lr=0.0), "the learning rate is 0"),
        (lambda p: Adam(p), "Adam has not stepped yet"),
        (
            lambda p: SGD([{"params": p[:1], "momentum": 0.5}, {"params": p[1:]}], lr=0.1),
            "differ in momentum",
        ),
    ],
)
def test_an_unknown_threshold_is_none_with_the_reason_and_the_plain_sharpness(make, reason):
    x, y, matrix = quadratic([0.5, 1.0, 2.0, 3.0])
    found = stability(make([x, y]), Hessian(loss(x, y, matrix), [x, y]), rng())
    assert (found.threshold, found.ratio) == (None, None)
    assert reason in found.reason
    assert found.sharpness == pytest.approx(3.0)


def test_a_hessian_over_other_parameters_is_refused():
    x, y, matrix = quadratic([0.5, 1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="exactly the trainable parameters"):
        stability(SGD([x], lr=0.1), Hessian(loss(x, y, matrix), [x, y]), rng())
    with pytest.raises(ValueError, match="exactly the trainable parameters"):
        stability(SGD([x, y], lr=0.1), Hessian(loss(x, y, matrix), [x]), rng())


def test_the_quadratic_model_along_the_gradient_and_along_any_direction():
    x, y, matrix = quadratic([-1.0, 0.5, 2.0, 6.0])
    hessian = Hessian(loss(x, y, matrix), [x, y])
    z = torch.cat([x, y]).detach()
    gradient = matrix @ z
    downhill = along(hessian, -gradient)
    bend = gradient @ matrix @ gradient
    torch.testing.assert_close(downhill.curvature, bend / (gradient @ gradient))
    torch.testing.assert_close(downhill.newton_step, gradient @ gradient / bend)
    expected = -LR * gradient @ gradient + LR**2 / 2 * bend
    torch.testing.assert_close(downhill.change(LR), expected)
    direction = torch.randn(4, generator=rng()).double()
    moved = z + 0.3 * direction
    actual = 0.5 * moved @ matrix @ moved - 0.5 * z @ matrix @ z
    torch.testing.assert_close(along(hessian, direction).change(0.3), actual)
    best = along(hessian, -gradient * downhill.newton_step)
    assert float(best.change()) == pytest.approx(float(-0.5 * (gradient @ gradient) ** 2 / bend))


def test_where_the_curvature_is_negative_there_is_no_newton_step():
    x = torch.tensor([1.0], requires_grad=True)
    found = along(Hessian(-(x**2).sum(), [x]), torch.tensor([-1.0]))
    assert float(found.newton_step) == float("inf")
    assert float(found.curvature) == -2


def test_a_curvature_that_is_not_finite_is_an_error_of_that_name():
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(FloatingPointError, match="lanczos: the operator returned a non-finite number"):
        stability(SGD([x], lr=0.1), Hessian((x.abs() ** 1.5).sum(), [x]), rng())
