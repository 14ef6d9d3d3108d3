import math

import pytest
import torch
from torch import nn

from core.gradients import (
    GradientStep,
    NoiseEstimate,
    NoiseScale,
    Objective,
    noise_of_two_batch_sizes,
    noise_of_two_gradients,
    recommended_batch_size,
)
from core.noise import NoiseProbe, noise_statistics, per_sample_gradients

SIZE, DRAWS = 30, 20_000
GRADIENT = torch.linspace(-0.5, 1.0, SIZE, dtype=torch.float64)
DEVIATION = torch.linspace(0.2, 2.0, SIZE, dtype=torch.float64)
SIGNAL, VARIANCE = GRADIENT.square().sum().item(), DEVIATION.square().sum().item()


def mean_gradients(generator: torch.Generator, draws: int, batch: int) -> torch.Tensor:
    """Gradients of batches, [draws, SIZE], each the mean of `batch` Gaussian ones."""
    noise = torch.randn(draws, SIZE, generator=generator, dtype=torch.float64)
    return GRADIENT + DEVIATION * noise / batch**0.5


def assert_unbiased(estimates: torch.Tensor, truth: float) -> None:
    error = estimates.std() / len(estimates) ** 0.5
    assert abs(estimates.mean() - truth) < 3 * error
    assert 3 * error < 0.1 * truth  # the draws could tell a bias of a tenth


def test_two_batch_sizes_give_signal_and_variance_without_bias():
    small = mean_gradients(torch.Generator().manual_seed(0), DRAWS * 8, 8).view(DRAWS, 8, SIZE)
    norms, big = small.norm(dim=2), small.mean(1).norm(dim=1)
    found = [noise_of_two_batch_sizes(n, 8, b, 64) for n, b in zip(norms[:2000], big[:2000], strict=True)]
    assert_unbiased(torch.stack([noise.signal for noise in found]), SIGNAL)
    assert_unbiased(torch.stack([noise.variance for noise in found]), VARIANCE)


def test_two_gradients_of_one_batch_size_give_them_without_bias():
    generator = torch.Generator().manual_seed(1)
    first, second = (mean_gradients(generator, DRAWS, 16) for _ in range(2))
    noise = noise_of_two_gradients(first.norm(dim=1), second.norm(dim=1), (first * second).sum(1), 16)
    assert_unbiased(noise.signal, SIGNAL)
    assert_unbiased(noise.variance, VARIANCE)


def test_two_gradients_of_unequal_batch_sizes_give_them_without_bias():
    generator = torch.Generator().manual_seed(4)
    first, second = mean_gradients(generator, DRAWS, 64), mean_gradients(generator, DRAWS, 4)
    norms, dots = (first.norm(dim=1), second.norm(dim=1)), (first * second).sum(1)
    noise = noise_of_two_gradients(*norms, dots, 64, 4)
    assert_unbiased(noise.signal, SIGNAL)
    assert_unbiased(noise.variance, VARIANCE)
    exact = (first - second).square().sum(1) / (1 / 64 + 1 / 4)
    torch.testing.assert_close(noise.variance, exact)
    for sizes in ((0, 4), (4, 0)):
        with pytest.raises(ValueError, match="size must be an integer >= 1, got 0"):
            noise_of_two_gradients(*norms, dots, *sizes)


def noise_of_samples(gradients: torch.Tensor) -> NoiseEstimate:
    """The definition: tr(Sigma) = sum_i |g_i - g|^2 / (B - 1), |G|^2 = |g|^2 - tr(Sigma) / B; of [B, d]."""
    mean = gradients.mean(0)
    variance = (gradients - mean).square().sum() / (len(gradients) - 1)
    return NoiseEstimate(mean.square().sum() - variance / len(gradients), variance)


def test_both_ways_agree_with_the_definition_on_two_samples():
    a, b = mean_gradients(torch.Generator().manual_seed(3), 2, 1)
    big = ((a + b) / 2).norm()
    by_size = noise_of_two_batch_sizes(torch.stack([a.norm(), b.norm()]), 1, big, 2)
    by_dot = noise_of_two_gradients(a.norm(), b.norm(), a @ b, 1)
    exact = noise_of_samples(torch.stack([a, b]))
    torch.testing.assert_close(by_size, exact)
    torch.testing.assert_close(by_dot, exact)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(("signal", "variance"), [(0.0, 3.0), (-1.0, 3.0), (-1.0, -3.0), (1.0, -3.0)])
def test_a_wrong_sign_is_undetermined_and_never_a_batch_size(signal, variance):
    noise = NoiseEstimate(scalar(signal), scalar(variance))
    for value in (noise.scale, noise.signal_to_noise, recommended_batch_size(noise, 0.5)):
        assert math.isnan(value)
    averages = NoiseScale()
    assert averages.value() is None
    averages.update(noise)
    assert averages.value() is None


def test_the_batch_that_passes_the_norm_test():
    noise = NoiseEstimate(scalar(2.0), scalar(50.0))
    assert recommended_batch_size(noise) == noise.scale == 25.0
    assert recommended_batch_size(noise, 0.5) == 100.0


def test_averages_are_weighted_exponentially_and_then_divided():
    scale = NoiseScale(decay=0.9)
    signals, variances = [2.0, -1.0, 4.0], [10.0, 30.0, 20.0]
    for signal, variance in zip(signals, variances, strict=True):
        scale.update(NoiseEstimate(scalar(signal), scalar(variance)))
    weights = [0.81, 0.9, 1.0]
    mean = [sum(w * v for w, v in zip(weights, values, strict=True)) for values in (signals, variances)]
    assert scale.value() == pytest.approx(mean[1] / mean[0])
    assert scale.noise.variance.item() == pytest.approx(mean[1] / sum(weights))


def test_a_step_that_is_not_finite_leaves_the_average_alone():
    scale = NoiseScale()
    scale.update(NoiseEstimate(scalar(2.0), scalar(10.0)))
    scale.update(NoiseEstimate(scalar(math.nan), scalar(10.0)))
    scale.update(NoiseEstimate(scalar(1.0), scalar(math.inf)))
    assert scale.value() == pytest.approx(5.0)


def test_several_estimates_at_once_are_those_one_after_the_other():
    """The second is left out; of the others the last weighs most: 0.81, 0.9 and 1."""
    scale, signals, variances = NoiseScale(decay=0.9), [2.0, 9.0, -1.0, 4.0], [10.0, math.nan, 30.0, 20.0]
    scale.update(NoiseEstimate(torch.tensor(signals), torch.tensor(variances)))
    assert scale.noise.signal.item() == pytest.approx((0.81 * 2 - 0.9 + 4) / 2.71)
    assert scale.noise.variance.item() == pytest.approx((8.1 + 27 + 20) / 2.71)


def test_a_restored_average_goes_on_bit_for_bit():
    scale, restored = NoiseScale(), NoiseScale()
    scale.update(NoiseEstimate(scalar(2.0), scalar(10.0)))
    state = scale.state_dict()
    restored.load_state_dict(state)
    for one in (scale, restored):
        one.update(NoiseEstimate(scalar(3.0), scalar(7.0)))
    assert scale.value() == restored.value()
    assert state["averages"][0] == pytest.approx(0.02)  # the saved state did not move on


def regression(seed: int = 0, samples: int = 12) -> Objective:
    """A network with layers that have factors and one that has not, in float64."""
    generator = torch.Generator().manual_seed(seed)
    module = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 2)).double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    x, y = (torch.randn(samples, size, generator=generator, dtype=torch.float64) for size in (3, 2))
    return Objective(module, lambda forward, x, y: (forward(x) - y).square().mean(), (x, y))


def definition(objective: Objective) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the samples one by one, [B, d], and their mean."""
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(objective.on(sample), objective.parameters)])
        for sample in ([part[i : i + 1] for part in objective.batch] for i in range(objective.samples))
    ]
    return torch.stack(rows), torch.stack(rows).mean(0)


@pytest.mark.parametrize("chunk_size", [None, 5])
@pytest.mark.parametrize("from_gradients", [False, True])
def test_statistics_are_what_their_definitions_say(chunk_size, from_gradients):
    objective = regression()
    rows, mean = definition(objective)
    size, length = len(rows), mean.square().sum()
    source = per_sample_gradients(objective, chunk_size=chunk_size) if from_gradients else objective
    found = noise_statistics(source, chunk_size=chunk_size)
    variance = rows.var(0).sum()
    dots = rows @ mean
    across = rows - (dots / length)[:, None] * mean
    close = {"rtol": 1e-10, "atol": 0}
    assert found.samples == size
    torch.testing.assert_close(found.noise.variance, variance, **close)
    torch.testing.assert_close(found.noise.signal, length - variance / size, **close)
    torch.testing.assert_close(found.norm_test, (variance / size / length).sqrt(), **close)
    torch.testing.assert_close(found.inner_product_test, (dots.var() / size).sqrt() / length, **close)
    spread = across.square().sum() / (size - 1)
    torch.testing.assert_close(found.orthogonality_test, (spread / size / length).sqrt(), **close)
    parts = torch.split(mean.square() / rows.var(0), [p.numel() for p in objective.parameters])
    for ratio, part in zip(found.layer_signal_to_noise.values(), parts, strict=True):
        torch.testing.assert_close(ratio, part.mean() - 1 / size, rtol=1e-9, atol=0)


def test_signal_to_noise_leaves_dead_components_out():
    gradients = {"w": torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, 2.0]])}
    found = noise_statistics(gradients).layer_signal_to_noise["w"]
    assert found.item() == pytest.approx(4.0 / 2.0 - 1 / 2)


def test_equal_samples_have_no_noise():
    objective = regression()
    same = Objective(objective.module, objective.loss, [part[:1].repeat(4, 1) for part in objective.batch])
    found = noise_statistics(same)
    assert found.norm_test < 1e-6
    assert found.noise.scale < 1e-12


def test_one_sample_has_no_variance():
    objective = regression(samples=1)
    with pytest.raises(ValueError, match="samples must be at least 2"):
        noise_statistics(objective)


def dropout_objective(norm: bool) -> Objective:
    layers = [nn.Linear(4, 40), nn.LayerNorm(40) if norm else nn.Tanh(), nn.Dropout(0.5), nn.Linear(40, 1)]
    module = nn.Sequential(*layers).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) / 4)
    x = torch.randn(1, 4, generator=generator, dtype=torch.float64).repeat(600, 1)
    return Objective(module, lambda forward, x: forward(x).square().mean(), [x])


@pytest.mark.parametrize("norm", [False, True])
def test_dropout_counts_as_noise(norm):
    """Equal samples differ by their masks alone; both ways of computing see them."""
    objective = dropout_objective(norm)
    found = noise_statistics(objective, chunk_size=256)
    gradients = per_sample_gradients(objective).values()
    reference = noise_of_samples(torch.cat([g.flatten(1) for g in gradients], dim=1))
    assert found.noise.variance.item() == pytest.approx(reference.variance.item(), rel=0.2)
    assert found.noise.variance > 0.1 * found.noise.signal
    identity = (found.norm_test**2, found.inner_product_test**2 + found.orthogonality_test**2)
    torch.testing.assert_close(*identity)


def probed(probe: NoiseProbe, objective: Objective, seed: int = 0) -> dict[str, float]:
    step = GradientStep(objective.module, torch.optim.SGD(objective.module.parameters(), lr=0.1))
    return probe(objective, step, torch.Generator().manual_seed(seed))


def test_the_probe_returns_the_statistics_by_tag():
    objective = regression()
    found, tags = noise_statistics(objective), probed(NoiseProbe(theta=0.5), objective)
    assert tags["noise/norm_test"] == found.norm_test.item()
    assert tags["noise/inner_product_test"] == found.inner_product_test.item()
    assert tags["noise/orthogonality_test"] == found.orthogonality_test.item()
    assert tags["noise/noise_scale"] == pytest.approx(found.noise.scale.item())
    assert tags["noise/signal_to_noise"] == pytest.approx(1 / tags["noise/noise_scale"])
    assert tags["noise/recommended_batch"] == pytest.approx(4 * tags["noise/noise_scale"])
    for name, ratio in found.layer_signal_to_noise.items():
        assert tags.get(f"layer/{name}/signal_to_noise", -1) == (ratio.item() if ratio > 0 else -1)


def test_the_probe_changes_nothing():
    objective = regression()
    for p in objective.parameters:
        p.grad = torch.ones_like(p)
    before = [p.detach().clone() for p in objective.parameters]
    random = torch.get_rng_state()
    probed(NoiseProbe(max_samples=6), objective)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(before, objective.parameters, strict=True))
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in objective.parameters)


def test_the_probe_draws_as_many_samples_as_allowed_from_its_generator():
    objective = regression(samples=40)
    probe = NoiseProbe(max_samples=10)
    assert probed(probe, objective, 1) == probed(probe, objective, 1) != probed(probe, objective, 2)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))[:10]
    chosen = Objective(objective.module, objective.loss, [part[order] for part in objective.batch])
    assert probed(probe, objective, 1)["noise/norm_test"] == noise_statistics(chosen).norm_test.item()


def test_what_is_undetermined_is_left_out_of_the_tags():
    objective = regression()
    with torch.no_grad():
        objective.parameters[0].fill_(math.nan)
    assert probed(NoiseProbe(), objective) == {}


@pytest.mark.parametrize(
    ("option", "value"), [("interval", 0), ("max_samples", 1), ("chunk_size", 0), ("theta", 0.0)]
)
def test_options_out_of_range_are_refused_by_name(option, value):
    with pytest.raises(ValueError, match=f"{option} must be"):
        NoiseProbe(**{option: value})
