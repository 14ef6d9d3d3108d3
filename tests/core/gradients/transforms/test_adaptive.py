"""Adaptive clipping against slow references in plain Python and float64."""

import math
import random
import statistics

import numpy as np
import pytest
import torch

from core.gradients import AGC, AdaGC, AutoClip, GradientView, ZClip


def view(gradients: list[torch.Tensor], weights: list[torch.Tensor] | None = None) -> GradientView:
    names = [f"layer{i}.weight" for i in range(len(gradients))]
    return GradientView(names, gradients if weights is None else weights, gradients)


def clipped_norms(transform, norms: list[float], state: dict | None = None) -> list[float]:
    """The joint norm that is left of each of a series of gradients with given norms."""
    state = {} if state is None else state
    left = []
    for norm in norms:
        gradients = view([torch.tensor([0.6, 0.0], dtype=torch.float64) * norm,
                          torch.tensor([[0.8]], dtype=torch.float64) * norm])  # fmt: skip
        transform(gradients, state)
        left.append(math.sqrt(sum(g.square().sum().item() for g in gradients.values)))
        assert gradients.norm.item() == pytest.approx(left[-1], rel=1e-9, nan_ok=True)
    return left


def spiky(count: int, seed: int = 0) -> list[float]:
    source = random.Random(seed)
    return [source.lognormvariate(0, 0.3) * (20 if source.random() < 0.08 else 1) for _ in range(count)]


def test_agc_scales_every_output_row_as_the_definition_in_float64():
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (5, 2, 3, 3), (6,), ()]
    weights = [torch.randn(s, generator=generator) for s in shapes]
    weights[0][1] = 0.0
    gradients = [torch.randn(s, generator=generator) * 0.05 for s in shapes]
    gradients[0][2] *= 1e-4
    expected = []
    for weight, gradient in zip(weights, gradients, strict=True):
        rows = range(len(weight)) if weight.ndim > 1 else [...]
        new = gradient.double()
        for row in rows:
            w, g = weight[row].double().norm().item(), gradient[row].double().norm().item()
            limit = 0.02 * max(w, 1e-2)
            if g > limit:
                new[row] *= limit / g
        expected.append(new)
    assert torch.equal(expected[0][2].float(), gradients[0][2])
    seen = view(gradients, weights)
    _ = seen.norms
    AGC(clipping=0.02, eps=1e-2)(seen, {})
    for ours, exact in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(seen.norms, view(gradients).norms, rtol=1e-6, atol=0)


def test_agc_leaves_out_what_a_pattern_names():
    gradients = [torch.ones(2, 2), torch.ones(2, 2)]
    AGC(exclude=("*1.weight",))(view(gradients, [torch.ones(2, 2), torch.ones(2, 2)]), {})
    assert torch.equal(gradients[1], torch.ones(2, 2))
    assert gradients[0].norm(dim=1).tolist() == pytest.approx([0.01 * 2**0.5] * 2)


def test_agc_holds_the_rows_of_a_sparse_embedding_gradient_against_their_own_weights():
    weight = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
    sparse = torch.sparse_coo_tensor([[1, 2]], [[30.0, 40.0], [0.0, 1e-3]], (3, 2)).coalesce()
    AGC(clipping=0.1)(view([sparse], [weight]), {})
    torch.testing.assert_close(sparse.to_dense(), torch.tensor([[0.0, 0.0], [0.3, 0.4], [0.0, 1e-3]]))


@pytest.mark.parametrize(("percentile", "window"), [(10.0, 1000), (50.0, 7), (100.0, 5), (33.3, 1)])
def test_autoclip_clips_to_numpys_percentile_of_the_window(percentile, window):
    norms = spiky(40)
    expected = [
        min(norm, float(np.percentile(norms[max(0, t + 1 - window) : t + 1], percentile)))
        for t, norm in enumerate(norms)
    ]
    assert clipped_norms(AutoClip(percentile=percentile, window=window), norms) == pytest.approx(expected)


def zclip_reference(norms, alpha, z_threshold, warmup_steps, max_norm):
    """Algorithm 1 of the paper, with floats and lists."""
    seen, mean, var, left = [], None, None, []
    for norm in norms:
        if not math.isfinite(norm):
            left.append(math.nan)
            continue
        target = norm
        if mean is None:
            seen.append(norm)
            if len(seen) == warmup_steps:
                mean, var = statistics.fmean(seen), statistics.pvariance(seen)
        else:
            z = (norm - mean) / (math.sqrt(var) + 1e-6)
            if z > z_threshold:
                target = mean + z_threshold * math.sqrt(var) / (z / z_threshold)
            mean = alpha * mean + (1 - alpha) * target
            var = alpha * var + (1 - alpha) * (target - mean) ** 2
        left.append(min(target, max_norm or math.inf))
    return left


@pytest.mark.parametrize("max_norm", [1.2, None])
@pytest.mark.parametrize("poison", [None, math.nan, math.inf])
def test_zclip_follows_the_paper_and_is_not_poisoned(max_norm, poison):
    norms = spiky(120)
    if poison is not None:
        norms[3] = norms[60] = norms[61] = poison
    options = {"alpha": 0.9, "z_threshold": 2.0, "warmup_steps": 10, "max_norm": max_norm}
    expected = zclip_reference(norms, **options)
    assert sum(e < n for e, n in zip(expected, norms, strict=True)) > 4
    finite = [i for i, e in enumerate(expected) if math.isfinite(e)]
    ours = clipped_norms(ZClip(**options), norms)
    assert [ours[i] for i in finite] == pytest.approx([expected[i] for i in finite], rel=1e-9)


def adagc_reference(series, lambda_rel, lambda_abs, beta, warmup_steps):
    """Algorithm 1 of the paper for the norms of several tensors."""
    gamma, left = [math.inf] * len(series[0]), []
    for t, norms in enumerate(series):
        if t < warmup_steps:
            joint = math.sqrt(sum(n * n for n in norms))
            new = [n * min(1.0, lambda_abs / joint) for n in norms]
            gamma = [min(g, n) for g, n in zip(gamma, new, strict=True)]
        else:
            new = [min(n, lambda_rel * g) for n, g in zip(norms, gamma, strict=True)]
            gamma = [beta * g + (1 - beta) * n for g, n in zip(gamma, new, strict=True)]
        left.append(new)
    return left


def test_adagc_follows_the_paper_for_every_tensor():
    series = list(zip(spiky(60, 1), spiky(60, 2), strict=True))
    options = {"lambda_rel": 1.1, "lambda_abs": 1.5, "beta": 0.9, "warmup_steps": 10}
    expected = adagc_reference(series, **options)
    transform, state = AdaGC(**options), {}
    for norms, left in zip(series, expected, strict=True):
        gradients = view([torch.tensor([[n * 0.6, n * 0.8]], dtype=torch.float64) for n in norms])
        transform(gradients, state)
        assert [g.norm().item() for g in gradients.values] == pytest.approx(left, rel=1e-9)
        assert gradients.norms.tolist() == pytest.approx(left, rel=1e-9)


def test_adagc_keeps_each_parameters_average_when_gradients_come_and_go():
    def step(state, **norms):
        gradients = [torch.tensor([n], dtype=torch.float64) for n in norms.values()]
        AdaGC(beta=0.5, lambda_rel=2.0, lambda_abs=100.0, warmup_steps=1)(
            GradientView(list(norms), gradients, gradients), state
        )
        return [g.item() for g in gradients]

    state = {}
    step(state, a=1.0, c=10.0)
    assert step(state, a=4.0, b=7.0, c=10.0) == [2.0, 7.0, 10.0]  # b is new: not clipped
    assert step(state, b=100.0) == pytest.approx([14.0])
    assert step(state, c=100.0, a=100.0) == pytest.approx([20.0, 3.0])  # a: 2 * (0.5 * 1 + 0.5 * 2)


def test_adagc_does_not_freeze_a_parameter_whose_gradient_was_zero_once():
    transform, state = AdaGC(warmup_steps=2, lambda_abs=10.0), {}
    for norm in (1.0, 0.0, 0.0, 1.0):
        gradient = torch.tensor([norm])
        transform(view([gradient]), state)
    assert gradient.item() == 1.0


@pytest.mark.parametrize("transform", [AutoClip(percentile=50), ZClip(warmup_steps=3), AdaGC(warmup_steps=3)])
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_non_finite_norm_leaves_the_history_as_it_was(transform, poison):
    norms = spiky(12)
    poisoned, clean = {}, {}
    with_holes = [*norms[:2], poison, *norms[2:7], poison, poison, *norms[7:]]
    left = clipped_norms(transform, with_holes, poisoned)
    assert [x for n, x in zip(with_holes, left, strict=True) if math.isfinite(n)] == clipped_norms(
        transform, norms, clean
    )
    for key, value in clean.items():
        if key == "names":
            assert poisoned[key] == value
            continue
        torch.testing.assert_close(poisoned[key], value, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("transform", [AutoClip(percentile=10), ZClip(warmup_steps=3, max_norm=None)])
def test_gradients_of_zero_are_let_pass_and_forgotten(transform):
    norms = spiky(30)
    with_zeros = [0.0] * 50 + norms[:10] + [0.0] * 20 + norms[10:]
    left = clipped_norms(transform, with_zeros)
    assert [x for n, x in zip(with_zeros, left, strict=True) if n] == clipped_norms(transform, norms)
    assert left[50] == pytest.approx(norms[0], rel=1e-12)


@pytest.mark.parametrize("jitter", [0.0, 1e-8])
def test_zclip_goes_on_from_norms_that_were_all_the_same(jitter):
    transform = ZClip(warmup_steps=5, max_norm=None)
    same = [1.0 + jitter * (i % 2) for i in range(40)]
    left = clipped_norms(transform, [*same, 3.0, 1.0, 100.0])
    assert left[:40] == pytest.approx(same, rel=1e-12)
    # The 3 enters as it is: m = 1 + 0.03 * 2, s^2 = 0.03 (3 - m)^2; then the 1.
    mean, var = 1.06, 0.03 * 1.94**2
    mean, var = mean - 0.03 * 0.06, 0.97 * var + 0.03 * (0.97 * 0.06) ** 2
    z = (100 - mean) / (var**0.5 + 1e-6)
    assert left[40:] == pytest.approx([3.0, 1.0, mean + 2.5**2 * var**0.5 / z], rel=1e-6)


def test_zclip_comes_up_to_a_level_that_lasts():
    state, transform = {}, ZClip(warmup_steps=25, max_norm=None)
    clipped_norms(transform, [1.0 + 0.1 * (i % 2) for i in range(100)], state)
    left = clipped_norms(transform, [50.0] * 3000, state)
    assert left[0] < 1.2
    assert left[-1] == 50.0
    assert state["mean"].item() == pytest.approx(50.0, rel=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AGC(clipping=0.0), "clipping must be a finite number > 0"),
        (lambda: AGC(clipping=math.nan), "clipping must be"),
        (lambda: AGC(eps=-1.0), "eps must be"),
        (lambda: AGC(exclude="value.*"), "exclude must be a list"),
        (lambda: AutoClip(percentile=0.0), r"percentile must be in \(0, 100\]"),
        (lambda: AutoClip(percentile=100.5), "percentile must be"),
        (lambda: AutoClip(percentile=math.nan), "percentile must be"),
        (lambda: AutoClip(window=0), "window must be an integer >= 1"),
        (lambda: ZClip(alpha=1.0), r"alpha must be in \[0, 1\)"),
        (lambda: ZClip(z_threshold=0.0), "z_threshold must be"),
        (lambda: ZClip(warmup_steps=0), "warmup_steps must be"),
        (lambda: ZClip(max_norm=0.0), "max_norm must be a finite number > 0 or null"),
        (lambda: ZClip(max_norm=math.nan), "max_norm must be"),
        (lambda: AdaGC(lambda_rel=0.0), "lambda_rel must be"),
        (lambda: AdaGC(lambda_abs=math.inf), "lambda_abs must be"),
        (lambda: AdaGC(beta=1.0), "beta must be"),
        (lambda: AdaGC(warmup_steps=0), "warmup_steps must be"),
    ],
)
def test_an_option_out_of_range_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
