"""Schedules at exact values, what they remember, and what they refuse to follow."""

import io
import math

import pytest
import torch
from torch import nn

from core.gradients import GradientStep, MonitorConfig
from core.optim.schedules import (
    Constant,
    Cosine,
    KLAdaptive,
    Linear,
    NoiseAdaptive,
    Schedule,
    ScheduledRate,
    Warmup,
    check_schedule,
)

KL = KLAdaptive(metric="policy/approx_kl", target=0.01, factor=1.5, smallest=0.1, largest=10.0)
NOISE = NoiseAdaptive(initial=0.1, exponent=1.0)


def kl(value: float) -> dict[str, torch.Tensor]:
    return {"policy/approx_kl": torch.tensor(value)}


def noise(scale: float, samples: int) -> dict[str, torch.Tensor]:
    return {"gradient/noise_scale": torch.tensor(scale), "gradient/samples": torch.tensor(samples)}


def scheduled(schedule: Schedule, lr: float = 1.0) -> ScheduledRate:
    p = nn.Parameter(torch.ones(2))
    step = GradientStep([("p", p)], torch.optim.SGD([p], lr=lr), monitor=MonitorConfig(sample_interval=2))
    return ScheduledRate(schedule, step)


@pytest.mark.parametrize("schedule", [Constant(), Linear(final=0.2), Cosine(final=0.2), KL])
def test_every_schedule_without_a_rise_begins_at_one(schedule):
    assert schedule(0.0) == 1.0


def test_linear_and_cosine_end_at_their_final_value_and_stay_there():
    for schedule in (Linear(final=0.25), Cosine(final=0.25)):
        assert schedule(1.0) == pytest.approx(0.25)
        assert schedule(1.5) == pytest.approx(0.25)


def test_cosine_follows_half_a_period():
    assert Cosine(final=0.0)(1 / 3) == pytest.approx((1 + math.cos(math.pi / 3)) / 2)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_a_final_value_outside_the_unit_interval_is_refused(bad):
    for kind in (Linear, Cosine):
        with pytest.raises(ValueError, match="final must be in"):
            kind(final=bad)


def test_warm_up_rises_to_one_and_then_runs_the_other_schedule_from_its_beginning():
    schedule = Warmup(share=0.2, initial=0.1, after=Linear(final=0.0))
    values = [schedule(progress) for progress in (0.0, 0.1, 0.2, 0.6, 1.0, 2.0)]
    assert values == pytest.approx([0.1, 0.55, 1.0, 0.5, 0.0, 0.0])
    for options in ({"share": 0.0}, {"share": 1.0}, {"initial": 1.1}, {"initial": -0.1}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be in"):
            Warmup(**{"share": 0.5, "initial": 0.0, "after": Constant()} | options)


def test_the_kl_moves_the_rate_by_its_factor_only_outside_of_the_band_and_within_the_bounds():
    state: dict = {}
    seen = [
        KL(0.0, metrics, state)
        for metrics in ({}, kl(0.021), kl(0.021), kl(0.019), kl(0.006), kl(math.nan), kl(0.004), kl(0.0))
    ]
    two = 1 / 1.5**2
    assert seen == pytest.approx([1, 1 / 1.5, two, two, two, two, two * 1.5, 1.0])
    for _ in range(20):
        highest = KL(0.0, kl(0.0), state)
    assert highest == 10.0
    for _ in range(40):
        lowest = KL(0.0, kl(1.0), state)
    assert lowest == 0.1


def test_the_noise_scale_sets_the_rate_of_equation_2_6_and_an_unknown_one_keeps_the_last():
    state: dict = {}
    seen = [
        NOISE(0.0, metrics, state)
        for metrics in ({}, noise(math.nan, 64), noise(192, 64), noise(math.nan, 64), noise(0, 64))
    ]
    assert seen == pytest.approx([0.1, 0.1, 1 / (1 + 192 / 64), 0.25, 1.0])
    root = NoiseAdaptive(initial=0.1, exponent=0.5)
    assert root(0.0, noise(192, 64), {}) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (KLAdaptive, vars(KL), {"target": 0.0}),
        (KLAdaptive, vars(KL), {"factor": 1.0}),
        (KLAdaptive, vars(KL), {"smallest": 1.1}),
        (KLAdaptive, vars(KL), {"largest": 0.9}),
        (NoiseAdaptive, {"initial": 0.1, "exponent": 1.0}, {"initial": 0.0}),
        (NoiseAdaptive, {"initial": 0.1, "exponent": 1.0}, {"exponent": 1.1}),
    ],
)
def test_options_out_of_range_are_refused_by_name(kind, good, bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
        kind(**good | bad)


def test_a_schedule_sets_each_groups_rate_in_proportion():
    a, b = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.02}])
    rate = ScheduledRate(Linear(final=0.0), GradientStep([("a", a), ("b", b)], optimizer))
    assert rate.set(0.25) == 0.75
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.075, 0.015])


def test_a_rate_follows_the_iteration_before_and_only_what_it_needs_is_kept():
    rate = scheduled(Warmup(share=0.5, initial=1.0, after=KL))
    assert rate.set(0.9) == 1.0
    rate.observe(kl(1.0) | {"loss/policy": torch.tensor(3.0)})
    assert list(rate.measured) == ["policy/approx_kl"]
    assert rate.set(0.9) == pytest.approx(1 / 1.5)
    assert rate.step.optimizer.param_groups[0]["lr"] == pytest.approx(1 / 1.5)


def test_a_rate_goes_on_from_a_saved_state_as_if_nothing_had_been():
    values = [0.03, 0.03, 0.001, 0.03]
    whole = scheduled(KL)
    expected = []
    for value in values:
        expected.append(whole.set(0.0))
        whole.observe(kl(value))
    first, second = scheduled(KL), scheduled(KL)
    seen = []
    for value in values[:2]:
        seen.append(first.set(0.0))
        first.observe(kl(value))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    for value in values[2:]:
        seen.append(second.set(0.0))
        second.observe(kl(value))
    assert seen == expected
    assert len(set(seen)) > 2


def test_the_noise_scale_comes_from_the_steps_own_monitor_in_the_unit_of_its_samples():
    """Two gradients with known signal and noise: |G|^2 = 2, and a tr(Sigma) of 32 samples' gradients."""
    rate = scheduled(NOISE, lr=0.0)
    (p,) = rate.step.parameters
    for i in range(4):
        direction = torch.tensor([2.0, 1.0]) if i % 2 else torch.tensor([1.0, 0.0])
        rate.step(lambda d=direction: ((p * d).sum(), {}), samples=32)
        rate.observe()
    # g1 . g2 = 2 and B |g1 - g2|^2 / 2 = 32, so B_noise / B = 16 / 32.
    assert rate.set(0.0) == pytest.approx(1 / 1.5)


def test_a_schedule_that_follows_what_is_not_measured_is_refused():
    for schedule in (KL, Warmup(share=0.1, initial=0.0, after=KL)):
        with pytest.raises(ValueError, match="follows policy/approx_kl, which this trainer does not measure"):
            check_schedule(schedule, measured=())
        check_schedule(schedule, measured=("policy/approx_kl",))
    for schedule in (Constant(), NOISE):
        check_schedule(schedule, measured=())


def test_rprop_which_sets_its_own_step_lengths_warns_of_a_schedule_that_moves_nothing(recwarn):
    def length(schedule: Schedule) -> float:
        p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        step = GradientStep([("p", p)], torch.optim.Rprop([p], lr=0.1))
        rate = ScheduledRate(schedule, step)
        for progress in (0.0, 0.5, 1.0):
            rate.set(progress)
            step(lambda: (p.sum(), {}))
        return p.item()

    constant = length(Constant())
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"^schedule: Linear has no effect, .*; use schedule=constant$"):
        assert length(Linear(final=0.0)) == constant  # what the warning says
    with pytest.warns(
        UserWarning, match=r"^schedule: Warmup scales the first step alone, by 0.5, because Rprop"
    ):
        # Its steps grow by 1.2 each, from 0.1 and from 0.05.
        assert length(Warmup(share=0.1, initial=0.5, after=Constant())) == pytest.approx(constant / 2)
    scheduled(Linear(final=0.0))
