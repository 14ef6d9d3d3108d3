"""Every number of the monitor against its definition in float64."""

import copy
import math

import pytest
import torch
from torch import nn

from core.gradients import GlobalNorm, GradientStep, MonitorConfig
from core.gradients.measure.effective_lr import effective_lrs
from core.gradients.measure.exponents import BINS, LOWEST, ZERO, count_exponents, histogram
from core.gradients.measure.monitor import RING


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


def test_weight_norms_and_the_cosine_with_the_update_are_those_of_the_sampled_steps():
    step, records = run(12)
    sampled = [records[t] for t in (4, 9)]
    tags = step.monitor.drain()
    norms = torch.stack([joint(r["weight"]).norm() for r in sampled])
    assert tags["gradient/weight_norm"] == pytest.approx(norms.mean().item(), rel=1e-5)
    cosines = [
        -torch.cosine_similarity(joint(r["gradient"]), joint(r["update"]), dim=0).item() for r in sampled
    ]
    assert tags["gradient/update_cosine"] == pytest.approx(sum(cosines) / 2, rel=1e-4)
    layer = [
        -torch.cosine_similarity(r["gradient"][0].flatten(), r["update"][0].flatten(), dim=0).item()
        for r in sampled
    ]
    assert tags["layer/0.weight/update_cosine"] == pytest.approx(sum(layer) / 2, rel=1e-4)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.03),
    "adam": lambda p: torch.optim.Adam(p, lr=0.03, fused=True),
    "amsgrad": lambda p: torch.optim.AdamW(p, lr=0.03, weight_decay=0.0, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.03, alpha=0.9),
    "centered": lambda p: torch.optim.RMSprop(p, lr=0.03, alpha=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.03),
    "decayed adagrad": lambda p: torch.optim.Adagrad(p, lr=0.03, lr_decay=0.5),
    "radam at first": lambda p: torch.optim.RAdam(p, lr=0.03),
    "radam one step later": lambda p: torch.optim.RAdam(p, lr=0.03),
    "radam rectified": lambda p: torch.optim.RAdam(p, lr=0.03, betas=(0.9, 0.8)),
}


# RAdam begins to rectify where rho_t > 5: rho_5 = 4.996 and rho_6 = 5.994 with beta2 = 0.999.
STEPS = {"radam at first": 5, "radam one step later": 6, "radam rectified": 12}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_effective_learning_rate_is_what_moves_a_constant_gradient(name):
    """Every component has the same gradient, so the mean inside the root changes nothing: Delta = -rate g."""
    p = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = OPTIMIZERS[name]([p])
    for _ in range(STEPS.get(name, 4)):
        before = p.detach().clone()
        p.grad = torch.full_like(p, 0.7)
        optimizer.step()
    rate = effective_lrs(optimizer, [p]).item()
    assert rate == pytest.approx(((before - p) / 0.7).mean().item(), rel=1e-6)


def test_the_effective_learning_rate_divides_by_the_largest_second_moment_so_far():
    """Gradients of 10 and then of 0.1: AMSGrad goes on dividing by what the first step left."""
    p = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = torch.optim.Adam([p], lr=0.03, amsgrad=True)
    square, largest = 0.0, 0.0
    for gradient in (10.0, 0.1, 0.1, 0.1, 0.1):
        p.grad = torch.full_like(p, gradient)
        optimizer.step()
        square = 0.999 * square + 0.001 * gradient**2
        largest = max(largest, square)
    assert square < 0.999 * largest
    expected = 0.03 / ((largest / (1 - 0.999**5)) ** 0.5 + 1e-8)
    assert effective_lrs(optimizer, [p]).item() == pytest.approx(expected, rel=1e-9)


def test_the_joint_effective_learning_rate_is_the_mean_over_all_elements():
    """Adam divides by gradients of 1 in three elements and of 0.1 in one; a fifth has none, and no rate."""
    a, b, c = (nn.Parameter(torch.ones(n, dtype=torch.float64)) for n in (3, 1, 1))
    step = GradientStep(
        [("a", a), ("b", b), ("c", c)],
        torch.optim.Adam([a, b, c], lr=0.03),
        monitor=MonitorConfig(sample_interval=2),
    )
    for _ in range(2):
        step(lambda: (a.sum() + 0.1 * b.sum(), {}))
    tags = step.monitor.drain()
    assert tags["layer/a/effective_lr"] == pytest.approx(0.03)
    assert tags["layer/b/effective_lr"] == pytest.approx(0.3, rel=1e-6)
    assert "layer/c/effective_lr" not in tags
    assert tags["gradient/effective_lr"] == pytest.approx((3 * 0.03 + 0.3) / 4, rel=1e-6)


def planted(*gradients: tuple[float | None, float | None], interval: int = 2):
    """What is measured of two parameters [1] with these gradients; None = it has none."""
    a, b = (nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2))
    step = GradientStep(
        [("a", a), ("b", b)],
        torch.optim.SGD([a, b], lr=0.01),
        monitor=MonitorConfig(sample_interval=interval),
    )
    for of_a, of_b in gradients:
        terms = [p * g for p, g in ((a, of_a), (b, of_b)) if g is not None]
        step(lambda terms=terms: (torch.cat(terms).sum(), {}))
    return step.monitor.drain()


def test_the_share_of_skipped_steps_and_the_means_of_the_others():
    tags = planted((3.0, 4.0), (math.nan, 1.0), (6.0, 8.0), (math.inf, math.nan), (0.0, 12.0))
    assert tags["gradient/skipped"] == pytest.approx(2 / 5)
    assert tags["gradient/norm"] == pytest.approx((5 + 10 + 12) / 3)
    assert tags["gradient/norm_clipped"] == pytest.approx((5 + 10 + 12) / 3)
    assert tags["layer/a/nonfinite"] == 1.0  # of the skipped steps
    assert tags["layer/b/nonfinite"] == 0.5


def test_a_missing_gradient_is_zero_in_the_joint_norm():
    tags = planted((3.0, None), (None, 4.0), (6.0, 8.0))
    assert tags["gradient/norm"] == pytest.approx((3 + 4 + 10) / 3)
    assert tags["layer/a/gradient_norm"] == pytest.approx((3 + 6) / 2)


@pytest.mark.parametrize(
    ("first", "second", "cosine"),
    [
        ((3.0, 4.0), (2.0, None), 3 / 5),
        ((3.0, None), (2.0, 1.0), 2 / 5**0.5),
        ((3.0, 4.0), (4.0, -2.0), 4 / (5 * 20**0.5)),
    ],
)
def test_a_missing_gradient_is_zero_in_the_joint_cosine(first, second, cosine):
    tags = planted((1.0, 1.0), first, second)  # sampled at every second step: the pair (2, 3)
    assert tags["gradient/cosine"] == pytest.approx(cosine)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.NAdam, torch.optim.RAdam])
def test_steps_that_are_counted_on_the_cpu_are_brought_to_the_parameters(kind):
    """The meta device refuses a CPU tensor beside its own as an accelerator does."""
    p = nn.Parameter(torch.zeros(3, device="meta"))
    optimizer = kind([p])
    moments = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
    optimizer.state[p] = {"step": torch.tensor(3.0), **moments}
    rates = effective_lrs(optimizer, [p])
    assert (rates.shape, rates.device.type) == ((1,), "meta")


def test_an_optimizer_without_known_denominators_has_no_effective_rate():
    p = nn.Parameter(torch.zeros(3))
    assert effective_lrs(torch.optim.Rprop([p]), [p]) is None
    assert effective_lrs(torch.optim.Adam([p]), [p]).isnan().all()


def test_the_noise_scale_of_consecutive_minibatches_is_that_of_their_distribution():
    """g = G + xi / sqrt(B) on a linear loss: |G|^2 = 4, tr Sigma = 50 per sample, B = 8."""
    generator = torch.Generator().manual_seed(0)
    p = nn.Parameter(torch.zeros(50))
    mean = torch.zeros(50)
    mean[0] = 2.0
    monitor = MonitorConfig(sample_interval=2)
    step = GradientStep([("p", p)], torch.optim.SGD([p], lr=0.1), monitor=monitor)
    for _ in range(4000):
        g = mean + torch.randn(50, generator=generator) / 8**0.5
        step(lambda g=g: (p @ g, {}), samples=8)
    signal, variance = step.noise_scale.noise
    # The average forgets with 0.99: it stands for about 200 pairs, of standard errors .23 and .52.
    assert signal.item() == pytest.approx(4.0, abs=0.7)
    assert variance.item() == pytest.approx(50.0, abs=1.6 * 2)
    assert step.monitor.drain()["gradient/noise_scale"] == pytest.approx((variance / signal).item())


def test_a_pair_of_unequal_batches_counts_with_the_sizes_that_it_had():
    """By the definition |g1 - g2|^2 / (1 / B1 + 1 / B2), averaged with weights 0.99 and 1."""
    p = nn.Parameter(torch.zeros(2))
    step = GradientStep([("p", p)], torch.optim.SGD([p], lr=0.0), monitor=MonitorConfig(sample_interval=2))
    gradients = torch.tensor(
        [[9.0, 9.0], [3.0, 1.0], [1.0, 2.0], [2.0, 2.0], [4.0, 1.0], [5.0, 5.0], [6.0, 6.0]]
    )
    sizes = [100, 8, 2, 16, 48, 5, None]  # pairs: steps 2 and 3, 4 and 5; of 6 and 7 one size is not known
    for g, samples in zip(gradients, sizes, strict=True):
        step(lambda g=g: (p @ g, {}), samples=samples)
    pairs = [(gradients[i], gradients[i + 1], sizes[i], sizes[i + 1]) for i in (1, 3)]
    variances = [((a - b).square().sum() / (1 / m + 1 / n)).item() for a, b, m, n in pairs]
    signals = [(a @ b).item() for a, b, _, _ in pairs]
    signal, variance = (x.item() for x in step.noise_scale.noise)
    assert variance == pytest.approx((0.99 * variances[0] + variances[1]) / 1.99)
    assert signal == pytest.approx((0.99 * signals[0] + signals[1]) / 1.99)


def test_a_half_filled_window_continues_to_the_bit():
    def train(steps, saved=None):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
        monitor = MonitorConfig(sample_interval=3, histogram_interval=4)
        step = GradientStep(net, torch.optim.Adam(net.parameters(), lr=0.01), monitor=monitor)
        first = 0
        if saved:
            net.load_state_dict(saved["net"])
            step.load_state_dict(saved["step"])
            first = saved["steps"]
        for i in range(first, steps):
            x = torch.randn(4, 3, generator=torch.Generator().manual_seed(i))
            step(lambda x=x: (net(x).square().mean(), {}), samples=4 + i % 2)
        return {"net": net.state_dict(), "step": step.state_dict(), "steps": steps}, step.monitor

    whole = train(RING + 20)[1]
    saved = train(RING - 30)[0]  # after a sampled step: the pair comes after the resumption
    continued = train(RING + 20, copy.deepcopy(saved))[1]
    assert continued.drain() == whole.drain()
    assert torch.equal(continued.exponents.take(), whole.exponents.take())


def test_exponents_are_counted_as_frexp_says():
    values = torch.tensor([1.0, -1.5, 2.0, 0.25, 3e-5, 0.0, float("nan"), float("inf"), 1e-30, 1e-42, -0.0])
    for dtype in (torch.float32, torch.float64):
        counts = count_exponents(values.to(dtype))
        filled = {LOWEST + i: n for i, n in enumerate(counts.tolist()) if n and i != ZERO}
        top = LOWEST + BINS - 1
        assert filled == {0: 2, 1: 1, -2: 1, -16: 1, top: 2, LOWEST: 2}
        assert counts[ZERO] == 2
    half = torch.tensor([1.0, 6e-8], dtype=torch.float16)  # the second is subnormal in float16: 2^-24
    assert count_exponents(half).nonzero().flatten().tolist() == [-24 - LOWEST, 0 - LOWEST]


def test_the_histogram_puts_every_magnitude_between_the_powers_of_two_around_it():
    values = [1.0, -1.5, 0.26, 3e-5, 700.0, 0.0]
    for value in values:
        edges, numbers = histogram(
            torch.stack([count_exponents(torch.tensor([value])), count_exponents(torch.ones(0))])
        )
        assert sum(numbers) == (value != 0)
        if value:
            (edge,) = (e for e, n in zip(edges, numbers, strict=True) if n)
            assert edge - 1 <= math.log2(abs(value)) < edge


def test_every_so_many_steps_all_components_are_counted():
    net = nn.Linear(3, 2)
    monitor = MonitorConfig(histogram_interval=2)
    step = GradientStep(net, torch.optim.SGD(net.parameters(), lr=0.1), monitor=monitor)
    for _ in range(5):
        step(lambda: (net(torch.ones(1, 3)).sum(), {}))
    counts = step.monitor.exponents.take()
    assert counts.sum(1).tolist() == [2 * 6, 2 * 2]
    assert counts[:, 0 - LOWEST].tolist() == [12, 4]  # every component is 1 = 2^0
    assert step.monitor.exponents.take() is None


@pytest.mark.parametrize(
    "bad", [{"sample_interval": 1}, {"histogram_interval": 1}, {"max_layer_scalars": -1}]
)
def test_intervals_out_of_range_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        MonitorConfig(**bad)
