"""`gradgan.penalties`: against closed forms, by finite differences, at zero gradient, and lazily."""

import pytest
import torch
from torch import Tensor, nn

from gradgan.penalties import R1, R1R2, R2, squared_gradient_norm

OPTIONS = {"gamma": 0.7, "final": 1.0, "interval": 1}


def batch(seed: int = 0, count: int = 6) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, generator=random, dtype=torch.float64).requires_grad_()


def test_a_linear_discriminator_has_the_squared_norm_of_its_weights() -> None:
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    x = batch()
    norm = squared_gradient_norm(x @ weight, x)
    (gradient,) = torch.autograd.grad(norm, weight)
    assert norm.item() == pytest.approx(5.25)
    assert gradient.tolist() == pytest.approx((2 * weight).tolist())


def test_a_quadratic_discriminator_has_the_mean_squared_norm_of_its_inputs() -> None:
    curvature = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    x = batch()
    norm = squared_gradient_norm(0.5 * curvature * x.square().sum(dim=1), x)
    mean_square = x.detach().square().sum(dim=1).mean().item()
    assert norm.item() == pytest.approx(1.5**2 * mean_square)
    (gradient,) = torch.autograd.grad(norm, curvature)
    assert gradient.item() == pytest.approx(2 * 1.5 * mean_square)


def test_images_are_one_vector_each() -> None:
    x = torch.ones(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert squared_gradient_norm(2 * x.sum(dim=(1, 2, 3)), x).item() == pytest.approx(4 * 48)


def test_r1_looks_at_real_samples_r2_at_fake_ones_and_both_add_up() -> None:
    real, fake = batch(1), batch(2)

    def penalty_of(cls: type[R1] | type[R2] | type[R1R2]) -> float:
        term, _ = cls(**OPTIONS)(real, real.square().sum(1), fake, (2 * fake).sum(1), progress=0.0)
        return term.item()

    r1 = 0.35 * 4 * real.detach().square().sum(1).mean().item()
    r2 = 0.35 * 12
    assert penalty_of(R1) == pytest.approx(r1)
    assert penalty_of(R2) == pytest.approx(r2)
    assert penalty_of(R1R2) == pytest.approx(r1 + r2)


def test_its_gradient_agrees_with_finite_differences_of_the_weights() -> None:
    network = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0)).double()
    random = torch.Generator().manual_seed(0)
    weights = tuple(
        (0.5 * torch.randn(p.shape, generator=random, dtype=torch.float64)).requires_grad_()
        for p in network.parameters()
    )
    real, fake = batch(1), batch(2)

    def term(*values: Tensor) -> Tensor:
        parameters = dict(zip(dict(network.named_parameters()), values, strict=True))
        real_logits, fake_logits = (
            torch.func.functional_call(network, parameters, (x,)) for x in (real, fake)
        )
        return R1R2(**OPTIONS)(real, real_logits, fake, fake_logits, progress=0.0)[0]

    assert torch.autograd.gradcheck(term, weights)


def test_a_zero_gradient_gives_zero_and_not_nan() -> None:
    network = nn.Linear(3, 1, dtype=torch.float64)
    nn.init.zeros_(network.weight)
    x = batch()
    norm = squared_gradient_norm(network(x).flatten(), x)
    (gradient,) = torch.autograd.grad(norm, network.weight)
    assert norm.item() == 0.0
    assert gradient.tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("interval", [1, 2, 16])
def test_a_lazy_penalty_has_the_same_mean_over_updates(interval: int) -> None:
    penalty = R1(gamma=0.7, final=1.0, interval=interval)
    x = batch()
    total = 0.0
    for update in range(64):
        if penalty.due(update):
            total += penalty(x, x.square().sum(1), x, x.sum(1), progress=0.0)[0].item()
    every = R1(**OPTIONS)(x, x.square().sum(1), x, x.sum(1), progress=0.0)[0].item()
    assert total / 64 == pytest.approx(every)


def test_its_strength_falls_along_half_a_cosine() -> None:
    penalty = R1(gamma=2.0, final=0.1, interval=1)
    assert [penalty.strength(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([2.0, 1.1, 0.2])


def test_it_reports_root_mean_square_norms_without_gamma() -> None:
    real, fake = batch(1), batch(2)
    _, metrics = R1R2(**OPTIONS)(real, (3 * real).sum(1), fake, fake.sum(1), progress=0.0)
    assert metrics["penalty/real_gradient"].item() == pytest.approx(27**0.5)
    assert metrics["penalty/fake_gradient"].item() == pytest.approx(3**0.5)


@pytest.mark.parametrize(
    ("name", "value"), [("gamma", -1.0), ("gamma", float("nan")), ("final", 1.5), ("interval", 0)]
)
def test_options_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        R1(**{**OPTIONS, name: value})
