"""Perturbed gradient descent: it leaves a saddle, and its noise is what the paper says."""

import io
import math

import pytest
import torch
from torch import nn

from core.descend.function_descent import FunctionDescent
from core.descend.functions import DoubleWell, Himmelblau, MonkeySaddle
from core.gradients import GradientStep
from core.optim.escape import PerturbedSGD, PerturbedSGDConfig, uniform_in_ball
from tests.thinned import thinned

OPTIONS = {"lr": 0.05, "radius": 1e-2, "threshold": 1e-3, "interval": 20, "seed": 1}


def double_well(p: torch.Tensor) -> torch.Tensor:
    """Minima at (-1, 0) and (1, 0), a saddle with eigenvalues -4 and 2 at (0, 0)."""
    return (p[0].square() - 1).square() + p[1].square()


def make(point: list[float], **options: object) -> tuple[nn.Parameter, GradientStep]:
    p = nn.Parameter(torch.tensor(point, dtype=torch.float64))
    optimizer = PerturbedSGD(PerturbedSGDConfig(**OPTIONS | options), [("p", p)])
    return p, GradientStep([("p", p)], optimizer)


@pytest.mark.parametrize("seed", range(5))
def test_it_escapes_the_saddle_where_gradient_descent_stays(seed):
    p, step = make([0.0, 0.0], seed=seed)
    for _ in range(150):
        step(lambda: (double_well(p), {}))
    assert abs(abs(p[0].item()) - 1) < 0.02
    assert abs(p[1].item()) < 0.02
    q = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    plain = GradientStep([("q", q)], torch.optim.SGD([q], lr=0.05))
    for _ in range(150):
        plain(lambda: (double_well(q), {}))
    assert torch.equal(q, torch.zeros(2, dtype=torch.float64))


def test_noise_comes_at_most_every_interval_plus_one_steps_and_only_where_the_gradient_is_small():
    flat, step = make([0.0, 0.0], lr=0.0, interval=3)
    moved = []
    for _ in range(10):
        before = flat.detach().clone()
        step(lambda: ((0 * flat).sum(), {}))
        moved.append(not torch.equal(flat, before))
    assert moved == [True, False, False, False, True, False, False, False, True, False]
    steep, step = make([0.0, 0.0], threshold=1.0)
    step(lambda: ((0.8 * steep).sum(), {}))  # |g| = 0.8 sqrt 2 > 1
    assert torch.equal(steep, torch.full((2,), -0.05 * 0.8, dtype=torch.float64))


@pytest.mark.parametrize("size", [1, 2, 10])
def test_the_noise_is_uniform_in_the_ball(size):
    """|xi|^d / r^d is uniform in [0, 1], and each coordinate has mean 0 and variance r^2 / (d + 2)."""
    generator = torch.Generator().manual_seed(5)
    like = [torch.zeros(size - size // 2, dtype=torch.float64), torch.zeros(size // 2, dtype=torch.float64)]
    draws = torch.stack([torch.cat(uniform_in_ball(like, 2.0, generator)) for _ in range(4000)])
    share = (draws.norm(dim=1) / 2.0) ** size
    assert share.max() <= 1
    assert share.mean().item() == pytest.approx(1 / 2, abs=4 / (12 * 4000) ** 0.5)
    assert (share < 0.25).double().mean().item() == pytest.approx(0.25, abs=0.03)
    sigma = (4 / (size + 2)) ** 0.5
    assert (draws.mean(0).abs() < 4 * sigma / 4000**0.5).all()
    assert draws.square().mean().item() == pytest.approx(sigma**2, rel=0.06)


def test_it_goes_on_from_a_saved_state_with_the_noise_that_would_have_come():
    whole, step = make([0.0, 0.0], interval=4)
    for _ in range(7):
        step(lambda: ((0 * whole).sum(), {}))
    file = io.BytesIO()
    torch.save(step.state_dict(), file)
    file.seek(0)
    resumed, other = make([0.0, 0.0], interval=4, seed=77)
    other.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        resumed.copy_(whole)
    before = whole.detach().clone()
    for _ in range(8):
        step(lambda: ((0 * whole).sum(), {}))
        other(lambda: ((0 * resumed).sum(), {}))
    assert torch.equal(whole, resumed)
    assert not torch.equal(whole, before)


def test_it_leaves_torchs_own_generator_alone():
    state = torch.get_rng_state()
    p, step = make([0.0, 0.0])
    step(lambda: (double_well(p), {}))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "bad"), [("lr", -0.1), ("radius", 0.0), ("threshold", 0.0), ("interval", 0), ("seed", -1)]
)
def test_options_out_of_range_are_refused_by_name(name, bad):
    with pytest.raises(ValueError, match=f"{name} must be"):
        PerturbedSGDConfig(**OPTIONS | {name: bad})


SADDLES = [
    (DoubleWell(), (0.0, 1.0), (0.0, 0.0), {(1.0, 0.0), (-1.0, 0.0)}),
    # Along the boundary between two basins, up to the point where it stops.
    (Himmelblau(), (3.38515418, 0.07385188), (3.38515418, 0.07385188), {(3.0, 2.0), (3.58443, -1.84813)}),
    (
        Himmelblau(),
        (-0.12796135, -1.95371498),
        (-0.12796135, -1.95371498),
        {(3.58443, -1.84813), (-3.77931, -3.28319)},
    ),
]


def descended(function, start, optimizer, steps: int) -> FunctionDescent:
    descent = FunctionDescent(function, start, torch.device("cpu"))
    step = GradientStep(descent.named, optimizer(descent.named))
    for _ in range(steps):
        step(descent.next())
    return descent


def plain(lr: float):
    return lambda named: torch.optim.SGD([p for _, p in named], lr=lr)


def perturbed(lr: float, seed: int):
    return lambda named: PerturbedSGD(PerturbedSGDConfig(**OPTIONS | {"lr": lr, "seed": seed}), named)


@pytest.mark.parametrize(("function", "start", "saddle", "minima"), thinned(SADDLES), ids=str)
def test_plain_descent_stops_on_a_strict_saddle_and_perturbed_descent_ends_in_a_minimum(
    function, start, saddle, minima
):
    lr, steps = (0.05, 300) if isinstance(function, DoubleWell) else (1e-3, 2)
    stopped = descended(function, start, plain(lr), steps)
    height, found = stopped.measure()
    assert found.kind == "saddle"
    assert stopped.x.tolist() == pytest.approx(saddle, abs=1e-6)
    ends = set()
    for seed in range(6):
        descent = descended(function, start, perturbed(lr, seed), 800)
        assert descent.measure()[0] < height - 0.5
        x = descent.x.tolist()
        end = min(minima, key=lambda m: math.dist(m, x))
        assert math.dist(end, x) < 0.05  # the noise comes again and again
        ends.add(end)
    assert ends == minima  # either side, by the noise


@pytest.mark.parametrize("seed", thinned(range(4)))
def test_perturbed_descent_falls_off_the_monkey_saddle_where_the_hessian_says_nothing(seed):
    """Plain descent creeps along the ridge towards the saddle, as 1 / (3 lr t), for ever."""
    function, lr = MonkeySaddle(), 0.05
    crept = descended(function, (1.0, 0.0), plain(lr), 600)
    assert crept.x[1] == 0.0
    assert crept.x[0].item() == pytest.approx(1 / (1 + 3 * lr * 600), rel=0.1)
    assert crept.measure()[0] > 0
    x = FunctionDescent(function, (1.0, 0.0), torch.device("cpu"))
    step = GradientStep(x.named, perturbed(lr, seed)(x.named))
    taken = 0
    while x.function(x.x).item() > -1 and taken < 3000:
        step(x.next())
        taken += 1
    assert taken < 2500  # and from there the fall is short
